import ComplianceAPI
import ComplianceService
import CrashPoints
import FaultPlans
import Foundation
import Logging
import PostgreSQL
import SystemPackage
import TestSupport
import Testing
import Vocabulary

/// A scenario with its own database and service.
struct CrashFixture: Sendable {
  let scenario: CrashScenario
  let database: TestDatabase
  let service: String
  let directory: String

  /// Runs `body` at the beginning of the scenario's night.
  static func with<R: Sendable>(
    _ scenario: CrashScenario, _ profile: WireProfile, _ body: (CrashFixture) async throws -> R
  ) async throws -> R {
    try await withTestDatabase(
      copyOf: "first night", .ledger, .warehouse, .platform, preparing: spendFirstNight
    ) { database in
      // The compilation of large statements takes longer than their execution on a few rows.
      try await database.withConnection {
        _ = try await $0.execute("ALTER DATABASE \(identifier: database.name) SET jit = off")
      }
      return try await serve(scenario, profile, database) { fixture in
        try await database.withConnection {
          try await $0.runScript(scenario.changes)
          if profile == .gcs { try await $0.runScript(CrashScenario.expiries) }
        }
        try await fixture.prepare()
        return try await body(fixture)
      }
    }
  }

  private static func spendFirstNight(_ database: TestDatabase) async throws {
    try await serve(nil, .native, database) { fixture in
      try await database.withConnection { try await $0.runScript(CrashScenario.firstNight) }
      let ending = try await fixture.lethe(
        ["run"], definition: CrashScenario.definition(postColumn: "visibility"))
      #expect(ending.code == 0, "\(ending.stderr)")
    }
    // The next night has a service with another folder.
    try await database.withConnection {
      try await $0.runScript("DELETE FROM compliance.jobs; DELETE FROM compliance.spool")
    }
  }

