import Foundation
import TestSupport
import Testing

/// The program with PgBouncer between it and the database.
@Suite(.endedIfItHangs) struct PoolerProgramTests {
  @Test(arguments: [Pooler.Mode.transaction, .statement], [1, 2, 20])
  func everyCommandRefusesAPoolerThatIsNotInSessionMode(
    _ mode: Pooler.Mode, sessionsMax: Int
  ) async throws {
    try await withTestDatabase(.platform) { database in
      try await Pooler.serving(.init(mode, sessionsMax: sessionsMax)) { pooler in
        for arguments in [
          ["serve", "--token", "x", "--listen", "127.0.0.1:0"],
          ["seed", "--accounts", "5", "--posts", "10"],
          ["migrate", "up"], ["migrate", "status"], ["migrate", "down", "--yes"],
        ] {
          let result = try await Program.run(
            "compliance-server", arguments, environment: ["DATABASE_URL": pooler.url(of: database)])
          #expect(result.code == 2, "\(arguments): \(result)")
          #expect(
            result.stderr.contains("PgBouncer") && result.stderr.contains("pool_mode = session"),
            "\(arguments): \(result.stderr)")
          #expect(!result.stderr.contains(Pooler.password))
        }
      }
    }
  }

  @Test func theProgramWorksThroughAPoolerInSessionMode() async throws {
    try await withTestDatabase { database in
      try await Pooler.serving(.init(.session)) { pooler in
        let environment = ["DATABASE_URL": pooler.url(of: database)]
        for arguments in [["migrate", "up"], ["seed", "--accounts", "5", "--posts", "10"]] {
          let result = try await Program.run(
            "compliance-server", arguments, environment: environment)
          #expect(result.code == 0, "\(arguments): \(result)")
        }
        let spool = FileManager.default.temporaryDirectory.appending(path: database.name).path()
        defer { try? FileManager.default.removeItem(atPath: spool) }
        let process = try await ServerProcess(
          ["serve", "--token", "x", "--listen", "127.0.0.1:0", "--spool", spool],
          environment: environment)
        #expect(process.baseURL != nil, "\(process.log)")
        #expect(await process.end(by: SIGTERM) == 0)
      }
    }
  }
}
