import ComplianceService
import Evidence
import Foundation
import Ledger
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// What happens to a run's jobs, its rows in the ledger and its folder if the run is given up.
@Suite struct GivingUpTests {
  static let places: [Place] = [
    .jobIntentIsNotCommitted, .creationHasNoResponse, .jobIsCreatedButNotRecorded,
    .uploadIsNotRecorded, .uploadHasNoResponse, .jobIsNotProcessed,
  ]

  /// Lethe also finds a job if the response to its creation never arrived. It finds the job by its name.
  @Test(arguments: places)
  func aRunThatIsGivenUpFreesItsJobSlot(place: Place) async throws {
    try await PipelineFixture.with { base in
      try await base.addSamples(posts: 500)
      try await base.end(at: place, by: SIGKILL)
      let file = try base.definitionFile()
      let result = try await Program.run(
        "lethe", ["run", file, "--give-up", "--output", "json"], environment: base.environment)
      #expect(result.code == 0, "\(result.stderr)")
      let givenUp = try #require((result.json["given_up"] as? [[String: Any]])?.first)
      #expect((givenUp["left"] as? [Any])?.isEmpty == true)
      if place == .creationHasNoResponse {
        #expect((givenUp["cancelled"] as? [Any])?.isEmpty == false)
      }
      let active = try await base.value(
        """
        SELECT count(*) FROM compliance.jobs AS a JOIN lethe.run AS r ON a.name LIKE 'lethe-' || r.key || '-%'
        WHERE r.run_id = 1 AND a.status IN ('created', 'in_progress')
        """, as: Int.self)
      #expect(active == 0)
      #expect(try await base.rowsThatDiffer() == 0)
      let openJobs: SQL = "SELECT count(*) FROM lethe.job WHERE ended_at IS NULL"
      #expect(try await base.value(openJobs, as: Int.self) == 0)
      let remaining = try FileManager.default.subpathsOfDirectory(atPath: base.workDirectory)
      #expect(remaining.isEmpty, "\(remaining)")
    }
  }

  @Test func aRunCanBeGivenUpWithoutTheAPIAndItsJobsAreReported() async throws {
    try await PipelineFixture.with { base in
      try await base.addSamples(posts: 50)
      let pipeline = try base.pipeline()
      try await base.withRuntime(pipeline) { runtime in
        _ = try await runtime.export()
        _ = try await runtime.submit()
      }
      // The ledger contains the ID of only one job. It is unknown whether the API has created the other job.
      try await base.execute(
        """
        UPDATE lethe.chunk SET state = 'exported', created_at = NULL, uploaded_at = NULL WHERE type = 'users';
        UPDATE lethe.job AS j SET api_id = NULL, created_at = NULL, asked_at = NULL
        FROM lethe.chunk AS c WHERE c.chunk_id = j.chunk_id AND c.type = 'users'
        """)
      let unreachable = try base.pipeline(api: "http://127.0.0.1:9")
      let givenUp = try await base.withRuntime(unreachable) { try await $0.giveUp() }
      let left = try #require(givenUp.first).left
      #expect(left.count == 2)
      let known = try #require(left.first { $0.job != nil })
      #expect(known.command == "lethe jobs cancel night.yaml \(known.job ?? "")")
      let unknown = try #require(left.first { $0.job == nil })
      #expect(unknown.name.hasPrefix("lethe-") && unknown.command.contains("lethe jobs list"))
      let open: SQL = "SELECT count(*) FROM lethe.run WHERE finished_at IS NULL"
      #expect(try await base.value(open, as: Int.self) == 0)
      let recorded = try await base.value(
        "SELECT count(*) FROM lethe.job WHERE failure LIKE '%was not cancelled%'", as: Int.self)
      #expect(recorded == 2)
    }
  }

  /// Applied work stays the same, in the ledger and in the warehouse.
  @Test func givingUpDoesNotChangeAppliedWork() async throws {
    try await RefusalFixture.with { fixture in
      let file = try fixture.base.definitionFile {
        RefusalFixture.definition("batch: 20", ids: 10)($0)
          .editing("max_redacted_percent: 100", to: "max_redacted_percent: 24.5")
      }
      #expect(try await fixture.lethe("run", file).code == 3)
      let applied: SQL = """
        SELECT md5(string_agg(t, ' ' ORDER BY t)) FROM (
          SELECT e::text FROM lethe.event AS e UNION ALL SELECT b::text FROM lethe.batch AS b
          UNION ALL SELECT s::text FROM lethe.seal AS s UNION ALL SELECT t::text FROM lethe.tombstone AS t
          UNION ALL SELECT h::text FROM lethe.hold AS h
          UNION ALL SELECT c::text FROM lethe.chunk AS c WHERE state = 'applied'
          UNION ALL SELECT p::text FROM warehouse.posts AS p) AS all_of_it (t)
        """
      let before = try await fixture.base.value(applied, as: String.self)
      _ = try await fixture.base.withRuntime(
        try fixture.base.pipeline(api: fixture.url)
      ) { try await $0.giveUp() }
      #expect(try await fixture.base.value(applied, as: String.self) == before)
    }
  }

  // MARK: Runs that are given up during a large event

  private static let posts = 1000

