internal import CLibPQ

/// Recognizes a connection pooler that gives the transactions or statements of a connection to different sessions of
/// the server, such as PgBouncer with `pool_mode = transaction`. With such a pooler, a connection loses its settings,
/// temporary tables and advisory locks.
///
/// The first connection sets a random marker in its session. Then a second connection reads the marker. A pooler of
/// this kind has taken the session from the first connection after its statement. So it either gives this session to
/// the second connection, which finds the marker there, or it changes sessions in turn or at random, and the first
/// connection does not find its marker again. Without a pooler, or with `pool_mode = session`, neither can happen.
///
/// The marker is set by a function and not by `SET`, because some poolers repeat a connection's `SET` in each session.
struct PoolerCheck {
  /// A session of the server, as a connection sees it.
  private struct ServerSession {
    let marker: String?
    let processID: Int
  }

  private static let setting = "lethe.session"
  /// The maximum number of second connections, one after another, if the process ID announced to the first connection
  /// is not the ID of its session. Then the connection goes through a pooler of some kind. Several poolers may have the
  /// same address, so a second connection may reach another pooler than the first one.
  private static let attemptsBehindPooler = 8
  /// The time limit for all second connections together, in addition to three times the time that the first one took to
  /// connect. A pool of one session never serves a second connection while the first one has the session.
  private static let timeLimit = Duration.milliseconds(700)

  /// The first connection. No statement of another task uses it.
  let first: Connection
  let connectionString: ConnectionString
  let applicationName: String
  /// How long the first connection took to connect.
  let connecting: Duration

  /// A second connection that is refused or not served in time proves nothing, and is not an error.
  ///
  /// - Throws: `PostgreSQLError` `.unusableSession` if there is such a pooler; errors of the first connection.
  func run() async throws {
    let marker = String(UInt64.random(in: .min ... .max), radix: 16)
    try await first.execute("SELECT pg_catalog.set_config(\(Self.setting), \(marker), false)")
    let session = try await requireMarker(marker)
    let isAnnounced = await first.announcedProcessID == session.processID
    let end = ContinuousClock.now + Self.timeLimit + connecting * 3
    for _ in 1...(isAnnounced ? 1 : Self.attemptsBehindPooler) {
      let other = try await secondSession(before: end)
      if other?.marker == marker { throw Self.refusal }
      _ = try await requireMarker(marker)
      if other == nil { return }
    }
  }

  private func requireMarker(_ marker: String) async throws -> ServerSession {
    let session = try await Self.session(of: first)
    guard session.marker == marker else { throw Self.refusal }
    return session
  }

  private static func session(of connection: Connection) async throws -> ServerSession {
    let (marker, processID) = try await connection.query(
      "SELECT pg_catalog.current_setting(\(setting), true), pg_catalog.pg_backend_pid()"
    ).onlyRow(as: String?.self, Int.self)
    return ServerSession(marker: marker, processID: processID)
  }

  /// The session of a new connection to the same host; nil if it is refused or not served in time.
  private func secondSession(
    before end: ContinuousClock.Instant
  ) async throws -> ServerSession? {
    let host = await first.connectedHost
    let session = await withTaskGroup(of: ServerSession?.self) { group in
      group.addTask { [connectionString, applicationName] in
        let second = try? await Connection.open(
          connectionString, applicationName: applicationName, overriding: host)
        guard let second else { return nil }
        // A pooler may ignore a request to cancel a statement that it has not begun.
        let session = try? await withTaskCancellationHandler {
          try await Self.session(of: second)
        } onCancel: {
          second.abort()
        }
        await second.close()
        return session
      }
      group.addTask {
        try? await Task.sleep(until: end)
        return nil
      }
      defer { group.cancelAll() }
      return await group.next() ?? nil
    }
    try Task.checkCancellation()
    return session
  }

  private static let refusal = PostgreSQLError(
    code: .unusableSession,
    message: """
      the connection goes through a connection pooler, such as PgBouncer, with pool_mode = transaction or statement: \
      settings, temporary tables and advisory locks of the session are lost
      """,
    hint: """
      connect to the PostgreSQL server directly, or to a database of the pooler with pool_mode = session
      """)
}

extension Connection {
  /// The process ID that the server, or a pooler in front of it, announced when the connection was opened.
  fileprivate var announcedProcessID: Int { Int(PQbackendPID(handle)) }

  /// The parameters of the host that the connection reached. The connection string may name several hosts.
  fileprivate var connectedHost: [(keyword: String, value: String)] {
    [("host", PQhost(handle)), ("hostaddr", PQhostaddr(handle)), ("port", PQport(handle))]
      .map { ($0, $1.map { String(cString: $0) } ?? "") }
  }
}
