public import PostgreSQL
public import Vocabulary

/// The lines of a result that is being collected, in a temporary table until the transaction ends. The statements of
/// `ChunkLedger` that collect a result read this table.
public struct ScannedLines: Sendable {
  private let transaction: Transaction

  /// Creates the empty table.
  public init(on transaction: Transaction) async throws {
    self.transaction = transaction
    try await transaction.runScript(
      """
      CREATE TEMP TABLE lethe_scanned (
          line bigint NOT NULL, id bigint, reason lethe.reason, created_at timestamptz,
          redacted_at timestamptz, raw bytea, why text, in_chunk boolean
      ) ON COMMIT DROP
      """)
  }

  /// Starts a COPY that accepts `Rows`.
  public func beginCopy() async throws -> CopyIn {
    try await transaction.beginCopyIn(
      """
      COPY lethe_scanned (line, id, reason, created_at, redacted_at, raw, why, in_chunk)
      FROM STDIN (FORMAT binary)
      """)
  }

  /// Lines in the format of the COPY.
  public struct Rows {
    private var rows = BinaryRows()

    public init() {}

    public var isFull: Bool { rows.isFull }
    public mutating func take() -> [UInt8] { rows.take() }
    public mutating func takeLast() -> [UInt8] { rows.takeLast() }

    /// Appends a line that is an event of the chunk.
    public mutating func append(
      line: Int, eventOf id: Int64, reason: Reason, createdAt: Timestamp?, redactedAt: Timestamp?
    ) {
      rows.beginRow(columns: 8)
      rows.append(Int64(line))
      rows.append(id)
      rows.append(text: reason.rawValue)
      rows.append(createdAt?.microsecondsSince2000)
      rows.append(redactedAt?.microsecondsSince2000)
      for _ in 0..<3 { rows.appendNull() }
    }

    /// Appends a line that must not be applied.
    /// - Parameters:
    ///   - id: the line's ID. Nil if it has no readable ID.
    ///   - isInChunk: whether the ID is in the chunk. Nil if there is no ID.
    ///   - why: the reason, as ASCII text without control characters.
    public mutating func append(
      line: Int, raw: some Collection<UInt8>, id: Int64?, isInChunk: Bool?, why: String
    ) {
      rows.beginRow(columns: 8)
      rows.append(Int64(line))
      rows.append(id)
      for _ in 0..<3 { rows.appendNull() }
      rows.append(bytes: raw)
      rows.append(text: why)
      if let isInChunk { rows.append(bool: isInChunk) } else { rows.appendNull() }
    }

    /// Appends the bytes of an event line that contradicts another line.
    public mutating func append(line: Int, raw: some Collection<UInt8>) {
      rows.beginRow(columns: 2)
      rows.append(Int64(line))
      rows.append(bytes: raw)
    }
  }

  /// The numbers of the event lines whose IDs appear with more than one reason.
  public func contradictions(limit: Int) async throws -> Set<Int> {
    Set(
      try await transaction.query(
        """
        SELECT line FROM lethe_scanned WHERE why IS NULL AND id IN (
          SELECT id FROM lethe_scanned WHERE why IS NULL
          GROUP BY id HAVING count(DISTINCT reason) > 1)
        LIMIT \(literal: limit)
        """
      ).rows(as: Int.self))
  }

  /// Marks contradictory lines. They are not events, and must not be applied.
  /// - Parameter body: writes each line with `Rows.append(line:raw:)`.
  public func contradictionsFound(
    isolation: isolated (any Actor)? = #isolation, _ body: (CopyIn) async throws -> Void
  ) async throws {
    try await transaction.runScript(
      "CREATE TEMP TABLE lethe_contradicted (line bigint, raw bytea) ON COMMIT DROP")
    try await transaction.withCopyIn(
      "COPY lethe_contradicted (line, raw) FROM STDIN (FORMAT binary)",
      isolation: isolation, body)
    try await transaction.execute(
      """
      UPDATE lethe_scanned AS s
      SET why = 'the ID comes with different reasons', raw = c.raw, in_chunk = true
      FROM lethe_contradicted AS c WHERE c.line = s.line
      """)
  }
}
