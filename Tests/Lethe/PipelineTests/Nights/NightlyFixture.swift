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

/// A pipeline through several nights, whose answers the test writes, and what every night has to leave
/// whatever the answers were.
///
/// The schema `shop` is the warehouse. Its copy in the schema `before` is the warehouse as it would be if
/// nobody was protected: what the operator does, `change`, is done to both. So a row that nobody hides has
/// to be the copy's row, and a row that somebody hides has to be the copy's row but for the columns that
/// hide it.
final class NightlyFixture: Sendable {
  struct ID: Hashable, Sendable {
    let type: String
    let id: Int64
  }

  struct State: Sendable {
    var definition: String
    var answers: [ID: String] = [:]
    /// By type: a body that comes instead of the answers.
    var bodies: [String: String] = [:]
    /// Who was protected by the newest answer that says so or takes it back.
    var hiding: Set<ID> = []
    /// Posts that the operator has opened while they were hidden.
    var opened: Set<Int64> = []
  }

  let url: String
  private let api: String
  private let directory: String
  private let stageWise: Bool
  private let state: Box

  private final class Box: Sendable {
    let state: Mutex<State>
    init(_ state: State) { self.state = Mutex(state) }
  }

  private init(url: String, api: String, directory: String, stageWise: Bool, state: Box) {
    (self.url, self.api, self.directory) = (url, api, directory)
    (self.stageWise, self.state) = (stageWise, state)
  }

  /// Runs `body` over a shop.
  static func with(
    _ shop: Shop, _ rows: String, _ body: @escaping @Sendable (NightlyFixture) async throws -> Void
  ) async throws {
    try await with(
      definition: shop.definition, tables: "\(Shop.tables)\n\(shop.more);\n\(rows)",
      stageWise: shop.way != .run, body)
  }

