public import Definitions
import Foundation
import PostgreSQL
import Vocabulary

/// An operator's decision that an open run adopts a newer definition. The decision is stored with the run,
/// and sealed.
extension RunLedger {
  /// A reason for which events of a dataset have been applied in a run.
  public struct AppliedReason: Sendable, Hashable {
    public let dataset: String
    /// The label of `lethe.reason`.
    public let reason: String

    public init(dataset: String, reason: String) {
      self.dataset = dataset
      self.reason = reason
    }
  }

  /// The reasons for which events of a run are completely or partly applied.
  public func appliedReasons(of runID: Int64) async throws -> Set<AppliedReason> {
    let rows = try await connection.query(
      """
      SELECT DISTINCT c.dataset, a.reason::text
      FROM lethe.chunk AS c, LATERAL (
        SELECT reason FROM lethe.change WHERE chunk_id = c.chunk_id
        UNION ALL
        SELECT reason FROM lethe.event
        WHERE chunk_id = c.chunk_id AND cause_id IS NULL AND superseded_by IS NULL
        UNION ALL
        SELECT reason FROM lethe.trace WHERE chunk_id = c.chunk_id
        UNION ALL
        SELECT reason FROM lethe.collected WHERE chunk_id = c.chunk_id AND changed IS NOT NULL
        UNION ALL
        SELECT reason FROM lethe.refusal WHERE chunk_id = c.chunk_id AND event -> 'changed' <> 'null'
      ) AS a
      WHERE c.run_id = \(runID)
      """
    ).rows(as: String.self, String.self)
    return Set(rows.map { AppliedReason(dataset: $0.0, reason: $0.1) })
  }

  /// The definition that an open run adopts.
  public struct Adoption: Sendable {
    let run: Run
    let definition: Definition
    let changes: [DefinitionDifference]

    public init(_ definition: Definition, by run: Run, changes: [DefinitionDifference]) {
      self.run = run
      self.definition = definition
      self.changes = changes
    }
  }

  /// Makes open runs continue with another definition. Changes all of the runs, or none.
  /// - Parameters:
  ///   - by: who decided it.
  ///   - note: why.
  /// - Returns: the numbers of the adoptions' records in the chain.
  public func adopt(_ adoptions: [Adoption], by: String, note: String?) async throws -> [Int64] {
    try await connection.withTransaction { transaction in
      var seals: [Int64] = []
      for adoption in adoptions {
        seals.append(try await Self.adopt(adoption, by, note, transaction))
      }
      return seals
    }
  }

  private static func adopt(
    _ adoption: Adoption, _ by: String, _ note: String?, _ transaction: Transaction
  ) async throws -> Int64 {
    let changes = Dictionary(
      uniqueKeysWithValues: adoption.changes.map { ($0.path, [$0.before?.text, $0.now?.text]) })
    let row = try await transaction.query(
      """
      WITH former AS (
        SELECT run_id, definition FROM lethe.run WHERE run_id = \(adoption.run.id)
          AND finished_at IS NULL FOR UPDATE
      ), changed AS (
        UPDATE lethe.run AS r SET definition = \(try json(adoption.definition))::jsonb FROM former
          WHERE r.run_id = former.run_id
        RETURNING r.run_id, r.definition
      )
      INSERT INTO lethe.adoption
        (run_id, changes, sha256_before, sha256_after, stopped, adopted_by, note)
      SELECT run_id, \(try json(changes))::jsonb, sha256(convert_to(f.definition::text, 'UTF8')),
             sha256(convert_to(n.definition::text, 'UTF8')),
             ARRAY(SELECT chunk_id FROM lethe.chunk AS c
                   WHERE c.run_id = f.run_id AND stopped_reason IS NOT NULL ORDER BY chunk_id),
                     \(by), \(note)
      FROM former AS f JOIN changed AS n USING (run_id)
      RETURNING adoption_id
      """
    ).firstRow(as: Int64.self)
    guard let id = row else { throw LedgerError.leaseLost("run \(adoption.run.id)") }
    return try await transaction.query(
      """
      UPDATE lethe.adoption
      SET seal_number = lethe.seal('adoption', NULL, NULL, lethe.adoption_content(adoption_id))
      WHERE adoption_id = \(id) RETURNING seal_number
      """
    ).onlyRow(as: Int64.self)
  }

  static func json(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }
}

extension ChunkLedger {
  /// The limit that stopped the chunk before its run adopted another definition. The chunk waits for an operator,
  /// even if the new limits allow it.
  public func stopBeforeAdoption(of chunk: Chunk) async throws -> String? {
    try await connection.query(
      """
      SELECT c.stopped_reason FROM lethe.chunk AS c
      WHERE c.chunk_id = \(chunk.id) AND c.stopped_reason IS NOT NULL AND c.approved_at IS NULL
        AND EXISTS (SELECT FROM lethe.adoption AS a WHERE a.run_id = c.run_id AND c.chunk_id = ANY (a.stopped))
      """
    ).firstRow(as: String.self)
  }
}
