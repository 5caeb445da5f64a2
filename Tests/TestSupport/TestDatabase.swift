internal import Foundation
internal import Migrations
public import PostgreSQL
internal import Synchronization
internal import SystemPackage
@_exported public import TestFiles

/// A set of migrations that a test's database is built from.
public enum SchemaSet: String, Sendable, Hashable, CaseIterable, Comparable {
  /// The pipeline's ledger.
  case ledger
  /// The reference warehouse.
  case warehouse
  /// The local service's platform and jobs.
  case platform

  public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

  /// The directory of the migrations, relative to the repository's root.
  var directory: FilePath {
    switch self {
    case .ledger: "migrations"
    case .warehouse: "migrations/warehouse"
    case .platform: "migrations/platform"
    }
  }
}

/// A database for one test, on the server in the environment.
public struct TestDatabase: Sendable {
  public let name: String
  /// The connection string as text, for a program's `--database` or a definition's `warehouse:`.
  public let url: String

  public var connectionString: ConnectionString { ConnectionString(url) }

  /// The path of the server's Unix socket.
  public let socket: String

  /// - Parameter url: the connection string. Nil: a URL of the server.
  init(name: String, server: TestServer, url: String? = nil) {
    self.name = name
    self.url = url ?? server.url(database: name)
    socket = "\(server.host)/.s.PGSQL.5432"
  }

  /// Runs `body` with a new connection.
  public func withConnection<R: Sendable>(
    isolation: isolated (any Actor)? = #isolation,
    _ body: (Connection) async throws -> R
  ) async throws -> R {
    try await Connection.withConnection(connectionString, body)
  }
}

extension Connection {
  /// Waits until all transactions in other databases that began before now have ended. Otherwise the snapshots in this
  /// database would count transactions of other tests as running.
  public func waitForOtherDatabases() async throws {
    let mine = try await query("SELECT pg_current_xact_id()::text").onlyRow(as: String.self)
    while try await query(
      """
      SELECT EXISTS (SELECT FROM pg_stat_activity
                     WHERE datname <> current_database() AND age(backend_xid) > age(\(mine)::xid8::xid))
      """
    ).onlyRow(as: Bool.self) { try await pollingPause() }
  }
}

/// Runs `body` with a new database with the given schemas, and then drops the database, even if it has connections.
/// Without schemas, the database is empty.
///
/// Each combination of schemas is migrated once in each process. Every test then gets a copy, which takes some
/// milliseconds. Only a few tests have a database at the same time. Other tests wait.
/// - Throws: errors of `body`, and `TestServerMissing` without a server.
public func withTestDatabase<R: Sendable>(
  _ schemas: SchemaSet..., isolation: isolated (any Actor)? = #isolation,
  _ body: (TestDatabase) async throws -> R
) async throws -> R {
  let server = try TestServer.fromEnvironment()
  return try await databaseLimit.withSlot {
    let template = try await DatabaseTemplates.shared.template(of: Set(schemas), on: server)
    let database = TestDatabase(name: server.newName("test"), server: server)
    try await server.execute(
      "CREATE DATABASE \(identifier: database.name) TEMPLATE \(identifier: template)")
    do {
      let value = try await body(database)
      try await server.drop(database.name)
      return value
    } catch {
      try? await server.drop(database.name)
      throw error
    }
  }
}

/// Runs `body` with a copy of a database that `prepare` has built. Each `name` is built once in each process.
public func withTestDatabase<R: Sendable>(
  copyOf name: String, _ schemas: SchemaSet..., isolation: isolated (any Actor)? = #isolation,
  preparing prepare: @escaping @Sendable (TestDatabase) async throws -> Void,
  _ body: (TestDatabase) async throws -> R
) async throws -> R {
  let server = try TestServer.fromEnvironment()
  return try await databaseLimit.withSlot {
    let template = try await DatabaseTemplates.shared.template(
      named: name, of: Set(schemas), on: server, prepare)
    let database = TestDatabase(name: server.newName("test"), server: server)
    try await server.execute(
      "CREATE DATABASE \(identifier: database.name) TEMPLATE \(identifier: template)")
    do {
      let value = try await body(database)
      try await server.drop(database.name)
      return value
    } catch {
      try? await server.drop(database.name)
      throw error
    }
  }
}