  /// Runs `body` over any tables; the statements that make them run in the schemas `shop` and `before`.
  static func with(
    definition: String, tables: String, stageWise: Bool = false,
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
          url: database.url, api: api, directory: directory, stageWise: stageWise, state: box)
        try await nights.execute("CREATE SCHEMA shop; CREATE SCHEMA before")
        try await nights.change(SQL(trusted: tables))
        try await body(nights)
      }
    }
  }

  /// The same nights over another server, to which the database was brought.
  func moved(to url: String) -> NightlyFixture {
    NightlyFixture(url: url, api: api, directory: directory, stageWise: stageWise, state: state)
  }

  private static func answer(_ state: inout State, _ type: String, _ ids: [Int64]) -> String {
    if let body = state.bodies[type] {
      // Nothing but white space says that all are clean.
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

  struct Misplaced: Error {
    let text: String
    let places: Int
  }

  /// Edits the definition between two nights.
  /// - Parameter dataset: looks for the text in this dataset alone.
  /// - Throws: `Misplaced` unless the text is there exactly once.
  func edit(_ old: String, to new: String, of dataset: String? = nil) throws {
    try state.state.withLock { state in
      let whole = state.definition
      var part = whole.startIndex..<whole.endIndex
      if let dataset {
        guard let first = whole.range(of: "\n  \(dataset):\n") else {
          throw Misplaced(text: dataset, places: 0)
        }
        let next = whole.range(
          of: "\n  [a-z_]+:\n", options: .regularExpression,
          range: first.upperBound..<whole.endIndex)
        part = first.lowerBound..<(next?.lowerBound ?? whole.endIndex)
      }
      let pieces = whole[part].components(separatedBy: old)
      guard pieces.count == 2 else { throw Misplaced(text: old, places: pieces.count - 1) }
      state.definition.replaceSubrange(part, with: pieces.joined(separator: new))
    }
  }

  var definition: String { state.state.withLock { $0.definition } }

  /// Runs statements as they are.
  /// - Parameter schema: where names without one are looked for.
  func execute(_ sql: SQL, in schema: String? = nil) async throws {
    try await Connection.withConnection(ConnectionString(url)) { connection in
      if let schema {
        try await connection.execute("SET search_path = \(identifier: schema), public")
      }
      // A script of several statements takes no values.
      if sql.statement.parameters.isEmpty {
        try await connection.runScript(sql)
      } else {
        try await connection.execute(sql)
      }
    }
  }

  /// What the operator does to the warehouse, with names that have no schema.
  /// - Parameter opened: posts that are hidden, and that this opens.
  func change(_ sql: SQL, opens opened: Set<Int64> = []) async throws {
    try await execute(sql, in: "shop")
    try await declare(sql)
    state.state.withLock { $0.opened.formUnion(opened) }
    try await waitForOtherDatabases()
  }

  /// A transaction of another test that began before a change keeps the change from counting as older than the export.
  func waitForOtherDatabases() async throws {
    try await Connection.withConnection(ConnectionString(url)) {
      try await $0.waitForOtherDatabases()
    }
  }

  /// Says what Lethe has to have done to the rows: it is done to the copy alone.
  func declare(_ sql: SQL) async throws {
    try await execute(sql, in: "before")
  }

  // MARK: A night

  /// - Parameters:
  ///   - posts: by ID, the reasons of the answers of type tweets; an ID that is not named comes back clean.
  ///   - users: the same of type users.
  ///   - between: happens when all results are collected and none is applied.
  ///   - stillHidden: posts that nobody hides any more and that have to wait.
  /// - Returns: the report of the night's run.
  @discardableResult
  func night(
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
    if stageWise || between != nil {
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

  /// Sets what the API answers from now on.
  func answer(_ answers: [ID: String]) {
    state.state.withLock { $0.answers = answers }
  }

  /// The body that comes for a type's jobs, whatever they ask; nil for the answers.
  func answer(_ type: String, body: String?) {
    state.state.withLock { $0.bodies[type] = body }
  }

  /// All stages but apply.
  func collect(_ runtime: PipelineRuntime) async throws {
    _ = try await runtime.export()
    while try await runtime.submit().chunks > 0 { _ = try await runtime.awaitJobs() }
    _ = try await runtime.collect()
  }

  func withRuntime<R: Sendable>(
    _ body: @Sendable (PipelineRuntime) async throws -> R
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

  /// Runs the program; the word PIPELINE becomes a file with the definition.
  func lethe(_ arguments: String...) async throws -> Program.Ending {
    try await lethe(arguments)
  }

  func lethe(_ arguments: [String]) async throws -> Program.Ending {
    try FileManager.default.createDirectory(
      atPath: directory, withIntermediateDirectories: true)
    let file = directory + "/shop.yaml"
    try definition.write(toFile: file, atomically: true, encoding: .utf8)
    return try await Program.run(
      "lethe", arguments.map { $0 == "PIPELINE" ? file : $0 }, environment: environment)
  }

  // MARK: What has to be

  /// The rows that a query gives, each as a text, sorted.
  func rows(_ sql: SQL) async throws -> [String] {
    let rows = try await Connection.withConnection(ConnectionString(url)) {
      try await $0.query("SELECT q::text FROM (\(sql)) AS q").rows(as: String.self)
    }
    return rows.sorted()
  }

  /// A post's visibility; nil for NULL, and for a post that is not there.
  func visibility(_ post: Int64) async throws -> String? {
    try await Connection.withConnection(ConnectionString(url)) {
      try await $0.query(
        "SELECT visibility FROM shop.posts WHERE post_id = \(post)"
      ).rows(as: String?.self).first ?? nil
    }
  }

  /// Holds the shop's posts and users against their copy.
  func expectRows(
    stillHidden: Set<Int64> = [], at location: SourceLocation = #_sourceLocation
  ) async throws {
    let (hiding, answers) = state.state.withLock { ($0.hiding, $0.answers) }
    func isHidden(_ post: ShopRow) -> Bool {
      hiding.contains(ID(type: "tweets", id: post.id))
        || hiding.contains(ID(type: "users", id: post.author)) || stillHidden.contains(post.id)
    }
    // An answer `protected` hides again what the operator had opened.
    func isHiddenAnew(_ post: ShopRow) -> Bool {
      answers[ID(type: "tweets", id: post.id)] == "protected"
        || answers[ID(type: "users", id: post.author)] == "protected"
    }
    let posts = "post_id, author_id"
    let now = try await shopRows("shop.posts", posts)
    let hiddenAnew = now.filter { isHiddenAnew($0) }.map(\.id)
    let opened = state.state.withLock { state in
      state.opened.subtract(hiddenAnew)
      return state.opened
    }
    var differences = ShopRow.differences(
      "post", now, try await shopRows("before.posts", posts),
      hidden: Set(now.filter { isHidden($0) && !opened.contains($0.id) }.map(\.id)))
    let users = try await shopRows("shop.users", "user_id, user_id")
    differences += ShopRow.differences(
      "user", users, try await shopRows("before.users", "user_id, user_id"),
      hidden: Set(users.map(\.id).filter { hiding.contains(ID(type: "users", id: $0)) }))
    #expect(differences == [], sourceLocation: location)
  }

  private func shopRows(_ table: String, _ ids: String) async throws -> [ShopRow] {
    // The columns by which rows are hidden are compared by themselves.
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

/// A row of the shop's posts or users.
private struct ShopRow {
  let id: Int64
  let author: Int64
  let visibility: String?
  /// The columns that hide nothing.
  let others: String
  let all: String

  private static let openValues: Set<String?> = ["public", "internal", "friends", nil]

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
        if openValues.contains(row.visibility) {
          differences.append("\(what) \(row.id) is open: \(row.visibility ?? "NULL")")
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
