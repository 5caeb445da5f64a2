internal import Foundation
public import PostgreSQL

/// A PostgreSQL server for one test, which can be crashed or stopped.
public struct OwnServer: Sendable {
  private let server: TestServer
  private let directory: String

  fileprivate init(_ server: TestServer, _ directory: String) {
    self.server = server
    self.directory = directory
  }

  /// Creates a database with these schemas.
  public func database(_ schemas: SchemaSet...) async throws -> TestDatabase {
    let database = TestDatabase(name: server.newName("own"), server: server)
    try await server.execute("CREATE DATABASE \(identifier: database.name)")
    try await DatabaseTemplates.migrate(database, to: Set(schemas))
    return database
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
    let witness = try await Connection.connect(url)
    // Keep this connection open, because its server process is the process to kill.
    let victim = try await Connection.connect(url)
    let process = try await victim.query("SELECT pg_backend_pid()").onlyRow(as: Int.self)
    kill(pid_t(process), SIGKILL)
    while (try? await witness.query("SELECT 1")) != nil {}
    await witness.close()
    await victim.close()
  }

  /// Stops all processes of the server. Connections stay open, but the server does not respond, as when a disk or a
  /// machine hangs.
  public func freeze() throws {
    let postmaster = try postmaster()
    // Stop the postmaster first, because it starts other processes.
    kill(postmaster, SIGSTOP)
    for process in try Self.children(of: postmaster) { kill(process, SIGSTOP) }
  }

  public func thaw() throws {
    let postmaster = try postmaster()
    for process in try Self.children(of: postmaster) { kill(process, SIGCONT) }
    kill(postmaster, SIGCONT)
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
  public func recovered() async {
    while (try? await server.execute("SELECT 1")) == nil {}
  }
}

/// Runs `body` with a separate server.
/// - Parameter settings: lines of its `postgresql.conf`.
public func withOwnServer<R: Sendable>(
  _ settings: String..., isolation: isolated (any Actor)? = #isolation,
  _ body: (OwnServer) async throws -> R
) async throws -> R {
  try await withServer("start", settings, body)
}

/// - Parameters:
///   - command: of `scripts/postgres`, to start it.
///   - arguments: after its folder.
private func withServer<R: Sendable>(
  _ command: String, _ arguments: [String], isolation: isolated (any Actor)? = #isolation,
  _ body: (OwnServer) async throws -> R
) async throws -> R {
  let directory = FileManager.default.temporaryDirectory
    .appending(path: "own-server-\(UUID().uuidString)").path
  defer { try? FileManager.default.removeItem(atPath: directory) }
  let socket = try await script([command, directory] + arguments)
  let server = OwnServer(TestServer(host: socket, user: "lethe"), directory)
  do {
    let value = try await body(server)
    try server.thaw()
    _ = try await script(["stop", directory])
    return value
  } catch {
    try? server.thaw()
    _ = try? await script(["stop", directory])
    throw error
  }
}

private let closingInherited = #"""
  ( for file in /proc/$BASHPID/fd/*; do
      number=${file##*/}
      [ "$number" -le 2 ] || eval "exec $number>&-"
    done
    exec "$0" "$@" )
  """#

/// Runs `scripts/postgres`.
/// - Returns: the script's output.
private func script(_ arguments: [String]) async throws -> String {
  struct Failed: Error {
    let arguments: [String]
    let status: Int32
  }
  let process = Process()
  // Foundation treats a process as running while another process holds an inherited descriptor, and the server keeps
  // running. So close inherited descriptors.
  process.executableURL = URL(filePath: "/bin/bash")
  process.arguments =
    ["-c", closingInherited, repositoryRootPath + "/scripts/postgres"] + arguments
  // Use a file, because the server would keep a pipe open.
  let path = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path
  _ = FileManager.default.createFile(atPath: path, contents: nil)
  defer { try? FileManager.default.removeItem(atPath: path) }
  process.standardOutput = try FileHandle(forWritingTo: URL(filePath: path))
  process.standardInput = FileHandle.nullDevice
  let (ended, end) = AsyncStream.makeStream(of: Int32.self)
  process.terminationHandler = { process in
    end.yield(process.terminationStatus)
    end.finish()
  }
  try process.run()
  for await status in ended where status != 0 { throw Failed(arguments: arguments, status: status) }
  return try String(contentsOfFile: path, encoding: .utf8)
    .trimmingCharacters(in: .whitespacesAndNewlines)
}
