import Foundation
import PostgreSQL
import TestSupport

/// Another PostgreSQL server for one test. A test can restore a dump of a database on it.
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

  /// Restarts the server with this next transaction ID. Zero has no effect.
  func restart(nextTransactionID: Int) async throws {
    guard nextTransactionID > 0 else { return }
    _ = try await Self.shell(
      """
      set -e
      PATH=${PG_BIN:-$(ls -d /usr/lib/postgresql/*/bin | sort -Vr | head -1)}:$PATH
      as_owner() { if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi; }
      as_owner pg_ctl -D '\(directory)/data' -m fast -w stop >/dev/null
      as_owner pg_resetwal -x \(nextTransactionID) '\(directory)/data' >/dev/null
      # Create the segment of the commit log that contains this transaction ID.
      as_owner dd if=/dev/zero of='\(directory)/data/pg_xact/'$(printf %04X $((\(nextTransactionID) / 1048576))) \
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
    let bash = try await Program.external(["/bin/bash", "-c", script])
    guard bash.code == 0 else { throw Failed(command: script, stderr: bash.stderr) }
    return bash.stdout.trimmingCharacters(in: .whitespacesAndNewlines)
  }
}
