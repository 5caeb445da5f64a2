import ComplianceAPI
import Definitions
import Foundation
import Logging
import PostgreSQL
import Runtime
import SQLText
import Synchronization
import TestSupport
import Testing
import Warehouse

/// A pipeline over several runs. The test sets the API's answers about the IDs. The fixture checks the conditions that
/// must be true after every run, for any answers.
///
/// The schema `shop` is the warehouse. The schema `before` has a copy of the warehouse in which no row is hidden.
/// `change` makes an operator's change in both schemas. So a row that no ID hides must be equal to the row in the copy.
/// A row that an ID hides must be equal to the row in the copy except for the columns that hide the row.
final class NightlyFixture: Sendable {
  struct ID: Hashable, Sendable {
    let type: String
    let id: Int64
  }

  struct State: Sendable {
    var definition: String
    var answers: [ID: String] = [:]
    /// By type: the body of a result that replaces the lines of `answers`.
    var bodies: [String: String] = [:]
    /// The IDs that are protected. Of the answers that set or end a protection, the newest counts.
    var hiding: Set<ID> = []
    /// Posts that the operator made visible while they were hidden.
    var madeVisible: Set<Int64> = []
  }

  let url: String
  private let api: String
  private let directory: String
  /// Whether a run calls its stages one after the other. Otherwise it is one call of `PipelineRuntime.run`.
  private let runsStagesSeparately: Bool
  private let state: Box

  private final class Box: Sendable {
    let state: Mutex<State>
    init(_ state: State) { self.state = Mutex(state) }
  }

  private init(url: String, api: String, directory: String, runsStagesSeparately: Bool, state: Box)
  {
    (self.url, self.api, self.directory) = (url, api, directory)
    (self.runsStagesSeparately, self.state) = (runsStagesSeparately, state)
  }

  /// Runs `body` with the tables and the pipeline of a shop.
  static func with(
    _ shop: Shop, _ rows: String, _ body: @escaping @Sendable (NightlyFixture) async throws -> Void
  ) async throws {
    try await with(
      definition: shop.definition, tables: "\(Shop.tables)\n\(shop.more);\n\(rows)",
      runsStagesSeparately: shop.order != .run, body)
  }

  /// Runs `body` with any tables. The statements that create them run in the schemas `shop` and `before`.
  static func with(
    definition: String, tables: String, runsStagesSeparately: Bool = false,
    _ body: @escaping @Sendable (NightlyFixture) async throws -> Void
  ) async throws {
    try await withTestDatabase(.ledger) { database in
      let box = Box(State(definition: definition))
      let script = ScriptedAPI.Script(resultByType: { type, ids in
        box.state.withLock { answer(&$0, type, ids) }
      })
      try await ScriptedAPI(script).serving { api in
        let directory = FileManager.default.temporaryDirectory
          .appending(path: "nights-\(database.name)").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let nights = NightlyFixture(
          url: database.url, api: api, directory: directory,
          runsStagesSeparately: runsStagesSeparately, state: box)
        try await nights.execute("CREATE SCHEMA shop; CREATE SCHEMA before")
        try await nights.change(SQL(trusted: tables))
        try await body(nights)
      }
    }
  }

  /// A copy of this fixture for another server. The database was moved to that server.
  func moved(to url: String) -> NightlyFixture {
    NightlyFixture(
      url: url, api: api, directory: directory, runsStagesSeparately: runsStagesSeparately,
      state: state)
  }

  private static func answer(_ state: inout State, _ type: String, _ ids: [Int64]) -> String {
    if let body = state.bodies[type] {
      // A body of only white space means that all IDs are clean.
      if body.allSatisfy(\.isWhitespace) {
        for id in ids { state.hiding.remove(ID(type: type, id: id)) }
      }
      return body
    }
    var lines = ""
    for id in ids {
      let key = ID(type: type, id: id)
      let reason = state.answers[key]
      switch reason {
      case "protected": state.hiding.insert(key)
      case nil, "geo_scrubbed", "tweet_edited": state.hiding.remove(key)
      default: break
      }
      guard let reason else { continue }
      let action = ["geo_scrubbed": "scrub_geo", "tweet_edited": "rehydrate"][reason] ?? "delete"
      lines += CollectTests.event(id, action, reason)
    }
    return lines
  }

