internal import Foundation
internal import Glibc
public import PostgreSQL

/// A PostgreSQL server for one test. The test can crash the server or stop its processes.
public struct OwnServer: Sendable {
  private let server: TestServer
  private let directory: String
  private let settings: [String]

  fileprivate init(_ server: TestServer, _ directory: String, settings: [String]) {
    self.server = server
    self.directory = directory
    self.settings = settings
  }

  /// Creates a database with these schemas.
  /// - Parameter isOnSmallDisk: whether its files are on the disk of `withOwnServer(smallDisk:)`.
  public func database(
    _ schemas: SchemaSet..., isOnSmallDisk: Bool = false
  ) async throws -> TestDatabase {
    let database = TestDatabase(name: server.newName("own"), server: server)
    if isOnSmallDisk {
      try await server.execute("CREATE TABLESPACE small LOCATION \(literal: directory + "/small")")
    }
    let tablespace: SQL = isOnSmallDisk ? " TABLESPACE small" : ""
    try await server.execute("CREATE DATABASE \(identifier: database.name)\(tablespace)")
    try await DatabaseTemplates.migrate(database, to: Set(schemas))
    return database
  }

  /// The same database, whose connections lead to this server or to a standby, whichever accepts changes.
  public func withFailover(_ database: TestDatabase, to standby: OwnServer) -> TestDatabase {
    TestDatabase(
      name: database.name, server: server,
      url: """
        host=\(server.host),\(standby.server.host) user=\(server.user) dbname=\(database.name) \
        target_session_attrs=read-write
        """)
  }

  /// Runs a statement in the database `postgres`.
  public func execute(_ sql: SQL) async throws {
    try await server.execute(sql)
  }

  /// Runs `body` with a streaming standby of the server.
  /// - Parameter name: its `application_name`.
  public func withStandby<R: Sendable>(
    named name: String, isolation: isolated (any Actor)? = #isolation,
    _ body: (OwnServer) async throws -> R
  ) async throws -> R {
    try await withServer("standby", [server.host, name], body)
  }

  /// Kills one of the server's processes. The server then ends all its other processes immediately and recovers.
  /// Returns when the server has begun to end them.
  public func crash() async throws {
    let url = ConnectionString(server.url(database: "postgres"))
    let observer = try await Connection.connect(url)
    // Keep this connection open, because its server process is the process to kill.
    let victim = try await Connection.connect(url)
    let process = try await victim.query("SELECT pg_backend_pid()").onlyRow(as: Int.self)
    _ = Glibc.kill(pid_t(process), SIGKILL)
    while (try? await observer.query("SELECT 1")) != nil { try await pollingPause() }
    await observer.close()
    await victim.close()
  }

  /// Kills the server, as if its machine had lost its power. Returns when it has ended.
  public func kill() async throws {
    let process = try postmaster()
    _ = Glibc.kill(process, SIGKILL)
    // The other processes end when they notice that the postmaster is gone.
    while Glibc.kill(process, 0) == 0 {
      try await pollingPause()
    }
    while (try? await server.execute("SELECT 1")) != nil { try await pollingPause() }
  }

  /// Restarts a killed server.
  /// - Parameter isStandby: whether it is a standby, which accepts no changes until it is promoted.
  public func restart(isStandby: Bool = false) async throws {
    if isStandby {
      _ = FileManager.default.createFile(
        atPath: directory + "/data/standby.signal", contents: nil)
    }
    _ = try await script(["start", directory] + settings)
  }

  /// From now on, each commit waits until the standby has it.
  public func replicateSynchronously(to standby: String) async throws {
    try await execute("ALTER SYSTEM SET synchronous_standby_names = \(literal: standby)")
    try await execute("SELECT pg_reload_conf()")
  }

  /// Returns when each standby has replayed all changes.
  public func waitUntilReplayed() async throws {
    try await Connection.withConnection(ConnectionString(server.url(database: "postgres"))) {
      let isBehind: SQL = """
        SELECT coalesce(bool_or(replay_lsn < pg_current_wal_lsn()), true) FROM pg_stat_replication
        """
      while try await $0.query(isBehind).onlyRow(as: Bool.self) { try await pollingPause() }
    }
  }

  /// As a standby: receives no more changes. Returns when the connection to the primary has ended.
  public func stopReceiving(from primary: OwnServer) async throws {
    try await execute("ALTER SYSTEM SET primary_conninfo = ''")
    try await execute("SELECT pg_reload_conf()")
    try await Connection.withConnection(
      ConnectionString(primary.server.url(database: "postgres"))
    ) {
      let isConnected: SQL = "SELECT EXISTS (SELECT FROM pg_stat_replication)"
      while try await $0.query(isConnected).onlyRow(as: Bool.self) { try await pollingPause() }
    }
  }

