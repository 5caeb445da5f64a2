import Foundation
import PostgreSQL

/// Compares withdrawn tombstones with the chain's records about them.
extension ChainVerifier {
  mutating func verifyRepair(_ record: Record) async throws {
    guard let values = Self.values(record.content), case .number(let count) = values["tombstones"],
      case .text(let hash) = values["sha256"]
    else {
      result.addFault(
        "lethe.seal", record.key, "its content is not the content of a repair",
        writtenAt: record.sealedAt)
      return
    }
    let (countNow, hashNow) = try await session.query(
      "SELECT tombstones, encode(sha256, 'hex') FROM lethe.withdrawal_digest(\(record.number))"
    ).onlyRow(as: Int.self, String.self)
    guard Decimal(countNow) != count || hashNow != hash else { return }
    result.addFault(
      "lethe.withdrawn_tombstone", "seal = \(record.number)",
      Decimal(countNow) == count
        ? "its \(countNow) rows differ from those that were withdrawn"
        : "it has \(countNow) rows, but \(count) were withdrawn",
      writtenAt: record.sealedAt)
  }

  mutating func requireSealOfEachRepair() async throws {
    let numbers = try await session.query(
      """
      SELECT DISTINCT w.seal FROM lethe.withdrawn_tombstone AS w
      WHERE NOT EXISTS (SELECT FROM lethe.seal AS s WHERE s.number = w.seal AND s.kind = 'repair')
      ORDER BY 1 LIMIT \(AuditVerification.faultsMax)
      """
    ).rows(as: Int64.self)
    for number in numbers {
      result.addFault(
        "lethe.withdrawn_tombstone", "seal = \(number)",
        "the chain has no record of its tombstones",
        writtenAt: nil)
    }
  }
}
