import Foundation
public import PostgreSQL
public import Vocabulary

/// What a chunk's answers would do to holds.
extension ChunkLedger {
  /// SQL: the holders `r` that the answers `s` of a chunk release now.
  private static func released(by chunkID: SQL) -> SQL {
    """
    FROM lethe.chunk AS c JOIN lethe.job AS j ON j.chunk_id = c.chunk_id AND j.result_sha256 IS NOT NULL
    JOIN lethe.collected AS s ON s.chunk_id = c.chunk_id AND s.restores AND s.superseded_by IS NULL
    JOIN lethe.holder AS r ON r.type = c.type AND r.id = s.id AND r.asked_at < j.asked_at
    WHERE c.chunk_id = \(chunkID)
    """
  }

  /// The number of holders that the chunk's answers release, for the IDs above `after`, up to and including `through`.
  /// Stops counting at `holdersMax`.
  /// - Parameter reasons: the reasons for which the dataset protects rows. Events with these reasons release no ID.
  public func releasedHolders(
    after: Int64, through: Int64, of chunk: Chunk, excluding reasons: [String],
    atMost holdersMax: Int, on session: some Session
  ) async throws -> Int {
    try await session.query(
      """
      SELECT count(*) FROM (
        SELECT \(Self.released(by: "\(chunk.id)")) AND s.id > \(after) AND s.id <= \(through)
          AND NOT s.reason = ANY (\(reasons)::lethe.reason[]) LIMIT \(holdersMax)) AS released
      """
    ).onlyRow(as: Int.self)
  }

  /// How many IDs a chunk would release, and how many rows it would restore.
  public struct RestoreExtent: Sendable, Equatable {
    /// The number of IDs in the chunk's key range that hold rows, or that an earlier version protected without holds.
    public let holdingIDs: Int
    /// The number of these IDs that the chunk's answers release.
    public let releasedIDs: Int
    /// The number of rows that would have no holder left.
    public let rows: Int
    /// The number of rows that the run has already restored. Chunks that an operator has approved do not count.
    public let rowsBefore: Int

    public init(holdingIDs: Int, releasedIDs: Int, rows: Int, rowsBefore: Int) {
      self.holdingIDs = holdingIDs
      self.releasedIDs = releasedIDs
      self.rows = rows
      self.rowsBefore = rowsBefore
    }
  }

  /// The number of IDs that the chunk's answers would release, and of the rows that they would restore.
  /// - Parameter reasons: the reasons for which the dataset protects rows. Events with these reasons release
  ///   no ID.
  /// - Returns: nil if the chunk releases no ID.
  public func restoreExtent(
    of chunk: Chunk, excluding reasons: [String]
  ) async throws -> RestoreExtent? {
    // IDs that an earlier version protected without holds count, too. Their rows are unknown.
    let chunkID: SQL = "\(chunk.id)"
    let range: SQL = "BETWEEN \(chunk.firstID) AND \(chunk.lastID)"
    let protected: SQL = """
      FROM lethe.protection AS p
      WHERE p.pipeline = \(chunk.pipeline) AND p.dataset = \(chunk.dataset) AND p.id \(range)
      """
    let isReleasing: SQL = "NOT s.reason = ANY (\(reasons)::lethe.reason[])"
    let releasedIDs = try await connection.run(
      """
      SELECT count(*) FROM (
        SELECT s.id \(Self.released(by: chunkID)) AND \(isReleasing)
        UNION
        SELECT p.id \(protected)
          AND EXISTS (SELECT FROM lethe.collected AS s
                      WHERE s.chunk_id = \(chunkID) AND s.id = p.id AND s.restores
                        AND s.superseded_by IS NULL
                        AND \(isReleasing))
      ) AS released
      """
    ).onlyRow(as: Int.self)
    guard releasedIDs > 0 else { return nil }
    let (holdingIDs, rows, rowsBefore) = try await connection.run(
      """
      WITH released AS MATERIALIZED (
        SELECT DISTINCT r.hold_id, s.id \(Self.released(by: chunkID)) AND \(isReleasing))
      SELECT (SELECT count(*) FROM (
                SELECT r.id FROM lethe.holder AS r JOIN lethe.chunk AS c ON c.type = r.type
                WHERE c.chunk_id = \(chunkID) AND r.id \(range)
                UNION
                SELECT p.id \(protected)) AS holding),
             (SELECT count(*) FROM (SELECT hold_id, count(*) AS ids FROM released GROUP BY hold_id) AS x
              WHERE x.ids = (SELECT count(*) FROM lethe.holder AS o WHERE o.hold_id = x.hold_id)),
             (SELECT coalesce(sum(h.rows), 0)::bigint
              FROM lethe.change AS h JOIN lethe.chunk AS o USING (chunk_id)
              WHERE o.run_id = (SELECT run_id FROM lethe.chunk WHERE chunk_id = \(chunkID))
                AND h.action = 'restore' AND o.approved_at IS NULL)
      """
    ).onlyRow(as: Int.self, Int.self, Int.self)
    return RestoreExtent(
      holdingIDs: holdingIDs, releasedIDs: releasedIDs, rows: rows, rowsBefore: rowsBefore)
  }
}