/// Runs `body` with a new database that has another encoding, such as LATIN1.
public func withTestDatabase<R: Sendable>(
  encoding: String, _ schemas: SchemaSet..., isolation: isolated (any Actor)? = #isolation,
  _ body: (TestDatabase) async throws -> R
) async throws -> R {
  let server = try TestServer.fromEnvironment()
  return try await databaseLimit.withSlot {
    let database = TestDatabase(name: server.newName("test"), server: server)
    try await server.execute(
      """
      CREATE DATABASE \(identifier: database.name)
      ENCODING '\(trusted: encoding)' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'
      """)
    do {
      try await DatabaseTemplates.migrate(database, to: Set(schemas))
      let value = try await body(database)
      try await server.drop(database.name)
      return value
    } catch {
      try? await server.drop(database.name)
      throw error
    }
  }
}

/// A service, a pipeline and a test together use about ten connections. The server allows 200.
private let databaseLimit = ConcurrencyLimit(12)

/// Thrown if the environment does not name a PostgreSQL server.
public struct TestServerMissing: Error, CustomStringConvertible {
  public var description: String {
    """
    PGHOST is not set: these tests need a PostgreSQL server of their own.
    Run the tests with `make test`, or `scripts/postgres run -- swift test`.
    """
  }
}

/// A PostgreSQL server, and the role that tests use on it.
struct TestServer: Sendable {
  let host: String
  let user: String

  private static let lastNumber = Atomic<Int>(0)

  /// Returns the server that PGHOST and PGUSER name.
  /// - Throws: `TestServerMissing`.
  static func fromEnvironment() throws -> TestServer {
    let environment = ProcessInfo.processInfo.environment
    guard let host = environment["PGHOST"], !host.isEmpty else { throw TestServerMissing() }
    return TestServer(host: host, user: environment["PGUSER"] ?? "postgres")
  }

  /// Returns a `postgresql://` URL, which needs no quoting in shells and YAML.
  func url(database: String) -> String {
    func encoded(_ text: String) -> String {
      text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? text
    }
    return "postgresql://\(encoded(user))@\(encoded(host))/\(encoded(database))"
  }

  /// Returns a name that is unique among all processes and tests.
  func newName(_ kind: String) -> String {
    let number = Self.lastNumber.add(1, ordering: .relaxed).newValue
    return "lethe_\(kind)_\(ProcessInfo.processInfo.processIdentifier)_\(number)"
  }

  func execute(_ sql: SQL) async throws {
    try await Connection.withConnection(ConnectionString(url(database: "postgres"))) {
      _ = try await $0.execute(sql)
    }
  }

  func drop(_ database: String) async throws {
    try await execute("DROP DATABASE IF EXISTS \(identifier: database) WITH (FORCE)")
  }
}

/// Builds a template database for each combination of schemas, once in each process.
actor DatabaseTemplates {
  static let shared = DatabaseTemplates()

  private var templates: [Set<SchemaSet>: Task<String, any Error>] = [:]
  private var preparedTemplates: [String: Task<String, any Error>] = [:]

  func template(of schemas: Set<SchemaSet>, on server: TestServer) async throws -> String {
    if let template = templates[schemas] { return try await template.value }
    let building = Task { try await Self.build(schemas, on: server) }
    templates[schemas] = building
    return try await building.value
  }

  func template(
    named name: String, of schemas: Set<SchemaSet>, on server: TestServer,
    _ prepare: @escaping @Sendable (TestDatabase) async throws -> Void
  ) async throws -> String {
    if let template = preparedTemplates[name] { return try await template.value }
    let building = Task {
      let template = try await Self.build(schemas, on: server)
      try await prepare(TestDatabase(name: template, server: server))
      return template
    }
    preparedTemplates[name] = building
    return try await building.value
  }

  private static func build(_ schemas: Set<SchemaSet>, on server: TestServer) async throws -> String
  {
    let name = server.newName("template")
    try await server.drop(name)
    try await server.execute("CREATE DATABASE \(identifier: name)")
    try await migrate(TestDatabase(name: name, server: server), to: schemas)
    return name
  }

  static func migrate(_ database: TestDatabase, to schemas: Set<SchemaSet>) async throws {
    try await database.withConnection { connection in
      for schema in schemas.sorted() {
        let set = try MigrationSet(
          directory: FilePath(repositoryRootPath).appending(schema.directory.components))
        try await Migrator(connection: connection, set: set).up()
      }
    }
  }
}
