import Foundation
import Logging
import PostgreSQL
import Runtime
import Synchronization
import TestSupport
import Testing

@testable import ApplyStage
@testable import Definitions

/// The waits of apply on a real server, and with a real standby.
@Suite(.endedIfItHangs) struct PaceTests {
  private static func lethe(
    _ fixture: PipelineFixture, _ command: String, _ file: String
  ) async throws -> Program.Result {
    try await Program.run(
      "lethe", [command, file, "--output", "json"], environment: fixture.environment)
  }

  /// Returns a function that edits a definition: only the dataset of posts, the pace `apply`, and small batches.
  private static func paced(_ apply: String, batch: Int = 20) -> @Sendable (String) -> String {
    { definition in
      CollectTests.postsOnly(definition)
        .editing("limits:", to: "\(apply.isEmpty ? "" : "apply: \(apply)\n")limits:")
        .editing("batch: 20", to: "batch: \(batch)\n    batch_rows: 100")
    }
  }

  private static func collect(_ fixture: PipelineFixture, _ file: String) async throws {
    for stage in ["export", "submit", "await", "collect"] {
      let result = try await lethe(fixture, stage, file)
      #expect(result.code == 0, "\(stage): \(result.stderr)")
    }
  }

  private static func batches(_ fixture: PipelineFixture) async throws -> Int {
    try await fixture.value("SELECT count(*) FROM lethe.batch", as: Int.self)
  }

