import Ledger
import Logging
import PostgreSQL
import TestSupport
import Testing

@testable import Runtime

@Suite(.endedIfItHangs) struct WorkWaitTests {
  private static func withKeeper(
    _ body: (LeaseKeeper, Connection) async throws -> Void
  ) async throws {
    try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection in
        let began = ContinuousClock.now
        let worker = WorkerLedger(lease: Lease(), seconds: 6)
        try await worker.begin("test", LocalProcess.identity, on: connection)
        let keeper = LeaseKeeper(
          worker, since: began, on: ConnectionString(database.url),
          logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        try await body(keeper, connection)
      }
    }
  }

  /// A process that joins and leaves the team between two renewals is not noticed, and may have done the last work.
  @Test func aWaitEndsWithoutASignalAndWithoutKnownTeammates() async throws {
    try await Self.withKeeper { keeper, _ in
      let changes = ChangeSignal()
      var wait = WorkWait(keeper, changes)
      try await wait.change(since: await changes.view)
      #expect(await !keeper.hasHadTeammates)
    }
  }

  /// Renewals that follow each other use one session. A session that was terminated is replaced without an error.
  @Test func renewalsUseOneSessionUntilItIsLost() async throws {
    try await Self.withKeeper { keeper, connection in
      func sessions() async throws -> [Int64] {
        try await connection.query(
          """
          SELECT pid::bigint FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%lethe.worker%'
            AND backend_type = 'client backend'
          """
        ).rows(as: Int64.self)
      }
      // On a slow machine, a session can count as lost or as idle for too long.
      var former: [Int64] = []
      repeat {
        former = try await sessions()
        try await keeper.requireCallsAllowed()
      } while try await sessions() != former || former.count != 1
      _ = try await connection.query("SELECT pg_terminate_backend(\(former[0])::integer)")
      try await keeper.requireCallsAllowed()
      while try await sessions().contains(former[0]) { try await pollingPause() }
      try await connection.execute("DELETE FROM lethe.worker")
      await #expect(throws: LedgerError.self) { try await keeper.requireCallsAllowed() }
    }
  }
}