  private static func serve<R: Sendable>(
    _ scenario: CrashScenario?, _ profile: WireProfile, _ database: TestDatabase,
    _ body: (CrashFixture) async throws -> R
  ) async throws -> R {
    let directory = FileManager.default.temporaryDirectory
      .appending(path: "crash-\(database.name)").path
    try FileManager.default.createDirectory(
      atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    var configuration = ComplianceServer.Configuration(
      database: database.connectionString, tokens: [AppToken(PipelineFixture.token)],
      spool: FilePath(directory + "/spool"),
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    configuration.rateLimit = nil
    configuration.profile = profile
    if let bytesMax = scenario?.uploadBytesMax {
      (configuration.uploadBytesMax, configuration.storageUploadBytesMax) = (bytesMax, bytesMax)
    }
    let faults = scenario?.faults ?? []
    if !faults.isEmpty {
      configuration.faults = try FaultPlan(
        yaml: "faults:\n" + faults.map { "  - \($0)\n" }.joined(), file: "plan.yaml")
    }
    return try await ComplianceServer.withRunning(configuration) { address in
      try await body(
        CrashFixture(
          scenario: scenario ?? .night, database: database, service: address.url,
          directory: directory))
    }
  }

  // MARK: The programs

  var workDirectory: String { directory + "/work" }

  /// The folder in which the night begins. `workDirectory` is the folder in which it continues.
  private var firstWorkDirectory: String {
    scenario.isMoved ? directory + "/first" : workDirectory
  }

  /// Runs a command on the pipeline.
  func lethe(
    _ arguments: [String], _ variables: [String: String] = [:], definition: String? = nil,
    in folder: String? = nil
  ) async throws -> Program.Result {
    let file = directory + "/night.yaml"
    try (definition ?? scenario.definition).write(toFile: file, atomically: true, encoding: .utf8)
    return try await Program.run(
      "lethe", [arguments[0], file] + arguments.dropFirst(),
      environment: [
        "DATABASE_URL": database.url, "X_BEARER_TOKEN": PipelineFixture.token,
        "COMPLIANCE_API_URL": service, "LETHE_WORK_DIR": folder ?? workDirectory,
      ].merging(variables) { $1 })
  }

  /// Runs the night, or continues it if it has begun.
  /// - Returns: nil if the night is over.
  func runNight(_ variables: [String: String] = [:]) async throws -> Program.Result? {
    let (nights, isOver) = try await database.withConnection {
      try await $0.query(
        "SELECT count(*), coalesce(bool_and(finished_at IS NOT NULL), false) FROM lethe.run"
      ).onlyRow(as: Int.self, Bool.self)
    }
    if nights > 1, isOver { return nil }
    return try await lethe(["run"] + (nights > 1 ? ["--resume-only"] : []), variables)
  }

  /// The exit code of a process that has lost its lease.
  static let lostLease: Int32 = 6

  /// Runs the night to its end, again if a process has lost its lease.
  func finishNight(_ variables: [String: String] = [:]) async throws -> [Program.Result] {
    var endings: [Program.Result] = []
    repeat {
      guard let ending = try await runNight(variables) else { break }
      endings.append(ending)
    } while scenario == .lostLease && endings.last?.code == Self.lostLease && endings.count < 3
    return endings
  }

  // MARK: Before the night

  /// Puts a job of no chunk into the slot, or interrupts a run.
  private func prepare() async throws {
    if scenario.hasOrphan {
      let key = try await value("SELECT key FROM lethe.run", as: String.self)
      try await ComplianceClient.withClient(
        baseURL: service, token: BearerToken(PipelineFixture.token), allowedHosts: ["127.0.0.2"],
        logger: PipelineFixture.logger
      ) { client in
        _ = try await client.createJob(type: .tweets, name: "lethe-\(key)-c999-a1-00000000")
      }
    }
    guard let point = scenario.formerPoint else { return }
    if scenario.isMoved {
      let exported = try await lethe(["export"], in: firstWorkDirectory)
      #expect(exported.code == 0, "\(exported.stderr)")
    }
    let interrupted = try await lethe(
      [scenario.isMoved ? "submit" : "run"], ["LETHE_CRASH_POINT": point.description],
      in: firstWorkDirectory)
    #expect(interrupted.code == SIGKILL, "\(interrupted.stderr)")
    guard scenario == .lostFiles else { return }
    // The last chunk of posts, and the chunk of users, of which the warehouse has no row any more.
    let paths = try await database.withConnection { connection in
      let paths = try await connection.query(
        """
        SELECT DISTINCT ON (dataset) path FROM lethe.chunk WHERE state = 'exported'
        ORDER BY dataset, number DESC
        """
      ).rows(as: String.self)
      try await connection.execute("DELETE FROM warehouse.users")
      return paths
    }
    for path in paths { try FileManager.default.removeItem(atPath: path) }
  }

  func value<Value: ColumnDecodable & Sendable>(
    _ sql: SQL, as type: Value.Type
  ) async throws -> Value {
    try await database.withConnection { try await $0.query(sql).onlyRow(as: type) }
  }

  // MARK: The outcome

  /// What must be equal after an interrupted and an uninterrupted night.
  func outcome() async throws -> [String] {
    try await database.withConnection { connection in
      var lines: [String] = []
      for (name, query) in Self.compared {
        let rows = try await connection.query("SELECT to_jsonb(q)::text FROM (\(query)) AS q")
          .rows(as: String.self)
        lines += rows.map { "\(name) \($0)" }
      }
      return lines.sorted()
    }
  }

  private static let compared: [(String, SQL)] = [
    ("post", "TABLE warehouse.posts"), ("user", "TABLE warehouse.users"),
    ("media", "TABLE warehouse.post_media"),
    (
      "hold",
      """
      SELECT table_name, row_key, former, set_to, ignores_writers, row_type, row_id,
             (SELECT jsonb_agg(jsonb_build_array(type, id, columns, pipeline, dataset) ORDER BY type, id)
              FROM lethe.holder AS r WHERE r.hold_id = h.hold_id) AS holders
      FROM lethe.hold AS h
      """
    ),
    ("closed hold", "SELECT table_name, row_key, row_type, row_id, outcome FROM lethe.closed_hold"),
    ("tombstone", "SELECT type, id, reason FROM lethe.tombstone"),
    ("to fetch", "SELECT type, id FROM lethe.rehydration"),
    (
      "event",
      """
      SELECT c.dataset, r.run_id, e.id, e.type, e.reason, e.action, e.cause_id, e.changed
      FROM lethe.event AS e JOIN lethe.chunk AS c USING (chunk_id) JOIN lethe.run AS r USING (run_id)
      """
    ),
    (
      "trace",
      """
      SELECT c.dataset, c.run_id, t.id, t.type, t.reason, t.action
      FROM \(trusted: PipelineFixture.tracedEvents) AS t JOIN lethe.chunk AS c USING (chunk_id)
      """
    ),
    (
      "changed rows",
      """
      SELECT c.run_id, c.dataset, h.table_name, h.action, h.reason, sum(h.rows)
      FROM lethe.change AS h JOIN lethe.chunk AS c USING (chunk_id) GROUP BY 1, 2, 3, 4, 5
      """
    ),
    // The ranges depend on which chunk is cut, so each ID is compared.
    (
      "covered",
      """
      SELECT v.dataset, v.type, p.id, count(*), max(c.run_id)
      FROM (SELECT 'posts' AS dataset, 'tweets' AS type, post_id AS id FROM platform.posts
            UNION ALL SELECT 'users', 'users', account_id FROM platform.accounts) AS p
      JOIN (SELECT o.*, k.type, k.run_id FROM lethe.coverage AS o JOIN lethe.chunk AS k USING (chunk_id)) AS v
        ON v.dataset = p.dataset AND p.id BETWEEN v.first_id AND v.last_id
      JOIN lethe.chunk AS c USING (chunk_id)
      GROUP BY 1, 2, 3
      """
    ),
    ("covered IDs", "SELECT dataset, sum(ids) FROM lethe.coverage GROUP BY dataset"),
    ("refusal", "SELECT id, reason, why, resolution FROM lethe.refusal"),
    ("run", "SELECT run_id, status FROM lethe.run"),
    (
      "export",
      "SELECT run_id, dataset, ids, left_out, rows_of_dataset, is_stopped, failure FROM lethe.export"
    ),
    (
      "unfinished chunk",
      """
      SELECT dataset, state, first_id, last_id, is_retryable FROM lethe.chunk WHERE state <> 'applied'
      """
    ),
  ]

  /// The violations of the rules that are true after each night: of the ledger's invariants, and of one job for each
  /// attempt. Nothing may be left in the slots and in the work directories.
  func faults() async throws -> [String] {
    var faults = try await database.withConnection { connection in
      try await connection.query(
        """
        SELECT 'job ' || j.name || ' at the API is of no attempt' FROM compliance.jobs AS j
        WHERE NOT EXISTS (SELECT FROM lethe.job AS l WHERE l.api_id = j.id::text)
          AND j.name NOT LIKE '%-c999-%'
        UNION ALL
        SELECT 'job ' || name || ' at the API is ' || status FROM compliance.jobs
        WHERE status IN ('created', 'in_progress')
        UNION ALL
        SELECT 'the API has ' || count(*) || ' jobs of the name ' || name FROM compliance.jobs
        GROUP BY name HAVING count(*) > 1
        UNION ALL
        SELECT 'chunk ' || chunk_id || ' is ' || state || ' and has no reason to wait' FROM lethe.chunk
        WHERE state NOT IN ('applied', 'failed') AND stopped_reason IS NULL
        """
      ).rows(as: String.self)
    }
    let base = PipelineFixture(
      database: database, service: service, gate: TestGate(), directory: directory)
    faults += try await base.ledgerFaults().filter {
      scenario.isComplete
        || !($0.hasPrefix("chunk ") && $0.contains(" is "))
          && !($0.hasPrefix("run ") && $0.contains(" is "))
          && $0 != "a collected event is left over"
    }
    for folder in Set([workDirectory, firstWorkDirectory]) {
      let files = FileManager.default.subpaths(atPath: folder) ?? []
      if scenario != .halted { faults += files.map { "\(folder)/\($0) is left over" } }
    }
    return faults
  }

  /// The number of attempts that ended without a result.
  func failedAttempts() async throws -> Int {
    try await value(
      "SELECT count(*) FROM lethe.job WHERE ended_at IS NOT NULL AND result_sha256 IS NULL",
      as: Int.self)
  }
}