  /// Two accounts are deleted, and user 1 has a thousand posts. A trigger raises an error when post 777 is deleted, so
  /// the run fails in the middle of the event about user 1.
  private func withHalfAppliedEvent(
    _ body: @escaping @Sendable (PipelineFixture, @Sendable (String) -> String) async throws -> Void
  ) async throws {
    try await PipelineFixture.with { base in
      try await base.execute(
        """
        INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
        SELECT a, 'u', now(), (CASE WHEN a < 3 THEN 'deleted' ELSE 'active' END)::platform.account_state, now()
        FROM generate_series(1, 6) AS a;
        INSERT INTO warehouse.users (user_id, username, created_at)
        SELECT account_id, username, now() FROM platform.accounts;
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
        SELECT 100 + p, 1, 'text', now() FROM generate_series(1, \(literal: Self.posts)) AS p;
        INSERT INTO warehouse.post_media (post_id, media_key, url)
        SELECT post_id, 'k', 'u' FROM warehouse.posts;
        CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN IF OLD.post_id = 777 THEN RAISE ''not now'' USING ERRCODE = ''57014''; END IF; RETURN OLD; END';
        CREATE TRIGGER stop BEFORE DELETE ON warehouse.posts FOR EACH ROW EXECUTE FUNCTION public.stop();
        """)
      let usersOnly: @Sendable (String) -> String = { definition in
        let parts = definition.components(separatedBy: "  posts:\n    type")
        let users = definition.components(separatedBy: "  users:\n    type")
        return (parts[0] + "  users:\n    type" + users[1])
          .editing("batch: 3", to: "batch: 3\n    batch_rows: 50")
      }
      let pipeline = try base.pipeline(usersOnly)
      await #expect(throws: PostgreSQLError.self) {
        try await base.withRuntime(pipeline) { try await $0.run() }
      }
      try await body(base, usersOnly)
    }
  }

  /// - Parameter isReadable: whether this version can read the run's copy of the definition.
  @Test(arguments: [false, true])
  func theFinishedPartOfALargeEventIsRecorded(isReadable: Bool) async throws {
    try await withHalfAppliedEvent { base, usersOnly in
      let left = try await base.value("SELECT count(*) FROM warehouse.posts", as: Int.self)
      #expect(left > 0 && left < Self.posts)
      if !isReadable {
        try await base.execute(
          """
          UPDATE lethe.run SET definition = jsonb_set(definition, '{datasets,0,type}', '"lists"')
          """
        )
      }
      let pipeline = try base.pipeline(usersOnly)
      _ = try await base.withRuntime(pipeline) { try await $0.giveUp() }
      let record = try await base.value(
        """
        SELECT concat_ws(' ', count(*), max(reason::text), max(action::text),
                         max(changed ->> 'delete warehouse.posts'), max(changed ->> 'delete warehouse.post_media'))
        FROM lethe.event WHERE id = 1 AND cause_id IS NULL
        """, as: String.self)
      #expect(record == "1 deleted delete \(Self.posts - left) \(Self.posts)")
      // Each deleted post has a tombstone. The user's row still exists, so the user has no tombstone.
      let tombstones = try await base.value(
        """
        SELECT count(*) FROM lethe.tombstone AS t
        WHERE type = 'tweets' AND NOT EXISTS (SELECT FROM warehouse.posts AS p WHERE p.post_id = t.id)
        """, as: Int.self)
      #expect(tombstones == Self.posts - left)
      let users: SQL = "SELECT count(*) FROM lethe.tombstone WHERE type = 'users' AND id = 1"
      #expect(try await base.value(users, as: Int.self) == 0)
      try await expectVerified(base, unsealed: 0)
      let shown = try await Program.run(
        "lethe", ["audit", "show", "1", "--type", "users"], environment: base.environment)
      #expect(
        shown.stdout.contains("delete warehouse.posts: \(Self.posts - left) rows"),
        "\(shown.stdout)")

      try await base.execute("DROP TRIGGER stop ON warehouse.posts")
      let reports = try await base.withRuntime(pipeline) { try await $0.run() }
      #expect(reports.map(\.status) == [.done])
      #expect(try await base.value("SELECT count(*) FROM warehouse.posts", as: Int.self) == 0)
      try await expectVerified(base, unsealed: 0)
    }
  }

  /// When the chunk is retried, the rest of the event gets its own record. No row is counted twice.
  @Test func theRestOfAGivenUpEventIsCountedSeparately() async throws {
    try await withHalfAppliedEvent { base, usersOnly in
      let pipeline = try base.pipeline(usersOnly)
      _ = try await base.withRuntime(pipeline) { try await $0.giveUp() }
      try await base.execute("DROP TRIGGER stop ON warehouse.posts")
      let chunk = try await base.value("SELECT max(chunk_id) FROM lethe.chunk", as: Int64.self)
      _ = try await base.withRuntime(pipeline) { try await $0.retry(chunkID: chunk) }
      let counted = try await base.value(
        """
        SELECT concat_ws(' ', sum((changed ->> 'delete warehouse.posts')::bigint),
                         sum((changed ->> 'delete warehouse.post_media')::bigint),
                         (SELECT sum(rows) FROM lethe.change WHERE table_name = 'warehouse.posts'))
        FROM lethe.event WHERE id = 1 AND cause_id IS NULL
        """, as: String.self)
      #expect(counted == "\(Self.posts) \(Self.posts) \(Self.posts)")
      #expect(try await base.value("SELECT count(*) FROM warehouse.posts", as: Int.self) == 0)
      try await expectVerified(base, unsealed: 0)
    }
  }

  private func expectVerified(_ base: PipelineFixture, unsealed: Int) async throws {
    let found = try await base.database.withConnection {
      try await AuditLedger(connection: $0).verify()
    }
    #expect(found.isIntact, "\(found.faults.map(\.problem))")
    #expect(found.batchesUnsealed == unsealed)
  }
}