/// The holds, for operators.
public struct HoldLedger: Sendable {
  private let connection: Connection

  public init(connection: Connection) {
    self.connection = connection
  }

  /// A row that Lethe hides. Its former values are not shown, because they can contain content of posts.
  public struct Hold: Sendable, Equatable {
    public let holdID: Int64
    public let table: String
    /// The row's key as JSON: `{"post_id": "5"}`.
    public let key: String
    public let columns: [String]
    public let heldAt: String
    public var holders: [Holder]
  }

  public struct Holder: Sendable, Equatable {
    public let type: JobType
    public let id: Int64
    public let columns: [String]
    public let pipeline: String
    public let dataset: String
    public let jobID: Int64
    public let askedAt: String
  }

  /// Which holds to list. A property that is nil does not filter.
  public struct Filter: Sendable {
    public var table: String?
    public var type: JobType?
    /// Holds of this ID, and the hold of the row that has this ID.
    public var id: Int64?
    public var pipeline: String?

    public init(
      table: String? = nil, type: JobType? = nil, id: Int64? = nil, pipeline: String? = nil
    ) {
      (self.table, self.type, self.id, self.pipeline) = (table, type, id, pipeline)
    }
  }

  /// The holds after the hold with the number `after`, in the order of their creation.
  public func holds(_ filter: Filter, after: Int64, limit: Int) async throws -> [Hold] {
    let rows = try await connection.query(
      """
      SELECT h.hold_id, h.table_name, h.row_key::text, pg_catalog.array_to_string(ARRAY (
               SELECT c FROM jsonb_object_keys(h.set_to) AS c ORDER BY c), E'\\n') AS columns,
             \(SQL.utc("h.held_at", .microseconds)) AS held_at, r.type::text, r.id,
             pg_catalog.array_to_string(r.columns, E'\\n') AS columns_of_holder,
             r.pipeline, r.dataset, r.job_id, \(SQL.utc("r.asked_at", .microseconds)) AS asked_at
      FROM (
        SELECT * FROM lethe.hold AS h
        WHERE h.hold_id > \(after) AND (\(filter.table)::text IS NULL
          OR h.table_name = \(filter.table)::text)
          AND (\(filter.id)::bigint IS NULL OR EXISTS (
                 SELECT FROM lethe.holder AS r
                 WHERE r.hold_id = h.hold_id AND r.id = \(filter.id)::bigint
                   AND (\(filter.type?.rawValue)::text IS NULL
                     OR r.type = \(filter.type?.rawValue)::lethe.job_type))
               OR h.row_id = \(filter.id)::bigint AND (\(filter.type?.rawValue)::text IS NULL
                 OR h.row_type = \(filter.type?.rawValue)::lethe.job_type))
          AND (\(filter.id)::bigint IS NOT NULL OR \(filter.type?.rawValue)::text IS NULL OR EXISTS (
                 SELECT FROM lethe.holder AS r
                 WHERE r.hold_id = h.hold_id AND r.type = \(filter.type?.rawValue)::lethe.job_type))
          AND (\(filter.pipeline)::text IS NULL OR EXISTS (
                 SELECT FROM lethe.holder AS r WHERE r.hold_id = h.hold_id
                   AND r.pipeline = \(filter.pipeline)::text))
        ORDER BY h.hold_id LIMIT \(limit)
      ) AS h LEFT JOIN lethe.holder AS r USING (hold_id)
      ORDER BY h.hold_id, r.type, r.id
      """
    ).rows
    var holds: [Hold] = []
    for row in rows {
      let holdID = try row.decode(Int64.self, "hold_id")
      if holds.last?.holdID != holdID {
        holds.append(
          try Hold(
            holdID: holdID, table: row["table_name"], key: row["row_key"],
            columns: Self.lines(row["columns"]), heldAt: row["held_at"], holders: []))
      }
      guard let type = try row.decode(JobType?.self, "type") else { continue }
      holds[holds.count - 1].holders.append(
        try Holder(
          type: type, id: row["id"], columns: Self.lines(row["columns_of_holder"]),
          pipeline: row["pipeline"], dataset: row["dataset"], jobID: row["job_id"],
          askedAt: row["asked_at"]))
    }
    return holds
  }

