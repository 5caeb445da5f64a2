import ComplianceAPI
import ComplianceService
import Definitions
import Foundation
import Ledger
import Logging
import PostgreSQL
import Runtime
import SQLText
import SystemPackage
import TestSupport
import Testing

/// A warehouse, a platform and a running service for the platform. All are in one database, so that a test can compare
/// them with plain SQL.
struct PipelineFixture: Sendable {
  let database: TestDatabase
  let service: String
  let gate: TestGate<ServicePoint>
  let directory: String

  static let token = "a-token-that-nobody-else-has"

  /// Runs `body` with a service on a free port.
  static func with<R: Sendable>(
    _ configure: @Sendable (inout ComplianceServer.Configuration) -> Void = { _ in },
    _ body: (PipelineFixture) async throws -> R
  ) async throws -> R {
    try await withTestDatabase(.ledger, .warehouse, .platform) { database in
      let directory = FileManager.default.temporaryDirectory
        .appending(path: "night-\(database.name)").path
      defer { try? FileManager.default.removeItem(atPath: directory) }
      let gate = TestGate<ServicePoint>()
      var configuration = ComplianceServer.Configuration(
        database: database.connectionString, tokens: [AppToken(token)],
        spool: FilePath(directory + "/spool"),
        logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
      configuration.gate = { await gate.pass($0) }
      // The tests poll much more often than the API allows.
      configuration.rateLimit = nil
      configure(&configuration)
      return try await ComplianceServer.withRunning(configuration) { address in
        let fixture = PipelineFixture(
          database: database, service: address.url, gate: gate, directory: directory)
        return try await body(fixture)
      }
    }
  }

  /// The same fixture with another database for the warehouse and the ledger.
  func with(_ database: TestDatabase) -> PipelineFixture {
    PipelineFixture(database: database, service: service, gate: gate, directory: directory)
  }

  // MARK: The pipeline

  var workDirectory: String { directory + "/work" }

  var environment: [String: String] {
    [
      "DATABASE_URL": database.url, "X_BEARER_TOKEN": Self.token,
      "COMPLIANCE_API_URL": service, "LETHE_WORK_DIR": workDirectory,
    ]
  }

  /// The pipeline of the reference warehouse. Its chunks and batches are small, so that a test has several of
  /// each.
  static let definition = """
    name: night
    warehouse: ${DATABASE_URL}
    api:
      base_url: ${COMPLIANCE_API_URL}
      bearer_token: ${X_BEARER_TOKEN}
      poll_seconds: 0.02
      poll_seconds_max: 0.05
    limits: {max_redacted_percent: 60, max_redacted_rows: 100000, max_restored_percent: 100}
    datasets:
      posts:
        type: tweets
        table: warehouse.posts
        id: post_id
        chunk: {ids: 700}
        batch: 20
        actions:
          deleted: delete
          bounced: delete
          suspended: delete
          deactivated: delete
          protected: {protect: {set: {visibility: protected}, restore: {visibility: public}}}
          geo_scrubbed: {scrub_geo: [latitude, longitude, place_id]}
          tweet_edited: rehydrate
        targets:
          - table: warehouse.post_media
            match: post_id
            actions: {deleted: delete, bounced: delete, suspended: delete, deactivated: delete}
          - table: warehouse.reposts
            match: reposted_post_id
            id: repost_id
            type: tweets
            actions: {deleted: delete, bounced: delete, suspended: delete, deactivated: delete}
      users:
        type: users
        table: warehouse.users
        id: user_id
        batch: 3
        actions:
          deleted: delete
          suspended: delete
          deactivated: delete
          protected: {protect: {set: {visibility: protected}, restore: {visibility: public}}}
        targets:
          - table: warehouse.posts
            match: author_id
            id: post_id
            type: tweets
            actions:
              deleted: delete
              suspended: delete
              deactivated: delete
              protected: {protect: {set: {visibility: protected}, restore: {visibility: public}}}
            targets:
              - table: warehouse.post_media
                match: post_id
                actions: {deleted: delete, suspended: delete, deactivated: delete}
              - table: warehouse.reposts
                match: reposted_post_id
                id: repost_id
                type: tweets
                actions: {deleted: delete, suspended: delete, deactivated: delete}
    """

  /// - Parameters:
  ///   - api: the API's URL. Nil means the fixture's service.
  ///   - change: changes the text of the definition.
  func pipeline(
    api: String? = nil, _ change: (String) -> String = { $0 }
  ) throws -> Pipeline {
    try Pipeline.parse(
      yaml: change(Self.definition), file: "night.yaml",
      environment: environment.merging(api.map { ["COMPLIANCE_API_URL": $0] } ?? [:]) { $1 })
  }

  static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  /// Runs `body` with a runtime of the pipeline in this process, with short delays between retries.
  func withRuntime<R: Sendable>(
    _ pipeline: Pipeline, _ body: @escaping @Sendable (PipelineRuntime) async throws -> R
  ) async throws -> R {
    try await PipelineRuntime.with(
      pipeline, as: .first, workDirectory: workDirectory,
      retry: .init(attemptsMax: 8, delaySecondsFirst: 0.01, delaySecondsMax: 0.05),
      logger: Self.logger, body)
  }

  /// Runs `body` while, according to the ledger, a process on another machine works on the pipeline.
  func withOtherWorker<R: Sendable>(_ body: () async throws -> R) async throws -> R {
    let worker = WorkerLedger(lease: Lease(), seconds: 3600)
    try await database.withConnection { connection in
      try await worker.begin(
        "lethe run",
        ProcessIdentity(
          host: "elsewhere", processID: 812, bootID: "other", pidNamespace: "other", start: 1),
        on: connection)
      let claim = try await worker.enter("night", as: .alone, on: connection) { _ in false }
      #expect(claim == .started(former: []))
    }
    let result = try await body()
    try await database.withConnection { try await worker.end(on: $0) }
    return result
  }

  /// Writes the definition to a file for the program, and returns the file's path.
  func definitionFile(_ change: (String) -> String = { $0 }) throws -> String {
    try FileManager.default.createDirectory(
      atPath: directory, withIntermediateDirectories: true)
    let path = directory + "/night.yaml"
    try change(Self.definition).write(toFile: path, atomically: true, encoding: .utf8)
    return path
  }

  // MARK: SQL

  func execute(_ sql: SQL) async throws {
    try await database.withConnection { connection in
      // A script of several statements cannot have parameter values.
      if sql.statement.parameters.isEmpty {
        try await connection.runScript(sql)
      } else {
        try await connection.execute(sql)
      }
    }
  }

  func value<Value: ColumnDecodable & Sendable>(
    _ sql: SQL, as type: Value.Type
  ) async throws -> Value {
    try await database.withConnection { try await $0.query(sql).onlyRow(as: type) }
  }
}