  /// How often the server's log contains a text.
  public func logCount(_ text: String) throws -> Int {
    try String(contentsOfFile: directory + "/data/server.log", encoding: .utf8)
      .ranges(of: text).count
  }

  /// Returns when the server's log contains a text more than `count` times.
  public func waitForLog(_ text: String, moreThan count: Int = 0) async throws {
    while try logCount(text) <= count {
      try await pollingPause()
    }
  }

  /// Makes a standby the primary.
  public func promote() async throws {
    try await server.execute("SELECT pg_promote()")
  }

  /// Stops all processes of the server. Connections stay open, but the server does not respond, as when a disk or a
  /// machine hangs.
  public func freeze() throws {
    let postmaster = try postmaster()
    // Stop the postmaster first, because it starts other processes.
    _ = Glibc.kill(postmaster, SIGSTOP)
    for process in try Self.children(of: postmaster) { _ = Glibc.kill(process, SIGSTOP) }
  }

  /// Continues the processes that `freeze` stopped.
  public func thaw() throws {
    let postmaster = try postmaster()
    for process in try Self.children(of: postmaster) { _ = Glibc.kill(process, SIGCONT) }
    _ = Glibc.kill(postmaster, SIGCONT)
  }

  private func postmaster() throws -> pid_t {
    let file = try String(contentsOfFile: directory + "/data/postmaster.pid", encoding: .utf8)
    guard let process = file.split(separator: "\n").first.flatMap({ pid_t($0) }) else {
      throw CocoaError(.fileReadCorruptFile)
    }
    return process
  }

  private static func children(of parent: pid_t) throws -> [pid_t] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { name in
      guard let process = pid_t(name),
        let status = try? String(contentsOfFile: "/proc/\(name)/status", encoding: .utf8)
      else { return nil }
      return status.contains("PPid:\t\(parent)\n") ? process : nil
    }
  }

  /// Returns when the server accepts connections again.
  public func recovered() async throws {
    while (try? await server.execute("SELECT 1")) == nil { try await pollingPause() }
  }
}

/// Runs `body` with a separate server.
/// - Parameter settings: lines of the server's `postgresql.conf`.
public func withOwnServer<R: Sendable>(
  _ settings: String..., isolation: isolated (any Actor)? = #isolation,
  _ body: (OwnServer) async throws -> R
) async throws -> R {
  try await withServer("start", settings, body)
}

/// Runs `body` with a separate server that also has a small disk. The disk is in a private namespace of mounts.
/// - Parameter smallDisk: the size of the disk, such as `40m`.
public func withOwnServer<R: Sendable>(
  smallDisk: String, isolation: isolated (any Actor)? = #isolation,
  _ body: (OwnServer) async throws -> R
) async throws -> R {
  let mount = """
    mkdir -p "$3/small" && mount -t tmpfs -o size=\(smallDisk),uid=postgres none "$3/small" && exec "$@"
    """
  return try await withServer(
    "start", [],
    launcher: ["/usr/bin/unshare", PrivateNamespace.mounts, "/bin/bash", "-c", mount, "mount"], body
  )
}

/// - Parameters:
///   - command: the command of `scripts/postgres` that starts the server.
///   - arguments: the arguments after the server's folder.
///   - launcher: a program that starts the script.
private func withServer<R: Sendable>(
  _ command: String, _ arguments: [String], launcher: [String] = [],
  isolation: isolated (any Actor)? = #isolation, _ body: (OwnServer) async throws -> R
) async throws -> R {
  let directory = FileManager.default.temporaryDirectory
    .appending(path: "own-server-\(UUID().uuidString)").path
  defer { try? FileManager.default.removeItem(atPath: directory) }
  let socket = try await script([command, directory] + arguments, launcher)
  let server = OwnServer(
    TestServer(host: socket, user: "lethe"), directory,
    settings: command == "start" ? arguments : [])
  do {
    let value = try await body(server)
    try? server.thaw()
    _ = try await script(["stop", directory])
    return value
  } catch {
    try? server.thaw()
    _ = try? await script(["stop", directory])
    throw error
  }
}

/// Runs `scripts/postgres`.
/// - Returns: the script's output.
private func script(
  _ arguments: [String], _ launcher: [String] = []
) async throws -> String {
  struct Failed: Error {
    let arguments: [String]
    let status: Int32
    let stderr: String
  }
  let script = try await Program.external(
    launcher + [repositoryRootPath + "/scripts/postgres"] + arguments)
  guard script.code == 0 else {
    throw Failed(arguments: arguments, status: script.code, stderr: script.stderr)
  }
  return script.stdout.trimmingCharacters(in: .whitespacesAndNewlines)
}
