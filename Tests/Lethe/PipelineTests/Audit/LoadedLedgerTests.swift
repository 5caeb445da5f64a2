import Ledger
import PostgreSQL
import TestSupport
import Testing

/// A ledger that was created from a dump of the schema, as `dbmate load` does. It does not have the rows that the
/// migrations inserted.
@Suite struct LoadedLedgerTests {
  /// Deletes the first seal, which a migration inserted. A dump of the schema contains no rows.
  private static let deleteMigratedRows: SQL = "DELETE FROM lethe.seal"

  private static func verify(_ nights: NightlyFixture) async throws -> Program.Result {
    try await nights.lethe("audit", "verify", "--database", nights.url)
  }

  @Test(arguments: [true, false])
  func aNewLedgerIsIntactAndStaysIntact(isLoaded: Bool) async throws {
    try await NightlyFixture.with(Shop(), "INSERT INTO posts (post_id) VALUES (1), (2), (3)") {
      nights in
      if isLoaded { try await nights.execute(Self.deleteMigratedRows) }
      let fresh = try await Self.verify(nights)
      #expect(fresh.code == 0 && fresh.stdout.contains("intact"), "\(fresh)")
      try await nights.run([1: "deleted"], checks: false)
      let later = try await Self.verify(nights)
      #expect(later.code == 0, "\(later)")
      let kinds = try await nights.rows("SELECT number, kind FROM lethe.seal")
      #expect(kinds.first == "(1,begin)" && kinds.filter { $0.contains("begin") }.count == 1)
    }
  }

  /// Verification reports that all seals were deleted, even after the next run has added new seals.
  @Test func aDeletedChainIsFound() async throws {
    try await NightlyFixture.with(Shop(), "INSERT INTO posts (post_id) VALUES (1), (2), (3)") {
      nights in
      try await nights.run([1: "deleted"], checks: false)
      try await nights.execute("DELETE FROM lethe.seal")
      let gone = try await Self.verify(nights)
      #expect(gone.code == 1 && gone.stdout.contains("the chain is empty"), "\(gone)")
      try await nights.run([2: "deleted"], checks: false)
      let again = try await Self.verify(nights)
      #expect(again.code == 1 && again.stdout.contains("chunk 1 is applied"), "\(again)")
    }
  }

  /// Loads a dump of the schema, which pg_dump creates, into another PostgreSQL server.
  @Test func aDumpOfTheSchemaIsAValidLedger() async throws {
    try await withTestDatabase(.ledger) { first in
      try await SecondServer.with { server in
        let url = try await server.restore(first.url, "--schema-only")
        let verified = try await Program.run(
          "lethe", ["audit", "verify", "--database", url], environment: [:])
        #expect(verified.code == 0, "\(verified)")
      }
    }
  }
}
