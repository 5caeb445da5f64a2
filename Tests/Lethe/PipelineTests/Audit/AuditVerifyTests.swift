import Evidence
import Foundation
import Ledger
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// `lethe audit verify` finds changes to the evidence: event records, batches, jobs and seals.
@Suite struct AuditVerifyTests {
  struct Tampering: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let sql: SQL
    /// The places that the verification must report. Each place is a table and the beginning of a key.
    let expected: [String]

    init(_ what: String, _ sql: SQL, expected: String...) {
      testDescription = what
      self.sql = sql
      self.expected = expected
    }
  }

  /// A condition that selects one event record of the first chunk's first batch.
  private static let one = """
    (e.id, e.chunk_id, e.batch) = (
      SELECT id, chunk_id, batch FROM lethe.event
      WHERE chunk_id = 1 AND batch = 1 AND reason = 'deleted' ORDER BY id LIMIT 1)
    """

  private static let tamperings = [
    Tampering(
      "an event's reason", "UPDATE lethe.event AS e SET reason = 'bounced' WHERE \(trusted: one)",
      expected: "lethe.event chunk_id = 1 AND batch = 1"),
    Tampering(
      "an event's number of changed rows",
      """
      UPDATE lethe.event AS e SET changed = '{"delete warehouse.posts": 9}' WHERE \(trusted: one)
      """,
      expected: "lethe.event chunk_id = 1 AND batch = 1"),
    Tampering(
      "a deleted event", "DELETE FROM lethe.event AS e WHERE \(trusted: one)",
      expected: "lethe.event chunk_id = 1 AND batch = 1"),
    Tampering(
      "an added event",
      """
      INSERT INTO lethe.event (id, type, reason, action, chunk_id, job_id, applied_at, batch)
      SELECT id + 1, type, reason, action, chunk_id, job_id, applied_at, batch
      FROM lethe.event AS e WHERE \(trusted: one)
      """, expected: "lethe.event chunk_id = 1 AND batch = 1"),
    Tampering(
      "an added event without a batch",
      """
      INSERT INTO lethe.event (id, type, reason, action, chunk_id, job_id, applied_at)
      SELECT id + 1, type, reason, action, chunk_id, job_id, applied_at
      FROM lethe.event AS e WHERE \(trusted: one)
      """, expected: "lethe.event chunk_id = 1 AND batch IS NULL"),
    Tampering(
      "an event of another chunk",
      "UPDATE lethe.event AS e SET chunk_id = 2 WHERE \(trusted: one)",
      expected: "lethe.event chunk_id = 1 AND batch = 1", "lethe.event chunk_id = 2 AND batch = 1"),
    Tampering(
      "a result's hash", "UPDATE lethe.job SET result_sha256 = sha256('another') WHERE job_id = 1",
      expected: "lethe.job job_id = 1"),
    Tampering(
      "a job's ID", "UPDATE lethe.job SET api_id = '1' WHERE job_id = 1",
      expected: "lethe.job job_id = 1"),
    Tampering(
      "the time of a job",
      "UPDATE lethe.job SET asked_at = asked_at - interval '1 microsecond' WHERE job_id = 1",
      expected: "lethe.job job_id = 1"),
    Tampering(
      "a chunk's number of IDs", "UPDATE lethe.chunk SET ids = ids - 1 WHERE chunk_id = 1",
      expected: "lethe.chunk chunk_id = 1"),
    Tampering(
      "a deleted job", "DELETE FROM lethe.job WHERE job_id = 1", expected: "lethe.job job_id = 1"),
    Tampering(
      "a deleted batch", "DELETE FROM lethe.batch WHERE chunk_id = 1 AND number = 1",
      expected: "lethe.batch chunk_id = 1", "lethe.event chunk_id = 1 AND batch = 1"),
    Tampering(
      "an event, and the hash of its batch",
      """
      UPDATE lethe.event AS e SET reason = 'bounced' WHERE \(trusted: one);
      UPDATE lethe.batch AS b SET (records, sha256) = (
        SELECT records, sha256 FROM lethe.event_digest(b.chunk_id, b.number))
      """, expected: "lethe.batch chunk_id = 1"),
    Tampering(
      "a seal's content",
      """
      UPDATE lethe.seal SET content = replace(content, '"events": ', '"events": 1') WHERE number = 2
      """,
      expected: "lethe.seal number = 2", "lethe.chunk chunk_id = "),
    Tampering(
      "a seal's content, and its hash",
      """
      UPDATE lethe.seal SET content = replace(content, '"events": ', '"events": 1') WHERE number = 2;
      UPDATE lethe.seal SET sha256 = lethe.seal_hash(previous, content) WHERE number = 2
      """, expected: "lethe.seal number IN (2, 3)", "lethe.chunk chunk_id = "),
    Tampering(
      "a seal that is not JSON, and its hash",
      """
      UPDATE lethe.seal SET content = 'nothing' WHERE number = 2;
      UPDATE lethe.seal SET sha256 = lethe.seal_hash(previous, content) WHERE number = 2
      """, expected: "lethe.seal number = 2", "lethe.seal number IN (2, 3)"),
    Tampering(
      "the first seal's content, and its hash",
      """
      UPDATE lethe.seal SET content = '{"chunk_id_max": 1000}' WHERE number = 1;
      UPDATE lethe.seal SET sha256 = lethe.seal_hash(previous, content) WHERE number = 1
      """, expected: "lethe.seal number IN (1, 2)"),
    Tampering(
      "a deleted seal in the middle of the chain", "DELETE FROM lethe.seal WHERE number = 2",
      expected: "lethe.seal number = 2", "lethe.seal chunk_id = "),
    Tampering(
      "deleted seals at the beginning of the chain", "DELETE FROM lethe.seal WHERE number < 3",
      expected: "lethe.seal number BETWEEN 1 AND 2"),
    Tampering(
      "a deleted seal at the end of the chain",
      "DELETE FROM lethe.seal WHERE number = (SELECT max(number) FROM lethe.seal)",
      expected: "lethe.seal chunk_id = "),
    Tampering("a deleted chain", "DELETE FROM lethe.seal", expected: "lethe.seal number = 1"),
    Tampering(
      "a seal with another chunk's ID",
      "UPDATE lethe.seal SET chunk_id = 1 WHERE chunk_id = 2",
      expected: "lethe.seal number = ", "lethe.seal chunk_id = 2"),
  ]

  /// Runs `body` after a run over 200 posts and 45 users. The run has two chunks, each with several batches.
  private func withRun(
    _ body: @escaping @Sendable (PipelineFixture) async throws -> Void
  ) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 200)
      let pipeline = try fixture.pipeline()
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      try await body(fixture)
    }
  }

  private func verify(
    _ fixture: PipelineFixture, expecting expected: String? = nil
  ) async throws -> AuditVerification {
    try await fixture.database.withConnection {
      try await AuditLedger(connection: $0).verify(expecting: expected)
    }
  }

  @Test(arguments: tamperings)
  func tamperingIsFound(tampering: Tampering) async throws {
    try await withRun { fixture in
      #expect(try await verify(fixture).faults.map(\.problem) == [])
      try await fixture.execute(tampering.sql)
      let found = try await verify(fixture)
      #expect(!found.isIntact)
      let places = found.faults.map { "\($0.table) \($0.key)" }
      for place in tampering.expected {
        #expect(places.contains { $0.hasPrefix(place) }, "\(place) is not among \(places)")
      }
      #expect(
        found.faults.allSatisfy { $0.remedy.contains("restore a backup from before the change") })
    }
  }

  @Test func verifyPrintsTheHeadOfTheChainAndReportsTheFault() async throws {
    try await withRun { fixture in
      func lethe(_ arguments: String...) async throws -> Program.Result {
        try await Program.run(
          "lethe", ["audit", "verify"] + arguments, environment: fixture.environment)
      }
      let intact = try await lethe("--output", "json")
      #expect(intact.code == 0, "\(intact.stdout)\(intact.stderr)")
      let head = try #require((intact.json["head"] as? [String: Any])?["sha256"] as? String)
      let events = try await fixture.value("SELECT count(*) FROM lethe.event", as: Int.self)
      #expect(intact.json["events_proven"] as? Int == events)
      #expect(intact.json["records"] as? Int == 3)
      let text = try await lethe("--expect", head.uppercased())
      #expect(text.code == 0)
      #expect(text.stdout.contains("the ledger is intact"))
      #expect(text.stdout.contains("SHA-256 \(head)"))
      #expect(try await lethe("--expect", "abc").code == 2)

      try await fixture.execute(
        "UPDATE lethe.job SET result_sha256 = sha256('another') WHERE job_id = 1")
      let tampered = try await lethe()
      #expect(tampered.code == 1)
      #expect(tampered.stdout.contains("lethe.job where job_id = 1: result_sha256 is"))
      #expect(tampered.stdout.contains("remedy: restore a backup from before the change"))
      #expect(tampered.stdout.contains("the ledger is NOT intact"))
    }
  }

  /// Only a hash that is stored outside of the ledger shows that all records of the newest job were deleted, or that
  /// all seals were replaced.
  @Test(arguments: [
    """
    DELETE FROM lethe.event WHERE chunk_id = (SELECT chunk_id FROM lethe.seal ORDER BY number DESC LIMIT 1);
    DELETE FROM lethe.chunk WHERE chunk_id = (SELECT chunk_id FROM lethe.seal ORDER BY number DESC LIMIT 1);
    DELETE FROM lethe.seal WHERE number = (SELECT max(number) FROM lethe.seal)
    """,
    """
    UPDATE lethe.job SET result_sha256 = sha256('another') WHERE job_id = 1;
    CREATE TEMP TABLE old AS TABLE lethe.seal;
    DELETE FROM lethe.seal WHERE number > 1;
    SELECT lethe.seal(kind, job_id, chunk_id, lethe.job_content(job_id))
    FROM old WHERE number > 1 ORDER BY number
    """,
  ])
  func aStoredHeadShowsFaultsThatTheLedgerCannotShow(tampering: String) async throws {
    try await withRun { fixture in
      let head = try #require(try await verify(fixture).head)
      try await fixture.execute(SQL(trusted: tampering))
      #expect(try await verify(fixture).faults.map(\.problem) == [])
      let found = try await verify(fixture, expecting: head.sha256)
      #expect(found.faults.count == 1)
      #expect(found.faults.first?.table == "lethe.seal")
      #expect(found.faults.first?.problem.contains("the chain's last records were deleted") == true)
    }
  }

  /// The first statements give chunk 1 a second seal, as an apply of quarantined lines does. Later statements change an
  /// old batch and add a third seal, which matches the change. The two older seals do not match the change.
  @Test func aChunkThatWasSealedSeveralTimesIsCheckedAgainstAllSeals() async throws {
    try await withRun { fixture in
      try await fixture.execute(
        """
        INSERT INTO lethe.event (id, type, reason, action, chunk_id, job_id, applied_at, batch)
        SELECT 7, type, reason, action, chunk_id, job_id, now(), 1000
        FROM lethe.event WHERE chunk_id = 1 LIMIT 1;
        INSERT INTO lethe.batch (chunk_id, number, after_id, through_id, records, sha256)
        SELECT 1, (SELECT max(number) + 1 FROM lethe.batch WHERE chunk_id = 1), 6, 7, 1, sha256('');
        UPDATE lethe.event SET batch = (SELECT max(number) FROM lethe.batch WHERE chunk_id = 1)
        WHERE batch = 1000;
        UPDATE lethe.batch AS b SET sha256 = (
          SELECT d.sha256 FROM lethe.event_digest(b.chunk_id, b.number) AS d) WHERE after_id = 6;
        UPDATE lethe.chunk SET events = events + 1 WHERE chunk_id = 1;
        SELECT lethe.seal('job', job_id, chunk_id, lethe.job_content(job_id))
        FROM lethe.job WHERE chunk_id = 1
        """)
      #expect(try await verify(fixture).faults.map(\.problem) == [])
      try await fixture.execute(
        """
        UPDATE lethe.event SET reason = 'bounced' WHERE chunk_id = 1 AND batch = 1;
        UPDATE lethe.batch AS b SET sha256 = (
          SELECT d.sha256 FROM lethe.event_digest(b.chunk_id, b.number) AS d)
        WHERE chunk_id = 1 AND number = 1;
        SELECT lethe.seal('job', job_id, chunk_id, lethe.job_content(job_id))
        FROM lethe.job WHERE chunk_id = 1
        """)
      let found = try await verify(fixture)
      #expect(found.faults.map(\.key) == ["chunk_id = 1", "chunk_id = 1"])
      #expect(found.faults.allSatisfy { $0.problem.hasPrefix("batches_sha256 is") })
    }
  }
}