  // MARK: The operator

  /// The text that an edit replaces does not occur exactly once, or the dataset does not exist.
  struct EditError: Error {
    let text: String
    let occurrences: Int
  }

  /// Edits the definition between two runs.
  /// - Parameter dataset: the dataset in which the text is searched. Nil means the whole definition.
  /// - Throws: `EditError` unless the dataset exists and the text occurs exactly once.
  func edit(_ old: String, to new: String, of dataset: String? = nil) throws {
    try state.state.withLock { state in
      let whole = state.definition
      var part = whole.startIndex..<whole.endIndex
      if let dataset {
        guard let first = whole.range(of: "\n  \(dataset):\n") else {
          throw EditError(text: dataset, occurrences: 0)
        }
        let next = whole.range(
          of: "\n  [a-z_]+:\n", options: .regularExpression,
          range: first.upperBound..<whole.endIndex)
        part = first.lowerBound..<(next?.lowerBound ?? whole.endIndex)
      }
      let pieces = whole[part].components(separatedBy: old)
      guard pieces.count == 2 else { throw EditError(text: old, occurrences: pieces.count - 1) }
      state.definition.replaceSubrange(part, with: pieces.joined(separator: new))
    }
  }

  var definition: String { state.state.withLock { $0.definition } }

  /// Runs statements once, in the database of the warehouse.
  /// - Parameter schema: the schema for names without a schema. Nil: the default search path.
  func execute(_ sql: SQL, in schema: String? = nil) async throws {
    try await Connection.withConnection(ConnectionString(url)) { connection in
      if let schema {
        try await connection.execute("SET search_path = \(identifier: schema), public")
      }
      // A script of several statements cannot have parameter values.
      if sql.statement.parameters.isEmpty {
        try await connection.runScript(sql)
      } else {
        try await connection.execute(sql)
      }
    }
  }

  /// Makes an operator's change in the warehouse and in its copy. The names in the statements have no schema.
  /// - Parameter madeVisible: hidden posts that this change makes visible.
  func change(_ sql: SQL, makesVisible madeVisible: Set<Int64> = []) async throws {
    try await execute(sql, in: "shop")
    try await changeCopy(sql)
    state.state.withLock { $0.madeVisible.formUnion(madeVisible) }
    try await waitForOtherDatabases()
  }

  /// Waits until the transactions of other tests have ended. While a transaction that started before a change is open,
  /// Lethe does not count the change as older than an export.
  func waitForOtherDatabases() async throws {
    try await Connection.withConnection(ConnectionString(url)) {
      try await $0.waitForOtherDatabases()
    }
  }

  /// Makes a change only in the copy. The test uses it for changes that Lethe makes in the warehouse, so that the two
  /// are equal after the run.
  func changeCopy(_ sql: SQL) async throws {
    try await execute(sql, in: "before")
  }

  // MARK: A run

