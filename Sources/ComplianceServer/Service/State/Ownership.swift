internal import Foundation
internal import Logging
internal import PostgreSQL
internal import ServiceLifecycle
internal import SystemPackage

/// That one server alone works on a database: two would process, expire and sweep each other's jobs. A session holds an
/// advisory lock as long as the server lives, so a server that is killed leaves nothing to clear away.
actor Ownership: Service {
  private let database: ConnectionString
  private let logger: Logger
  private var connection: Connection
  /// Counts how often the database became this server's: another one may have had it between two terms.
  private(set) var term = 0
  private var isAway = false

  private static let look = Duration.seconds(2)
  /// How long a server that has just been killed may still seem to be there.
  private static let patience = Duration.seconds(5)
  private static let pause = Duration.milliseconds(100)

  /// - Throws: `StartError` if another server has the database; `PostgreSQLError`.
  init(of database: ConnectionString, logger: Logger) async throws {
    (self.database, self.logger) = (database, logger)
    connection = try await Self.locked(database)
  }

  private static func locked(_ database: ConnectionString) async throws -> Connection {
    let connection = try await Connection.connect(
      database, applicationName: "compliance-server: owner")
    let giveUpAt = ContinuousClock.now + patience
    do {
      while true {
        let isOurs = try await connection.query(
          "SELECT pg_try_advisory_lock(hashtext('compliance.server'), 0)"
        ).onlyRow(as: Bool.self)
        if isOurs { return connection }
        guard ContinuousClock.now < giveUpAt else { throw await taken(connection) }
        try await Task.sleep(for: pause)
      }
    } catch {
      await connection.close()
      throw error
    }
  }

  private static func taken(_ connection: Connection) async -> StartError {
    let holder = try? await connection.query(
      """
      SELECT a.pid::text || coalesce(' from ' || host(a.client_addr), '') || ', since '
             || to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
      FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
      WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.objid = 0
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.classid = (hashtext('compliance.server')::bigint & 4294967295)::oid
      """
    ).firstRow(as: String?.self)
    return StartError(
      message: """
        another compliance-server works on this database\
        \((holder ?? nil).map { " (PostgreSQL's process \($0))" } ?? "")
        """,
      remedy: "stop it, or give this one a database of its own")
  }

  func close() async { await connection.close() }

  /// Sees to it that the database stays this server's, also when it was away.
  /// - Throws: `StartError` if another server has taken it meanwhile: this one ends.
  func run() async throws {
    try await cancelWhenGracefulShutdown {
      while !Task.isCancelled {
        do {
          try await Task.sleep(for: Self.look)
        } catch {
          return
        }
        try await self.keep()
      }
    }
  }

  /// Returns if the database has been this server's all the time since a term was read.
  /// - Throws: `LostOwnership`, `PostgreSQLError`.
  func confirm(_ term: Int) async throws {
    _ = try await connection.query("SELECT 1")
    guard term == self.term else { throw LostOwnership() }
  }

  private func keep() async throws {
    do {
      _ = try await connection.query("SELECT 1")
      return
    } catch {
      // Once, and not at each look.
      if !isAway { logger.warning("the database is away: \(error)") }
      isAway = true
    }
    await connection.close()
    do {
      connection = try await Self.locked(database)
      term += 1
      isAway = false
      logger.notice("the database is back")
    } catch let error as StartError {
      throw error
    } catch {
      // Still away; the next look tries again.
    }
  }

  // MARK: The spool

  /// The folder with the bytes of the database's jobs.
  ///
  /// - Parameters:
  ///   - directory: the one that was named; nil takes one below `state` that belongs to this database alone.
  ///   - state: where servers keep what is theirs.
  /// - Throws: `StartError` if it is another database's, or if the bytes are in another one.
  func spoolDirectory(_ directory: FilePath?, in state: FilePath) async throws -> FilePath {
    let known = try await connection.query("SELECT id::text, directory FROM compliance.spool")
      .firstRow(as: String.self, String.self)
    let id = known?.0 ?? UUID().uuidString.lowercased()
    let place = directory ?? state.appending("spool-\(id)")
    let path = FilePath(URL(fileURLWithPath: place.string).standardizedFileURL.path)
    let mark = path.appending("spool.id")
    let found = FileManager.default.contents(atPath: mark.string).map {
      String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }
    if let found, found != known?.0 {
      throw StartError(
        message: "the spool directory \(path) belongs to another database",
        remedy: "name another one with --spool; or remove it, if that database is gone")
    }
    if found == nil, try await hasBytes(), known != nil || directory == nil {
      let other = known.map { ": they were in \($0.1)" } ?? ", and it is not known where they are"
      throw StartError(
        message: "the bytes of this database's jobs are not in \(path)\(other)",
        remedy: known == nil
          ? "name their folder with --spool" : "name that one with --spool, or bring it back")
    }
    _ = try Spool(directory: path)
    if found == nil {
      guard FileManager.default.createFile(atPath: mark.string, contents: Data("\(id)\n".utf8))
      else {
        throw StartError(
          message: "cannot write to the spool directory \(path)",
          remedy: "name one that can be made or written, with --spool")
      }
    }
    try await connection.execute(
      """
      INSERT INTO compliance.spool (id, directory) VALUES ($1::uuid, $2)
      ON CONFLICT (only_one) DO UPDATE SET id = excluded.id, directory = excluded.directory
      """, .text(id), .text(path.string))
    return path
  }

  /// Whether there is a job whose bytes somebody may still ask for.
  private func hasBytes() async throws -> Bool {
    try await connection.query(
      """
      SELECT EXISTS (SELECT FROM compliance.jobs
                     WHERE status = 'in_progress' OR status = 'complete' AND download_expires_at > now())
          OR EXISTS (SELECT FROM compliance.upload_sessions AS u JOIN compliance.jobs AS j ON j.id = u.job_id
                     WHERE j.status = 'created' AND u.stored_bytes > 0 AND u.expires_at > now())
      """
    ).onlyRow(as: Bool.self)
  }
}

/// Another server may have worked on the database meanwhile.
struct LostOwnership: Error, CustomStringConvertible {
  var description: String { "the database was away from this server meanwhile" }
}
