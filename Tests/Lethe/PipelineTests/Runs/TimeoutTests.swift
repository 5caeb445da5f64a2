import Definitions
import Foundation
import PostgreSQL
import TestSupport
import Testing

/// Tests of the definition's timeouts and of statements that exceed them.
@Suite struct TimeoutTests {
  private static func lethe(
    _ fixture: PipelineFixture, _ command: String, _ file: String
  ) async throws -> Program.Result {
    try await Program.run(
      "lethe", [command, file, "--output", "json"], environment: fixture.environment)
  }

  /// Adds a trigger that makes each change of a row of the table take ten minutes.
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
      CollectTests.postsOnly($0).editing("limits:", to: "timeouts: \(timeouts)\nlimits:")
    }
  }

  /// Work that a stage cannot finish in time is set aside. The message names the setting and does not call the failure
  /// temporary. The work succeeds in the next run, after the cause is fixed.
  @Test(arguments: ["warehouse.posts", "lethe.collected"])
  func workThatTakesTooLongIsSetAside(table: String) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 300)
      try await Self.slow(fixture, table)
      let file = try Self.postsOnly(fixture, "{statement_seconds: 3}")
      let result = try await Self.lethe(fixture, "run", file)
      #expect(result.code == 5, "\(result.stderr)")
      let error = try #require(result.json["error"] as? [String: String])
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
      try await fixture.addSamples(posts: 50)
      let file = try fixture.definitionFile {
        CollectTests.postsOnly($0)
          .editing("limits:", to: "timeouts: {statement_seconds: 2}\nlimits:")
          .editing(
            "    id: post_id\n    chunk",
            to: "    id: post_id\n    where: \"pg_sleep(60) IS NOT NULL\"\n    chunk")
      }
      let result = try await Self.lethe(fixture, "run", file)
      #expect(result.code == 5, "\(result.stderr)")
      let message = (result.json["error"] as? [String: String])?["message"]
      #expect(message?.contains("timeouts.statement_seconds") == true, "\(result.stderr)")
    }
  }

  /// A resumed run uses the timeouts of the current file. Its own copy of the definition contains no timeouts.
  @Test func aRunContinuesWithTheTimeoutsOfTheCurrentFile() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 300)
      let before = try fixture.definitionFile { CollectTests.postsOnly($0) }
      for stage in ["export", "submit", "await", "collect"] {
        #expect(try await Self.lethe(fixture, stage, before).code == 0)
      }
      try await Self.slow(fixture, "warehouse.posts")
      let tight = try Self.postsOnly(fixture, "{statement_seconds: 3}")
      #expect(try await Self.lethe(fixture, "apply", tight).code == 5)
      let copy = try await fixture.value(
        "SELECT definition::text FROM lethe.run", as: String.self)
      #expect(!copy.lowercased().contains("timeout"))
    }
  }

  /// Another session locks the rows. Lethe waits for `lock_seconds` and then retries.
  @Test func letheWaitsForALockAsLongAsTheDefinitionSays() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 300)
      let file = try Self.postsOnly(fixture, "{lock_seconds: 0.05}")
      for stage in ["export", "submit", "await", "collect"] {
        #expect(try await Self.lethe(fixture, stage, file).code == 0)
      }
      try await fixture.database.withConnection { connection throws in
        try await connection.withTransaction { transaction in
          try await transaction.execute("SELECT FROM warehouse.posts FOR UPDATE")
          let began = ContinuousClock.now
          let result = try await Self.lethe(fixture, "apply", file)
          // With the default, Lethe would wait eight times for 5 s.
          #expect(ContinuousClock.now - began < .seconds(35))
          #expect(result.code == 75, "\(result.stderr)")
        }
      }
      #expect(try await Self.lethe(fixture, "run", file).code == 0)
    }
  }

  /// The database's own `statement_timeout` has no effect on Lethe's sessions.
  @Test(arguments: [("", "0"), ("{statement_seconds: 7.5}", "7500ms")])
  func aSessionHasTheDefinitionsTimeout(written: String, expected: String) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        "ALTER DATABASE \(identifier: fixture.database.name) SET statement_timeout = '1s'")
      let pipeline = try fixture.pipeline {
        written.isEmpty ? $0 : $0.editing("limits:", to: "timeouts: \(written)\nlimits:")
      }
      let setting = try await Connection.withConnection(pipeline.warehouse) {
        try await $0.query("SELECT current_setting('statement_timeout')").onlyRow(as: String.self)
      }
      #expect(setting == expected)
    }
  }
}