  /// - Parameters:
  ///   - posts: the reasons in the answers of type tweets, by ID. An ID that is not in the dictionary is clean.
  ///   - users: the same for type users.
  ///   - between: is called when all results are collected and none is applied.
  ///   - stillHidden: posts that no ID hides any more, but that Lethe cannot restore yet.
  /// - Returns: the report of the run.
  @discardableResult
  func run(
    _ posts: [Int64: String] = [:], _ users: [Int64: String] = [:],
    stillHidden: Set<Int64> = [], status: RunReport.Status = .done, checks: Bool = true,
    between: (@Sendable () async throws -> Void)? = nil,
    at location: SourceLocation = #_sourceLocation
  ) async throws -> RunReport {
    let both =
      posts.map { (ID(type: "tweets", id: $0), $1) }
      + users.map { (ID(type: "users", id: $0), $1) }
    answer(Dictionary(uniqueKeysWithValues: both))
    let report: RunReport
    if runsStagesSeparately || between != nil {
      report = try await withRuntime { runtime in
        try await self.collect(runtime)
        try await between?()
        return try #require(try await runtime.apply().runs.last)
      }
    } else {
      report = try #require(try await withRuntime { try await $0.run() }.last)
    }
    #expect(
      report.status == status, "\(report.failures) \(report.refused)", sourceLocation: location)
    if checks { try await expectRows(stillHidden: stillHidden, at: location) }
    return report
  }

  /// Sets the API's answers from now on.
  func answer(_ answers: [ID: String]) {
    state.state.withLock { $0.answers = answers }
  }

  /// Sets the body of all results of a type. Nil means that the results have the lines of the answers.
  func answer(_ type: String, body: String?) {
    state.state.withLock { $0.bodies[type] = body }
  }

  /// Runs all stages except apply.
  func collect(_ runtime: PipelineRuntime) async throws {
    _ = try await runtime.export()
    while try await runtime.submit().chunks > 0 { _ = try await runtime.awaitJobs() }
    _ = try await runtime.collect()
  }

  func withRuntime<R: Sendable>(
    _ body: @escaping @Sendable (PipelineRuntime) async throws -> R
  ) async throws -> R {
    try await PipelineRuntime.with(
      try pipeline(), workDirectory: directory + "/work",
      retry: .init(attemptsMax: 8, delaySecondsFirst: 0.01, delaySecondsMax: 0.05),
      logger: PipelineFixture.logger, body)
  }

  private var environment: [String: String] {
    [
      "DATABASE_URL": url, "COMPLIANCE_API_URL": api, "X_BEARER_TOKEN": "t",
      "LETHE_WORK_DIR": directory + "/work",
    ]
  }

  func pipeline() throws -> Pipeline {
    try Pipeline.parse(yaml: definition, file: "shop.yaml", environment: environment)
  }

  func findings() async throws -> [Finding] {
    try await PipelineRuntime.findings(of: try pipeline())
  }

  /// Runs the program. The argument PIPELINE is replaced by a file with the definition.
  func lethe(_ arguments: String...) async throws -> Program.Result {
    try await lethe(arguments)
  }

  func lethe(_ arguments: [String]) async throws -> Program.Result {
    try await lethe(arguments, of: "shop", definition)
  }

  /// Runs the program for a pipeline with its own definition and its own folder of chunk files.
  func lethe(
    _ arguments: [String], of pipeline: String, _ definition: String
  ) async throws -> Program.Result {
    try FileManager.default.createDirectory(
      atPath: directory, withIntermediateDirectories: true)
    let file = directory + "/\(pipeline).yaml"
    try definition.write(toFile: file, atomically: true, encoding: .utf8)
    var environment = environment
    if pipeline != "shop" { environment["LETHE_WORK_DIR"] = directory + "/work-\(pipeline)" }
    return try await Program.run(
      "lethe", arguments.map { $0 == "PIPELINE" ? file : $0 }, environment: environment)
  }

  // MARK: Expected state

  /// The rows of a query, each as text, sorted.
  func rows(_ sql: SQL) async throws -> [String] {
    let rows = try await Connection.withConnection(ConnectionString(url)) {
      try await $0.query("SELECT q::text FROM (\(sql)) AS q").rows(as: String.self)
    }
    return rows.sorted()
  }

  /// A post's visibility. Nil for NULL, and for a post that does not exist.
  func visibility(_ post: Int64) async throws -> String? {
    try await Connection.withConnection(ConnectionString(url)) {
      try await $0.query(
        "SELECT visibility FROM shop.posts WHERE post_id = \(post)"
      ).rows(as: String?.self).first ?? nil
    }
  }

  /// Compares the shop's posts and users with their copy.
  func expectRows(
    stillHidden: Set<Int64> = [], at location: SourceLocation = #_sourceLocation
  ) async throws {
    let (hiding, answers) = state.state.withLock { ($0.hiding, $0.answers) }
    func isHidden(_ post: ShopRow) -> Bool {
      hiding.contains(ID(type: "tweets", id: post.id))
        || hiding.contains(ID(type: "users", id: post.author)) || stillHidden.contains(post.id)
    }
    // If the operator made a hidden row visible, the answer `protected` hides the row again.
    func isHiddenAgain(_ post: ShopRow) -> Bool {
      answers[ID(type: "tweets", id: post.id)] == "protected"
        || answers[ID(type: "users", id: post.author)] == "protected"
    }
    let posts = "post_id, author_id"
    let now = try await shopRows("shop.posts", posts)
    let hiddenAgain = now.filter { isHiddenAgain($0) }.map(\.id)
    let madeVisible = state.state.withLock { state in
      state.madeVisible.subtract(hiddenAgain)
      return state.madeVisible
    }
    var differences = ShopRow.differences(
      "post", now, try await shopRows("before.posts", posts),
      hidden: Set(now.filter { isHidden($0) && !madeVisible.contains($0.id) }.map(\.id)))
    let users = try await shopRows("shop.users", "user_id, user_id")
    differences += ShopRow.differences(
      "user", users, try await shopRows("before.users", "user_id, user_id"),
      hidden: Set(users.map(\.id).filter { hiding.contains(ID(type: "users", id: $0)) }))
    #expect(differences == [], sourceLocation: location)
  }

  private func shopRows(_ table: String, _ ids: String) async throws -> [ShopRow] {
    // The columns that hide rows are compared separately.
    try await Connection.withConnection(ConnectionString(url)) {
      try await $0.query(
        """
        SELECT ARRAY[\(trusted: ids)]::bigint[]::text, visibility,
               (to_jsonb(t) - '{visibility,searchable}'::text[])::text,
               to_jsonb(t)::text
        FROM \(trusted: table) AS t ORDER BY \(trusted: ids)
        """
      ).rows(as: String.self, String?.self, String.self, String.self)
    }.map { ids, visibility, others, all in
      let ids = ids.dropFirst().dropLast().split(separator: ",").compactMap { Int64($0) }
      return ShopRow(
        id: ids[0], author: ids[1], visibility: visibility, others: others, all: all)
    }
  }
}