  private static func lines(_ text: String) -> [String] {
    text.split(separator: "\n").map(String.init)
  }

  /// The number of held rows, of the IDs that hold them, and of the protections that an earlier version made without
  /// holds: one for each pipeline, dataset and ID. The rows of these protections are unknown.
  public struct Counts: Sendable, Equatable {
    public let holds: Int
    public let holders: Int
    public let protections: Int
  }

  public func counts() async throws -> Counts {
    let row = try await connection.query(
      """
      SELECT (SELECT count(*) FROM lethe.hold),
             (SELECT count(*) FROM (SELECT DISTINCT type, id FROM lethe.holder) AS h),
             (SELECT count(*) FROM lethe.protection)
      """
    ).onlyRow(as: Int.self, Int.self, Int.self)
    return Counts(holds: row.0, holders: row.1, protections: row.2)
  }

  /// Those of the given IDs that have `protected` as their newest answer.
  public func stillProtected(type: JobType, ids: [Int64]) async throws -> [Int64] {
    try await connection.query(
      """
      SELECT named.id FROM pg_catalog.unnest(\(ids)::bigint[]) AS named (id)
      WHERE 'protected' = (
        SELECT reason FROM (
          SELECT e.reason::text, j.asked_at FROM lethe.event AS e JOIN lethe.job AS j USING (job_id)
          WHERE e.id = named.id AND e.type = \(type.rawValue)::lethe.job_type AND e.cause_id IS NULL
          UNION ALL
          SELECT t.reason::text, j.asked_at FROM lethe.trace AS t JOIN lethe.job AS j USING (job_id)
          WHERE t.type = \(type.rawValue)::lethe.job_type AND \(PastEvents.contains("named.id", trace: "t"))
          UNION ALL
          SELECT s.reason::text, j.asked_at
          FROM lethe.collected AS s JOIN lethe.chunk AS c USING (chunk_id)
          JOIN lethe.job AS j ON j.chunk_id = c.chunk_id AND j.result_sha256 IS NOT NULL
          WHERE s.id = named.id AND c.type = \(type.rawValue)::lethe.job_type
          UNION ALL
          SELECT f.reason::text, j.asked_at
          FROM lethe.refusal AS f JOIN lethe.chunk AS c USING (chunk_id)
          JOIN lethe.job AS j ON j.chunk_id = c.chunk_id AND j.result_sha256 IS NOT NULL
          WHERE f.id = named.id AND c.type = \(type.rawValue)::lethe.job_type
        ) AS answer ORDER BY asked_at DESC LIMIT 1)
      ORDER BY named.id
      """
    ).rows(as: Int64.self)
  }

  /// Removes the protections that an earlier version made without holds. Their rows stay hidden.
  /// - Returns: the number of removed protections.
  public func forgetProtections(
    type: JobType, ids: [Int64], on transaction: Transaction
  ) async throws -> Int {
    try await transaction.execute(
      """
      DELETE FROM lethe.protection AS p USING lethe.chunk AS c
      WHERE c.chunk_id = p.chunk_id AND c.type = \(type.rawValue)::lethe.job_type
        AND p.id = ANY (\(ids)::bigint[])
      """)
  }

  /// The content of the chain's record about an operator's release.
  public struct SealedRelease: Sendable, Encodable {
    let type: String
    let ids: [Int64]
    let keepsHidden: Bool
    let by: String
    let note: String
    /// The number of rows that have their former values again.
    let restored: Int
    /// The number of rows that stay hidden without a hold, plus the number of removed protections.
    let forgotten: Int

    public init(
      type: JobType, ids: [Int64], keepsHidden: Bool, by: String, note: String, restored: Int,
      forgotten: Int
    ) {
      self.type = type.rawValue
      self.ids = ids
      self.keepsHidden = keepsHidden
      self.by = by
      self.note = note
      self.restored = restored
      self.forgotten = forgotten
    }

    enum CodingKeys: String, CodingKey {
      case type, ids, forgotten
      case restored = "opened"
      case keepsHidden = "keep_hidden"
    }
  }

  public func seal(release: SealedRelease, on transaction: Transaction) async throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let content = String(decoding: try encoder.encode(release), as: UTF8.self)
    try await transaction.execute(
      """
      SELECT lethe.seal('release', NULL, NULL,
                        (\(content)::jsonb || pg_catalog.jsonb_build_object('by',
                          \(prose: release.by)::text, 'note', \(prose: release.note)::text))::text)
      """)
  }
}