  /// Apply holds nothing while it waits: another session can lock all rows.
  private static func expectNothingIsHeld(_ fixture: PipelineFixture) async throws {
    let database = fixture.database
    try await database.withConnection { connection throws in
      let open: SQL = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'lethe'
          AND (backend_xid IS NOT NULL OR state LIKE 'idle in transaction%')
          AND pid <> pg_backend_pid()
        """
      #expect(try await connection.query(open).onlyRow(as: Int.self) == 0)
      _ = try await connection.withTransaction { transaction in
        try await transaction.execute("SELECT FROM warehouse.posts FOR UPDATE NOWAIT")
      }
    }
  }

  /// The run was exported without a pace. The current file has one, so apply waits after its first batch. SIGTERM ends
  /// the wait. When the pace is removed from the file, the run continues without waits.
  @Test(arguments: [
    ("{pause_ms: 600000}", "apply waits: pause_ms is 600000"),
    ("{rows_per_second: 1}", "rows, and rows_per_second is 1"),
    ("{wal_rate_max: 1kB}", "of WAL meanwhile, and wal_rate_max is 1 kB"),
  ])
  func applyWaitsAfterABatch(apply: String, notice: String) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 700)
      let file = try fixture.definitionFile(Self.paced(""))
      try await Self.collect(fixture, file)
      _ = try fixture.definitionFile(Self.paced(apply))
      let program = try Program(
        "lethe", ["apply", file, "--output", "json"], environment: fixture.environment)
      while try await Self.batches(fixture) == 0 { try await pollingPause() }
      try await Self.expectNothingIsHeld(fixture)
      program.send(signal: SIGTERM)
      let result = await program.ended()
      #expect(result.code == 75, "\(result.stderr)")
      #expect(try await Self.batches(fixture) == 1, "\(result.stderr)")
      #expect(result.stderr.contains(notice), "\(result.stderr)")

      _ = try fixture.definitionFile(Self.paced(""))
      let rest = try await Self.lethe(fixture, "run", file)
      #expect(rest.code == 0, "\(rest.stderr)")
      #expect(try await Self.batches(fixture) > 2)
      let datasets = try #require(rest.json["datasets"] as? [String: [String: Any]])
      #expect(datasets["posts"]?["paced_seconds"] as? Double == 0)
    }
  }

  /// The report has the total time of the pauses. It is a part of the time of apply.
  @Test func thePausesAreReported() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 300)
      let file = try fixture.definitionFile(Self.paced("{pause_ms: 20}"))
      let result = try await Self.lethe(fixture, "run", file)
      #expect(result.code == 0, "\(result.stderr)")
      let datasets = try #require(result.json["datasets"] as? [String: [String: Any]])
      let paced = try #require(datasets["posts"]?["paced_seconds"] as? Double)
      let batches = try await Self.batches(fixture)
      #expect(paced >= Double(batches) * 0.015)
      let seconds = try #require(datasets["posts"]?["seconds"] as? [String: Double])
      #expect(try #require(seconds["apply"]) >= paced)
      // A wait of less than a second is not logged.
      #expect(!result.stderr.contains("apply waits"), "\(result.stderr)")
    }
  }

  /// An event that reaches many rows is applied in several transactions, with waits between them.
  @Test func thePauseIsAlsoBetweenThePartsOfALargeEvent() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
        VALUES (1, 'one', now() - interval '1 year', 'deleted', now());
        INSERT INTO warehouse.users (user_id, username, created_at)
        SELECT u, 'user' || u, now() FROM generate_series(1, 50) AS u;
        INSERT INTO platform.accounts (account_id, username, created_at)
        SELECT u, 'user' || u, now() FROM generate_series(2, 50) AS u;
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
        SELECT p, 1, 'text', now() FROM generate_series(1, 500) AS p
        """)
      let file = try fixture.definitionFile { definition in
        let users = definition.components(separatedBy: "  users:")
        let top = users[0].components(separatedBy: "  posts:")[0]
        return top.editing("limits:", to: "apply: {pause_ms: 600000}\nlimits:") + "  users:"
          + users[1].editing("batch: 3", to: "batch: 3\n    batch_rows: 100")
      }
      let program = try Program(
        "lethe", ["run", file, "--output", "json"], environment: fixture.environment)
      while try await Self.batches(fixture) == 0 { try await pollingPause() }
      try await Self.expectNothingIsHeld(fixture)
      program.send(signal: SIGTERM)
      #expect(await program.ended().code == 75)
      let left = try await fixture.value(
        "SELECT count(*) FROM warehouse.posts WHERE author_id = 1", as: Int.self)
      #expect(left == 400)
    }
  }

  // MARK: Standbys

  /// Runs `body` with a pipeline on a server that has a standby.
  private static func withStandby(
    _ body: @Sendable (PipelineFixture, _ standby: OwnServer) async throws -> Void
  ) async throws {
    try await PipelineFixture.with { platform in
      try await withOwnServer { server in
        try await server.withStandby(named: "reports") { standby in
          let fixture = PipelineFixture(
            database: try await server.database(.ledger, .warehouse, .platform),
            service: platform.service, gate: platform.gate, directory: platform.directory)
          try await platform.addSamples(posts: 300)
          try await fixture.addSamples(posts: 300)
          try await body(fixture, standby)
        }
      }
    }
  }

  /// The standby replays nothing, and apply waits before its first batch. When the standby continues, so does apply.
  @Test(arguments: ["1kB", "1ms"])
  func applyWaitsForAStandby(lagMax: String) async throws {
    try await Self.withStandby { fixture, standby in
      let apply = "{replica_lag_max: \(lagMax), replicas: [reports]}"
      let change = Self.paced(apply, batch: 60)
      try await standby.execute("SELECT pg_wal_replay_pause()")
      try await Self.collect(fixture, try fixture.definitionFile(change))
      let notices = Notices()
      let pipeline = try fixture.pipeline(change)
      let report = try await PipelineRuntime.with(
        pipeline, workDirectory: fixture.workDirectory, logger: notices.logger
      ) { runtime in
        async let applied = runtime.apply()
        try await notices.waitForNotice { $0.contains("apply waits: the standby reports lags") }
        #expect(try await Self.batches(fixture) == 0)
        try await Self.expectNothingIsHeld(fixture)
        try await standby.execute("SELECT pg_wal_replay_resume()")
        return try await applied
      }
      #expect(report.waiting == 0)
      #expect(try await Self.batches(fixture) > 1)
      #expect(notices.all.contains { $0.contains("apply goes on after") }, "\(notices.all)")
      let paced = try #require(report.runs.last?.datasets["posts"]?.pacedSeconds)
      #expect(paced > 0)
    }
  }

  /// The standby replays nothing, but the role does not see that. Apply warns once, and does not wait.
  @Test func aRoleThatDoesNotSeeTheLagIsWarned() async throws {
    try await Self.withStandby { fixture, standby in
      try await fixture.execute(
        """
        CREATE ROLE nightly;
        GRANT pg_read_all_data, pg_write_all_data TO nightly;
        """)
      try await standby.execute("SELECT pg_wal_replay_pause()")
      let file = try fixture.definitionFile {
        Self.paced("{replica_lag_max: 1kB}")($0).editing(
          "${DATABASE_URL}", to: "${DATABASE_URL}?options=-c%20role%3Dnightly")
      }
      let remedy = "GRANT pg_read_all_stats TO nightly"
      let check = try await Self.lethe(fixture, "check", file)
      #expect(check.code == 0, "\(check.stdout) \(check.stderr)")
      #expect(check.stdout.contains(remedy), "\(check.stdout)")
      let run = try await Self.lethe(fixture, "run", file)
      #expect(run.code == 0, "\(run.stderr)")
      #expect(try await Self.batches(fixture) > 1)
      #expect(run.stderr.ranges(of: remedy).count == 1, "\(run.stderr)")

      let grants = try await Program.run(
        "lethe", ["check", file, "--grants", "--role", "nightly"],
        environment: fixture.environment)
      #expect(grants.stdout.contains("GRANT pg_read_all_stats TO \"nightly\";"))
      try await fixture.execute(SQL(trusted: remedy))
      let again = try await Self.lethe(fixture, "check", file)
      #expect(!again.stdout.contains("apply.replica_lag_max"), "\(again.stdout)")
    }
  }

  // MARK: The archive

  @Test func theArchivesStateIsRead() async throws {
    try await withOwnServer("archive_mode = on", "archive_command = 'false'") { server in
      let database = try await server.database()
      let pace = ApplyPace(walRateMax: ByteSize(bytes: 1 << 20))
      try await database.withConnection { connection throws in
        try await connection.execute("SELECT pg_switch_wal()")
        try await Self.until("failed_count > 0", on: connection)
        #expect(try await pace.warnings(on: connection) == [.archiveFailing])
        try await connection.execute("ALTER SYSTEM SET archive_command = 'true'")
        try await connection.execute("SELECT pg_reload_conf()")
        try await Self.until("last_archived_time > last_failed_time", on: connection)
        #expect(try await pace.warnings(on: connection) == [])

        let (observation, wal) = try await PaceObservation.observed(for: pace, on: connection)
        let archive = try #require(observation.archive)
        let waiting = try #require(archive.waiting)
        let isInLastFile = try await connection.query(
          """
          SELECT pg_walfile_name('0/0'::pg_lsn + \(wal - waiting.bytes - 1)::numeric) = last_archived_wal
          FROM pg_stat_archiver
          """
        ).onlyRow(as: Bool.self)
        #expect(isInLastFile)
      }
    }
  }

  private static func until(_ condition: SQL, on connection: Connection) async throws {
    while try await !connection.query(
      "SELECT coalesce(\(condition), false) FROM pg_stat_archiver"
    ).onlyRow(as: Bool.self) { try await pollingPause() }
  }
}

/// Collects notices, and can wait for one.
private final class Notices: Sendable {
  private let messages = Mutex<[String]>([])

  var all: [String] { messages.withLock { $0 } }

  var logger: Logger {
    Logger(label: "test") { _ in Handler(notices: self) }
  }

  /// Waits until there is a notice for which the condition is true.
  func waitForNotice(where condition: (String) -> Bool) async throws {
    while !all.contains(where: condition) {
      try await pollingPause()
    }
  }

  private struct Handler: LogHandler {
    let notices: Notices
    var logLevel = Logger.Level.notice
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { notices.messages.withLock { $0.append("\(event.message)") } }
  }
}