/// One row of the shop's posts or users.
private struct ShopRow {
  let id: Int64
  let author: Int64
  let visibility: String?
  /// The columns that do not hide the row.
  let others: String
  let all: String

  private static let visibleValues: Set<String?> = ["public", "internal", "friends", nil]

  static func differences(
    _ what: String, _ now: [ShopRow], _ before: [ShopRow], hidden: Set<Int64>
  ) -> [String] {
    var differences: [String] = []
    let expected = Dictionary(uniqueKeysWithValues: before.map { ($0.id, $0) })
    for row in now {
      guard let copy = expected[row.id] else {
        differences.append("\(what) \(row.id) is still there")
        continue
      }
      if hidden.contains(row.id) {
        if visibleValues.contains(row.visibility) {
          differences.append("\(what) \(row.id) is visible: \(row.visibility ?? "NULL")")
        }
        if row.others != copy.others {
          differences.append("\(what) \(row.id) is \(row.others) and not \(copy.others)")
        }
      } else if row.all != copy.all {
        differences.append("\(what) \(row.id) is \(row.all) and not \(copy.all)")
      }
    }
    let left = Set(now.map(\.id))
    differences += before.filter { !left.contains($0.id) }.map { "\(what) \($0.id) is gone" }
    return differences
  }
}
