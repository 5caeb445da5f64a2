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
  ) async throws -> Program.Result {
    let file = try fixture.definitionFile()
    return try await Program.run(
      "lethe", arguments.map { $0 == "FILE" ? file : $0 },
      environment: fixture.environment.merging(["DATABASE_URL": pooler.url(of: fixture.database)]) {
        $1
      })
  }

  @Test(arguments: [Pooler.Mode.transaction, .statement])
  func commandsRefuseAPoolerThatKeepsNoSession(_ mode: Pooler.Mode) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 20)
      try await Pooler.serving(.init(mode)) { pooler in
        for arguments in Self.commands {
          let result = try await Self.lethe(arguments, fixture, pooler)
          #expect(result.code == 2, "\(arguments): \(result)")
          #expect(
            result.stderr.contains("PgBouncer") && result.stderr.contains("pool_mode = session"),
            "\(arguments): \(result.stderr)")
          #expect(!(result.stdout + result.stderr).contains(Pooler.password))
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
          let result = try await Self.lethe(arguments, fixture, pooler)
          #expect(result.code == 2, "\(arguments): \(result)")
        }
      }
    }
  }

  @Test(arguments: [
    Pooler.Configuration(.session), .init(.session, isRoundRobin: true),
    .init(.session, resetQuery: ""),
  ])
  func wholeRunsWorkThroughAPoolerThatKeepsTheSession(
    _ configuration: Pooler.Configuration
  ) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples()
      try await Pooler.serving(configuration) { pooler in
        for arguments in [
          ["migrate", "up"], ["check", "FILE"], ["run", "FILE"], ["run", "FILE"], ["status"],
          ["audit", "verify"],
        ] {
          let result = try await Self.lethe(arguments, fixture, pooler)
          #expect(result.code == 0, "\(arguments): \(result)")
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
          let result = try await Self.lethe(arguments, fixture, pooler)
          #expect(result.code == 0, "\(arguments): \(result)")
        }
      }
    }
  }

  @Test func aStartupParameterThatThePoolerDoesNotKnowIsAUsageError() async throws {
    try await PipelineFixture.with { fixture in
      try await Pooler.serving(.init(.session)) { pooler in
        let url = pooler.url(of: fixture.database)
        let result = try await Program.run(
          "lethe", ["status"],
          environment: ["DATABASE_URL": url, "PGOPTIONS": "-c work_mem=64MB"])
        #expect(result.code == 2 && result.stderr.contains("PGOPTIONS"), "\(result)")
      }
    }
  }
}
