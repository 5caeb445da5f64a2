import Evidence
import Foundation
import Ledger
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// A prune deletes the events of whole months. The chain of evidence still covers the remaining records.
@Suite struct AuditPruneTests {
  /// Runs `body` after a run, with another chunk that was applied thirty months ago. This chunk has five event records,
  /// with the IDs 1 to 5.
  private func withOldMonths(
    _ body: @escaping @Sendable (PipelineFixture) async throws -> Void
  ) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 200)
      let pipeline = try fixture.pipeline()
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      try await fixture.execute(
        """
        CREATE TABLE before.old AS SELECT now() - interval '30 months' AS at;
        SELECT lethe.ensure_event_partitions(at) FROM before.old;
        INSERT INTO lethe.chunk
          (run_id, dataset, type, number, first_id, last_id, ids, bytes, sha256, path, lease, state,
           exported_at, created_at, uploaded_at, completed_at, collected_at, applied_at, events,
           quarantined, applied_through)
        SELECT 1, 'posts', 'tweets', 99, 1, 10, 10, 10, sha256(''), '', gen_random_uuid(), 'applied',
               at, at, at, at, at, at, 5, 0, 10 FROM before.old;
        INSERT INTO lethe.job
          (chunk_id, attempt, name, api_id, created_at, asked_at, ended_at, result_bytes,
           result_lines, result_sha256, silence)
        SELECT max(chunk_id), 1, 'old', '99', min(at), min(at), min(at), 5, 5, sha256(''), 'spoken'
        FROM lethe.chunk, before.old;
        INSERT INTO lethe.event (id, type, reason, action, chunk_id, job_id, applied_at, batch)
        SELECT n, 'tweets', 'deleted', 'delete', chunk_id, job_id, at, 1
        FROM lethe.job, before.old, generate_series(1, 5) AS n WHERE name = 'old';
        INSERT INTO lethe.batch
          (chunk_id, number, after_id, through_id, applied_at, records, sha256)
        SELECT chunk_id, 1, 0, 5, at, d.records, d.sha256
        FROM lethe.job, before.old, lethe.event_digest(chunk_id, 1) AS d WHERE name = 'old';
        SELECT lethe.seal('job', job_id, chunk_id, lethe.job_content(job_id))
        FROM lethe.job WHERE name = 'old'
        """)
      try await body(fixture)
    }
  }

  private func lethe(_ fixture: PipelineFixture, _ arguments: String...) async throws
    -> Program.Result
  {
    try await Program.run("lethe", ["audit"] + arguments, environment: fixture.environment)
  }

  private func verify(_ fixture: PipelineFixture) async throws -> AuditVerification {
    try await fixture.database.withConnection { try await AuditLedger(connection: $0).verify() }
  }

  @Test func aPruneDeletesWholeMonthsAndTheChainRecordsIt() async throws {
    try await withOldMonths { fixture in
      let partitions = try await fixture.value(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'lethe.event'::regclass", as: Int.self)
      #expect(try await verify(fixture).faults.map(\.problem) == [])
      let none = try await lethe(fixture, "prune", "--older-than", "40months")
      #expect(none.stdout.contains("nothing to drop"), "\(none.stdout)\(none.stderr)")
      let dry = try await lethe(
        fixture, "prune", "--older-than", "25months", "--dry-run", "--output", "json")
      #expect(dry.json["events"] as? Int == 5, "\(dry.stderr)")
      #expect((dry.json["partitions"] as? [Any])?.count == 2)
      #expect(dry.json["seal"] == nil)
      #expect(
        try await fixture.value(
          "SELECT count(*) FROM lethe.seal WHERE kind = 'prune'", as: Int.self)
          == 0)

      let pruned = try await lethe(fixture, "prune", "--older-than", "700days", "--output", "json")
      #expect(pruned.code == 0, "\(pruned.stderr)")
      #expect(pruned.json["events"] as? Int == 5)
      #expect(pruned.json["through"] as? String == dry.json["through"] as? String)
      #expect(
        try await fixture.value(
          "SELECT count(*) FROM pg_inherits WHERE inhparent = 'lethe.event'::regclass", as: Int.self
        )
          == partitions - 2)
      let after = try await verify(fixture)
      #expect(after.faults.map(\.problem) == [])
      #expect(after.batchesPruned == 1)
      #expect(after.head?.number == Int64(pruned.json["seal"] as? Int ?? 0))
      let shown = try await lethe(fixture, "show", "3", "--type", "tweets", "--output", "json")
      let answers = (shown.json["checks"] as? [[String: Any]])?.map { $0["answer"] as? String }
      #expect(answers == ["pruned"], "\(shown.stdout)")
      // No pruned batch covers ID 8, so the chunk's result still shows that ID 8 had no event.
      let clean = try await lethe(fixture, "show", "8", "--type", "tweets")
      #expect(clean.stdout.contains("clean, or not asked about"), "\(clean.stdout)")
    }
  }

  @Test func prunedRecordsAreStillCheckedAgainstTheChain() async throws {
    try await withOldMonths { fixture in
      _ = try await lethe(fixture, "prune", "--older-than", "25months")
      try await fixture.execute(
        """
        UPDATE lethe.batch SET records = 4 WHERE applied_at = (SELECT at FROM before.old);
        SELECT lethe.ensure_event_partitions(at) FROM before.old;
        INSERT INTO lethe.event (id, type, reason, action, chunk_id, job_id, applied_at, batch)
        SELECT 9, 'tweets', 'deleted', 'delete', chunk_id, job_id, at, 1
        FROM lethe.job, before.old WHERE name = 'old'
        """)
      let tables = try await verify(fixture).faults.map(\.table)
      #expect(Set(tables) == ["lethe.batch", "lethe.event"])
    }
  }

  @Test func aPruneNeverDeletesTheCurrentMonth() async throws {
    try await withOldMonths { fixture in
      let events = try await fixture.value(
        "SELECT count(*) FROM lethe.event WHERE applied_at > now() - interval '1 day'", as: Int.self
      )
      _ = try await lethe(fixture, "prune", "--older-than", "2999-01-01")
      let left = try await fixture.value("SELECT count(*) FROM lethe.event", as: Int.self)
      #expect(left == events && events > 0)
      #expect(
        try await fixture.value(
          "SELECT count(*) FROM lethe.event WHERE applied_at >= date_trunc('month', now())",
          as: Int.self) == left)
      for age in ["25", "months", "0days", "-1days", "25 years", "2026-13-01"] {
        #expect(try await lethe(fixture, "prune", "--older-than=\(age)").code == 2, "\(age)")
      }
    }
  }

  @Test func aPruneIsRefusedIfAChunkOfItsMonthsIsNotCompletelyApplied() async throws {
    try await withOldMonths { fixture in
      try await fixture.execute(
        """
        UPDATE lethe.chunk SET state = 'collected', applied_at = NULL, applied_through = 5
        WHERE number = 99
        """)
      let refused = try await lethe(fixture, "prune", "--older-than", "25months")
      #expect(refused.code == 1)
      #expect(
        refused.stderr.contains(/are not completely applied: chunk \d+ of the pipeline \w+\n/),
        "\(refused.stderr)")
      #expect(refused.stderr.contains("--give-up"))
      #expect(
        try await fixture.value("SELECT count(*) FROM lethe.event WHERE id <= 5", as: Int.self) >= 5
      )
    }
  }

  @Test func onlyTheOwnerOfTheLedgerCanPrune() async throws {
    try await withOldMonths { fixture in
      let role = Identifier("pruner_\(fixture.database.name)").quoted
      try await fixture.execute(
        """
        CREATE ROLE \(trusted: role);
        GRANT USAGE ON SCHEMA lethe TO \(trusted: role);
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA lethe TO \(trusted: role)
        """)
      await #expect {
        try await fixture.database.withConnection { connection in
          try await connection.runScript("SET ROLE \(trusted: role)")
          return try await AuditLedger(connection: connection).prune(olderThan: .months(25))
        }
      } throws: { error in
        let error = try #require(error as? LedgerError, "\(error)")
        return error.code == .refused && error.message.contains("belongs to")
          && error.remedy.contains("the user who runs the migrations")
      }
      try await fixture.execute("DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)")
    }
  }
}
