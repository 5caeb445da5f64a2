import Foundation
import PostgreSQL
import Vocabulary

/// Checks the records of adopted definitions, and reads them.
extension ChainVerifier {
  /// Checks that the adoption, with the name of the operator, is unchanged since it was sealed.
  mutating func verifyAdoption(_ record: Record) async throws {
    guard case .number(let number)? = Self.values(record.content)?["adoption_id"] else {
      result.addFault(
        "lethe.seal", record.key, "its content is not the content of an adoption",
        writtenAt: record.sealedAt)
      return
    }
    let id = NSDecimalNumber(decimal: number).int64Value
    let now = try await session.query("SELECT lethe.adoption_content(\(id))")
      .onlyRow(as: String?.self)
    guard now != record.content else { return }
    result.addFault(
      "lethe.adoption", "adoption_id = \(id)",
      now == nil
        ? "the adoption of record \(record.number) is missing"
        : "it differs from what record \(record.number) sealed",
      writtenAt: record.sealedAt)
  }

  /// Checks that each adoption has a record in the chain, and that each run still has the definition that it adopted
  /// last.
  mutating func requireSealOfEachAdoption() async throws {
    let unsealed = try await session.query(
      """
      SELECT a.adoption_id, \(SQL.utc("a.adopted_at", .microseconds)) FROM lethe.adoption AS a
      WHERE NOT EXISTS (SELECT FROM lethe.seal AS s
                        WHERE s.kind = 'adoption' AND s.number = a.seal_number)
      ORDER BY a.adoption_id LIMIT \(AuditVerification.faultsMax)
      """
    ).rows(as: Int64.self, String.self)
    for (id, adoptedAt) in unsealed {
      result.addFault(
        "lethe.adoption", "adoption_id = \(id)", "the chain has no record of the adoption",
        writtenAt: adoptedAt)
    }
    let changed = try await session.query(
      """
      SELECT r.run_id, a.seal_number, \(SQL.utc("a.adopted_at", .microseconds))
      FROM lethe.run AS r JOIN LATERAL (
        SELECT * FROM lethe.adoption WHERE run_id = r.run_id ORDER BY adoption_id DESC LIMIT 1
      ) AS a ON true
      WHERE a.sha256_after <> sha256(convert_to(r.definition::text, 'UTF8'))
      ORDER BY r.run_id LIMIT \(AuditVerification.faultsMax)
      """
    ).rows(as: Int64.self, Int64?.self, String.self)
    for (id, number, adoptedAt) in changed {
      result.addFault(
        "lethe.run", "run_id = \(id)",
        "its definition differs from the one that it adopted\(number.map { ", which is in record \($0)" } ?? "")",
        writtenAt: adoptedAt)
    }
  }
}

extension TrailQueries {
  /// The adoptions of runs with chunks whose key range contains the ID.
  func adoptions() async throws -> [AuditTrail.Adoption] {
    try await session.run(
      """
      SELECT a.run_id, a.changes::text, a.adopted_by, a.note, \(utc("a.adopted_at")) AS at, a.seal_number
      FROM lethe.adoption AS a
      WHERE EXISTS (SELECT FROM lethe.chunk AS c
                    WHERE c.run_id = a.run_id AND c.first_id <= \(id) AND c.last_id >= \(id)
                      AND \(ofType("c.type")))
      ORDER BY a.adopted_at, a.adoption_id
      """
    ).rows.map { row in
      try AuditTrail.Adoption(
        runID: row["run_id"],
        changes: try JSONDecoder().decode(
          [String: [String?]].self, from: Data(row.decode(String.self, "changes").utf8)),
        by: row["adopted_by"], note: row["note"], at: row["at"], sealNumber: row["seal_number"])
    }
  }
}
