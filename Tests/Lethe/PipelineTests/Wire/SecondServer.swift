import Foundation
import PostgreSQL
import TestSupport

/// Another PostgreSQL server for one test. A database can be moved to it.
struct SecondServer: Sendable {
  private let directory: String
  private let socket: String

  struct Failed: Error {
    let command: String
    let stderr: String
  }

  static func with<R: Sendable>(_ body: (SecondServer) async throws -> R) async throws -> R {
    // If the tests run as root, the server runs as another user, and this user must be able to enter the folder.
    let directory = try await shell(
      "d=$(mktemp -d /tmp/lethe-second.XXXXXX); chmod 755 $d; echo $d")
    do {
      let socket = try await shell("'\(script)' start '\(directory)' | tail -1")
      let value = try await body(SecondServer(directory: directory, socket: socket))
      try await end(directory)
      return value
    } catch {
      try? await end(directory)
      throw error
    }
  }

  private static let script = repositoryRootPath + "/scripts/postgres"

  private static func end(_ directory: String) async throws {
    _ = try await shell("'\(script)' stop '\(directory)'; rm -rf '\(directory)'")
  }

  private func url(_ database: String) -> String {
    let host = socket.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? socket
    return "postgresql://lethe@\(host)/\(database)"
  }

  /// Dumps a database and restores it here.
  /// - Returns: the connection string of the new database.
  func restore(_ url: String, _ options: String = "") async throws -> String {
    try await execute("CREATE DATABASE moved")
    _ = try await Self.shell(
      """
      set -o pipefail
      PATH=${PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin | sort -Vr | head -1)}:$PATH
      pg_dump \(options) '\(url)' | psql -X -q -v ON_ERROR_STOP=1 -o /dev/null '\(self.url("moved"))'
      """)
    return self.url("moved")
  }

  /// Restarts the server with this number as its next transaction ID.
  func goAhead(transactions: Int) async throws {
    guard transactions > 0 else { return }
    _ = try await Self.shell(
      """
      set -e
      PATH=${PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin | sort -Vr | head -1)}:$PATH
      as_owner() { if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi; }
      as_owner pg_ctl -D '\(directory)/data' -m fast -w stop >/dev/null
      as_owner pg_resetwal -x \(transactions) '\(directory)/data' >/dev/null
      # Create the commit log of the transaction IDs that were skipped.
      as_owner dd if=/dev/zero of='\(directory)/data/pg_xact/'$(printf %04X $((\(transactions) / 1048576))) \
        bs=262144 count=1 status=none
      as_owner pg_ctl -D '\(directory)/data' -w -l '\(directory)/data/server.log' start >/dev/null
      """)
  }

  /// Restarts the server as a standby. A standby accepts queries but no changes.
  func becomeStandby() async throws {
    _ = try await Self.shell(
      """
      set -e
      PATH=${PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin | sort -Vr | head -1)}:$PATH
      as_owner() { if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi; }
      as_owner pg_ctl -D '\(directory)/data' -m fast -w stop >/dev/null
      as_owner touch '\(directory)/data/standby.signal'
      as_owner pg_ctl -D '\(directory)/data' -w -l '\(directory)/data/server.log' start >/dev/null
      """)
  }

  private func execute(_ sql: SQL) async throws {
    try await Connection.withConnection(ConnectionString(url("postgres"))) {
      try await $0.runScript(sql)
    }
  }

  /// Runs a Bash script.
  /// - Returns: the script's stdout.
  private static func shell(_ script: String) async throws -> String {
    let process = Process()
    process.executableURL = URL(filePath: "/bin/bash")
    // Foundation waits until a descriptor of the script is closed. If the server inherited this descriptor, Foundation
    // would also wait for the server.
    let alone = "for f in /proc/$$/fd/*; do [ ${f##*/} -le 2 ] || eval \"exec ${f##*/}>&-\"; done\n"
    process.arguments = ["-c", alone + script]
    // Use files, because the server that a script starts would keep a pipe open.
    let (stdout, stderr) = (try scratchFile(), try scratchFile())
    (process.standardOutput, process.standardError) = (stdout, stderr)
    process.standardInput = FileHandle.nullDevice
    let (ended, end) = AsyncStream.makeStream(of: Int32.self)
    process.terminationHandler = {
      end.yield($0.terminationStatus)
      end.finish()
    }
    try process.run()
    var code: Int32 = -1
    for await status in ended { code = status }
    guard code == 0 else { throw Failed(command: script, stderr: try text(of: stderr)) }
    return try text(of: stdout)
  }

  /// Returns a file without a name. The system deletes the file when its last descriptor is closed.
  private static func scratchFile() throws -> FileHandle {
    let url = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
    guard FileManager.default.createFile(atPath: url.path, contents: nil) else {
      throw CocoaError(.fileWriteUnknown)
    }
    let file = try FileHandle(forUpdating: url)
    try FileManager.default.removeItem(at: url)
    return file
  }

  private static func text(of file: FileHandle) throws -> String {
    try file.seek(toOffset: 0)
    return String(decoding: try file.readToEnd() ?? Data(), as: UTF8.self)
      .trimmingCharacters(in: .whitespacesAndNewlines)
  }
}
