import Definitions
import Foundation
import PostgreSQL
import TestSupport
import Testing

/// Tests of the definition's timeouts and of statements that exceed them.
@Suite struct TimeoutTests {
  private static func lethe(
    _ fixture: PipelineFixture, _ command: String, _ file: String
  ) async throws -> Program.Ending {
    try await Program.run(
      "lethe", [command, file, "--output", "json"], environment: fixture.environment)
  }

  private static func slow(_ fixture: PipelineFixture, _ table: String) async throws {
    try await fixture.execute(
      """
      CREATE FUNCTION sleepy() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN PERFORM pg_sleep(600); RETURN coalesce(NEW, OLD); END';
      CREATE TRIGGER sleepy BEFORE INSERT OR UPDATE OR DELETE ON \(trusted: table)
        FOR EACH ROW EXECUTE FUNCTION sleepy()
      """)
  }

  private static func postsOnly(_ fixture: PipelineFixture, _ timeouts: String) throws -> String {
    try fixture.definitionFile {
      CollectTests.postsOnly($0).replacing("limits:", with: "timeouts: \(timeouts)\nlimits:")
    }
  }

  /// Work that a stage cannot finish in time is set aside. The message names the setting and does not call the failure
  /// temporary. The work succeeds in the next run, after the cause is fixed.
  @Test(arguments: ["warehouse.posts", "lethe.collected"])
  func workThatTakesTooLongIsSetAside(table: String) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.invent(posts: 300)
      try await Self.slow(fixture, table)
      let file = try Self.postsOnly(fixture, "{statement_seconds: 3}")
      let ending = try await Self.lethe(fixture, "run", file)
      #expect(ending.code == 5, "\(ending.stderr)")
      let error = try #require(ending.json["error"] as? [String: String])
      #expect(error["message"]?.contains("timeouts.statement_seconds") == true, "\(error)")
      #expect(error["remedy"]?.contains("raise timeouts.statement_seconds") == true, "\(error)")
      // No single event is the cause, so Lethe does not search for one.
      #expect(try await fixture.value("SELECT count(*) FROM lethe.refusal", as: Int.self) == 0)
      #expect(
        try await fixture.value(
          "SELECT count(*) FROM lethe.chunk WHERE state = 'failed' AND remedy LIKE '%timeouts.%'",
          as: Int.self) > 0)

      try await fixture.execute("DROP FUNCTION sleepy CASCADE")
      #expect(try await Self.lethe(fixture, "run", file).code == 0)
    }
  }

  @Test func anExportThatTakesTooLongIsReportedWithTheSetting() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.invent(posts: 50)
      let file = try fixture.definitionFile {
        CollectTests.postsOnly($0)
          .replacing("limits:", with: "timeouts: {statement_seconds: 2}\nlimits:")
          .replacing(
            "    id: post_id\n    chunk",
            with: "    id: post_id\n    where: \"pg_sleep(60) IS NOT NULL\"\n    chunk")
      }
      let ending = try await Self.lethe(fixture, "run", file)
      #expect(ending.code == 5, "\(ending.stderr)")
      let message = (ending.json["error"] as? [String: String])?["message"]
      #expect(message?.contains("timeouts.statement_seconds") == true, "\(ending.stderr)")
    }
  }

  /// The run uses the timeouts of today's file, not of the file that it began with.
  @Test func aRunContinuesWithTheTimeoutsOfTodaysFile() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.invent(posts: 300)
      let before = try fixture.definitionFile { CollectTests.postsOnly($0) }
      for stage in ["export", "submit", "await", "collect"] {
        #expect(try await Self.lethe(fixture, stage, before).code == 0)
      }
      try await Self.slow(fixture, "warehouse.posts")
      let tight = try Self.postsOnly(fixture, "{statement_seconds: 3}")
      #expect(try await Self.lethe(fixture, "apply", tight).code == 5)
      let frozen = try await fixture.value(
        "SELECT definition::text FROM lethe.run", as: String.self)
      #expect(!frozen.lowercased().contains("timeout"))
    }
  }

  /// Another session locks the rows. Lethe waits for the time in the definition and then retries.
  @Test func theLockTimeoutIsTheOneInTheDefinition() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.invent(posts: 300)
      let file = try Self.postsOnly(fixture, "{lock_seconds: 0.05}")
      for stage in ["export", "submit", "await", "collect"] {
        #expect(try await Self.lethe(fixture, stage, file).code == 0)
      }
      try await fixture.database.withConnection { connection throws in
        try await connection.withTransaction { transaction in
          try await transaction.execute("SELECT FROM warehouse.posts FOR UPDATE")
          let began = ContinuousClock.now
          let ending = try await Self.lethe(fixture, "apply", file)
          // With the default, Lethe would wait eight times for 5 s.
          #expect(ContinuousClock.now - began < .seconds(35))
          #expect(ending.code == 75, "\(ending.stderr)")
        }
      }
      #expect(try await Self.lethe(fixture, "run", file).code == 0)
    }
  }

  /// The database's own setting has no effect. The session has the definition's timeout.
  @Test(arguments: [("", "0"), ("{statement_seconds: 7.5}", "7500ms")])
  func aSessionHasTheDefinitionsTimeout(written: String, expected: String) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        "ALTER DATABASE \(identifier: fixture.database.name) SET statement_timeout = '1s'")
      let pipeline = try fixture.pipeline {
        written.isEmpty ? $0 : $0.replacing("limits:", with: "timeouts: \(written)\nlimits:")
      }
      let setting = try await Connection.withConnection(pipeline.warehouse) {
        try await $0.query("SELECT current_setting('statement_timeout')").onlyRow(as: String.self)
      }
      #expect(setting == expected)
    }
  }
}
