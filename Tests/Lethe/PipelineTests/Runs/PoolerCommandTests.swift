import Foundation
import PostgreSQL
import TestSupport
import Testing

/// The commands with PgBouncer between the programs and the database.
@Suite(.endedIfItHangs) struct PoolerCommandTests {
  /// `FILE` stands for the definition.
  private static let commands = [
    ["run", "FILE"], ["export", "FILE"], ["submit", "FILE"], ["await", "FILE"],
    ["collect", "FILE"], ["apply", "FILE"], ["plan", "FILE"], ["check", "FILE"],
    ["check", "FILE", "--grants"], ["status"], ["retry", "FILE", "1"],
    ["holds", "list"],
    ["holds", "release", "FILE", "1", "--type", "tweets", "--note", "x"],
    ["quarantine", "list"], ["quarantine", "retry", "FILE"], ["guard", "list"],
    ["audit", "show", "1"], ["audit", "verify"],
    ["migrate", "up"], ["migrate", "status"], ["migrate", "down"],
  ]

  private static func lethe(
    _ arguments: [String], _ fixture: PipelineFixture, _ pooler: Pooler
  ) async throws -> Program.Ending {
    let file = try fixture.definitionFile()
    return try await Program.run(
      "lethe", arguments.map { $0 == "FILE" ? file : $0 },
      environment: fixture.environment.merging(["DATABASE_URL": pooler.url(of: fixture.database)]) {
        $1
      })
  }

  @Test(arguments: [Pooler.Mode.transaction, .statement])
  func everyCommandRefusesAPoolerThatKeepsNoSession(_ mode: Pooler.Mode) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.invent(posts: 20)
      try await Pooler.serving(.init(mode)) { pooler in
        for arguments in Self.commands {
          let ending = try await Self.lethe(arguments, fixture, pooler)
          #expect(ending.code == 2, "\(arguments): \(ending)")
          #expect(
            ending.stderr.contains("PgBouncer") && ending.stderr.contains("pool_mode = session"),
            "\(arguments): \(ending.stderr)")
          #expect(!(ending.stdout + ending.stderr).contains(Pooler.password))
        }
      }
      #expect(try await fixture.value("SELECT count(*) FROM lethe.run", as: Int.self) == 0)
    }
  }

  @Test(arguments: [1, 2])
  func aSmallPoolThatKeepsNoSessionIsRefused(sessionsMax: Int) async throws {
    try await PipelineFixture.with { fixture in
      let configuration = Pooler.Configuration(.transaction, sessionsMax: sessionsMax)
      try await Pooler.serving(configuration) { pooler in
        for arguments in [["run", "FILE"], ["check", "FILE"], ["migrate", "up"]] {
          let ending = try await Self.lethe(arguments, fixture, pooler)
          #expect(ending.code == 2, "\(arguments): \(ending)")
        }
      }
    }
  }

  @Test(arguments: [
    Pooler.Configuration(.session), .init(.session, takesTurns: true),
    .init(.session, resetQuery: ""),
  ])
  func wholeRunsWorkThroughAPoolerThatKeepsTheSession(
    _ configuration: Pooler.Configuration
  ) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.invent()
      try await Pooler.serving(configuration) { pooler in
        for arguments in [
          ["migrate", "up"], ["check", "FILE"], ["run", "FILE"], ["run", "FILE"], ["status"],
          ["audit", "verify"],
        ] {
          let ending = try await Self.lethe(arguments, fixture, pooler)
          #expect(ending.code == 0, "\(arguments): \(ending)")
        }
      }
      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  @Test(arguments: [1, 2])
  func commandsWithOneConnectionWorkInASmallPool(sessionsMax: Int) async throws {
    try await PipelineFixture.with { fixture in
      let configuration = Pooler.Configuration(.session, sessionsMax: sessionsMax)
      try await Pooler.serving(configuration) { pooler in
        for arguments in [["migrate", "up"], ["check", "FILE"], ["status"]] {
          let ending = try await Self.lethe(arguments, fixture, pooler)
          #expect(ending.code == 0, "\(arguments): \(ending)")
        }
      }
    }
  }

  @Test func aStartupParameterThatThePoolerDoesNotKnowIsAnErrorOfUsage() async throws {
    try await PipelineFixture.with { fixture in
      try await Pooler.serving(.init(.session)) { pooler in
        let url = pooler.url(of: fixture.database)
        let ending = try await Program.run(
          "lethe", ["status"],
          environment: ["DATABASE_URL": url, "PGOPTIONS": "-c work_mem=64MB"])
        #expect(ending.code == 2 && ending.stderr.contains("PGOPTIONS"), "\(ending)")
      }
    }
  }
}
