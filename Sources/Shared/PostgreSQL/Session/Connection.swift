internal import CLibPQ
import Dispatch
public import SQLText

/// A connection to a PostgreSQL server, with libpq.
///
/// Blocking calls run on a private queue, never on the cooperative pool. When a task that waits for a statement is
/// cancelled, the statement is cancelled on the server, and the call throws `CancellationError`, unless the statement
/// ends first. The connection can then be used again.
///
/// Statements of several tasks run one after another. While a transaction or a COPY is open, only its handle may use
/// the connection; other calls throw `.busy`.
public actor Connection {
  let executor: SerialQueueExecutor
  let canceller: StatementCanceller
  private let socket: ConnectionSocket
  private let connectionString: ConnectionString
  private let applicationName: String
  private let renewedAfter: Duration?
  private let onOpen: (@Sendable (Connection) async throws -> Void)?
  /// libpq's pointer. Nil after `close`, and after a failed renewal. libpq treats nil as a broken connection.
  var handle: OpaquePointer?
  private var isClosed = false
  private var isRenewing = false
  private var waitingForRenewal: [CheckedContinuation<Void, Never>] = []
  /// Whether the statements of the current task prepare a new session.
  @TaskLocal private static var isPreparing = false
  /// When the last statement ended.
  private var lastUse = ContinuousClock.now
  /// The timeouts of the connection's statements. They never change.
  public nonisolated var timeouts: SessionTimeouts { connectionString.timeouts }
  /// When the last statement began.
  var began: ContinuousClock.Instant?
  var lastOccupant = 0
  var occupant: Int?
  /// Whether the last transaction is or was read-only on purpose.
  private(set) var isReadOnly = false
  /// Whether a statement of this session was refused because the server is a standby.
  var hasFoundStandby = false
  /// Whether an enclosing transaction is open.
  private var isEnclosed = false

  public nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  /// Settings that detect a server that disappeared without closing the connection. Without them, a call may wait for
  /// 15 minutes or forever. They also keep the connection of a long statement alive in firewalls, some of which drop a
  /// connection after 30 seconds without a packet. TCP only.
  private static let keepaliveSettings: [(keyword: String, value: String)] = [
    ("keepalives_idle", "10"), ("keepalives_interval", "10"), ("keepalives_count", "5"),
    ("tcp_user_timeout", "60000"),
  ]

  /// Connects. The session has the settings of `SessionSettings`, which override those of the role, the database and
  /// the server, and uses UTF-8.
  ///
  /// - Parameters:
  ///   - applicationName: the name in `pg_stat_activity`, unless the connection string or the environment has another
  ///     one.
  ///   - renewedAfter: how long the session may be idle. After a longer time, or if the session is lost, the next
  ///     statement outside a transaction uses a new session, which has none of the temporary tables, locks and settings
  ///     of the former one. Nil: the connection has one session.
  ///   - refusingPoolers: whether `PoolerCheck` is made. A program makes it on its first connection.
  ///   - onOpen: runs in each new session, after the settings and before the caller's statements.
  /// - Throws: `PostgreSQLError` (`.connectionFailed`) with libpq's reason; `.malformedConnectionString`;
  ///   `.unusableSession` if the settings cannot be applied, or if a pooler does not keep the session for this
  ///   connection; `CancellationError` as soon as the task is cancelled; the errors of `onOpen`.
  public static func connect(
    _ connectionString: ConnectionString, applicationName: String = "lethe",
    renewedAfter: Duration? = nil, refusingPoolers: Bool = false,
    onOpen: (@Sendable (Connection) async throws -> Void)? = nil
  ) async throws -> Connection {
    let began = ContinuousClock.now
    let connection = try await open(
      connectionString, applicationName: applicationName, renewedAfter: renewedAfter, onOpen: onOpen
    )
    let connecting = ContinuousClock.now - began
    do {
      // No other code uses the connection yet, so it can be aborted safely.
      try await withTaskCancellationHandler {
        // This comes before any change of a setting, because a pooler may give the session to another program next.
        if refusingPoolers {
          try await PoolerCheck(
            first: connection, connectionString: connectionString,
            applicationName: applicationName, connecting: connecting
          ).run()
        }
        try await connection.prepareSession()
      } onCancel: {
        connection.abort()
      }
    } catch {
      await connection.close()
      try Task.checkCancellation()
      throw error
    }
    return connection
  }

  /// Connects with UTF-8, without the settings of `SessionSettings`.
  ///
  /// - Parameter overrides: libpq's parameters that take precedence over those of the connection string.
  /// - Throws: `PostgreSQLError`; `CancellationError` as soon as the task is cancelled.
  static func open(
    _ connectionString: ConnectionString, applicationName: String = "lethe",
    overriding overrides: [(keyword: String, value: String)] = [], renewedAfter: Duration? = nil,
    onOpen: (@Sendable (Connection) async throws -> Void)? = nil
  ) async throws -> Connection {
    try Task.checkCancellation()
    try connectionString.requireWellFormed()
    let executor = SerialQueueExecutor(label: "postgresql.connection")
    let handle = try await openSession(
      connectionString, applicationName, overriding: overrides, on: executor)
    do {
      return Connection(
        handle, executor: executor, socket: try ConnectionSocket(copying: PQsocket(handle.pointer)),
        connectionString: connectionString, applicationName: applicationName,
        renewedAfter: renewedAfter, onOpen: onOpen)
    } catch {
      PQfinish(handle.pointer)
      throw error
    }
  }

  /// Later keywords take precedence, so the keywords before dbname are defaults for the connection string.
  private static func openSession(
    _ connectionString: ConnectionString, _ applicationName: String,
    overriding overrides: [(keyword: String, value: String)] = [],
    on executor: SerialQueueExecutor
  ) async throws -> ConnectionOpener.Handle {
    let keywords =
      ["connect_timeout"] + Self.keepaliveSettings.map(\.keyword)
      + ["fallback_application_name", "dbname", "client_encoding"] + overrides.map(\.keyword)
    let values =
      ["15"] + Self.keepaliveSettings.map(\.value) + [
        applicationName, connectionString.value, "UTF8",
      ] + overrides.map(\.value)
    let opened = try await ConnectionOpener.handle(keywords, values, on: executor.queue)
    guard let handle = opened.pointer else {
      throw PostgreSQLError(code: .connectionFailed, message: "libpq is out of memory")
    }
    guard PQstatus(handle) == CONNECTION_OK else {
      let reason = Self.trimmed(PQerrorMessage(handle))
      PQfinish(handle)
      throw PostgreSQLError(
        code: .connectionFailed, message: "cannot connect to PostgreSQL: \(reason)",
        hint: Self.hint(forFailure: reason))
    }
    // By default, libpq would write the server's notices to stderr, regardless of the log settings.
    PQsetNoticeProcessor(handle, { _, _ in }, nil)
    // libpq's own text for a lost connection would quote the statement or the line of a COPY.
    PQsetErrorContextVisibility(handle, PQSHOW_CONTEXT_NEVER)
    return opened
  }

  private func prepareSession() async throws {
    try await SessionSettings.apply(on: self)
    try await onOpen?(self)
  }

  // MARK: New sessions

  /// How many sessions the connection has had. A session's temporary tables end with it.
  public private(set) var sessions = 1

  /// Replaces the session by a new one if `renewIfNeeded` finds a reason.
  /// - Returns: the number of the session that the next statement uses.
  public func currentSession() async throws -> Int {
    try await renewIfNeeded()
    return sessions
  }

  /// Replaces the session by a new one if it was idle for too long, is lost, or is a session of a standby that has
  /// refused a change. A firewall might have dropped an idle connection without informing the client or the server.
  ///
  /// - Throws: as `connect`. But if the task is cancelled while libpq connects, the error is thrown only after libpq's
  ///   call has ended. If the former session was closed, the connection then has no session, and the next call tries
  ///   again.
  func renewIfNeeded() async throws {
    guard let renewedAfter, !Self.isPreparing else { return }
    while isRenewing {
      await withCheckedContinuation { waitingForRenewal.append($0) }
    }
    guard occupant == nil, !isEnclosed, !isClosed, !isAborted else { return }
    // Reads what the server has sent without a request, such as the end of the session. The first call reads a message.
    // The second one finds that the connection is closed.
    if PQstatus(handle) == CONNECTION_OK { PQconsumeInput(handle) }
    if PQstatus(handle) == CONNECTION_OK { PQconsumeInput(handle) }
    guard
      PQstatus(handle) != CONNECTION_OK || hasFoundStandby
        || ContinuousClock.now - lastUse > renewedAfter
    else { return }
    try Task.checkCancellation()
    isRenewing = true
    defer {
      isRenewing = false
      for waiting in waitingForRenewal { waiting.resume() }
      waitingForRenewal = []
    }
    PQfinish(handle)
    handle = nil
    do {
      let opened = try await Self.openSession(connectionString, applicationName, on: executor)
      guard !isClosed else {
        PQfinish(opened.pointer)
        return
      }
      handle = opened.pointer
      try socket.replace(copying: PQsocket(handle))
      canceller.replace(connection: opened.pointer!)
      sessions += 1
      hasFoundStandby = false
      try await Self.$isPreparing.withValue(true) { try await prepareSession() }
    } catch {
      PQfinish(handle)
      handle = nil
      throw error
    }
  }

  /// A hint from the text of libpq's message, because libpq reports no SQLSTATE for a failed connection.
  private static func hint(forFailure reason: String) -> String {
    if reason.contains("permission denied for database") {
      return "GRANT CONNECT ON DATABASE to the role"
    }
    if reason.contains("unsupported startup parameter") {
      return """
        the pooler does not accept this parameter: connect to the server directly, or remove it from the connection \
        string and PGOPTIONS, or add it to the pooler's ignore_startup_parameters
        """
    }
    if reason.contains("is not permitted to log in") { return "ALTER ROLE … LOGIN" }
    if reason.contains(/role ".*" does not exist/) {
      return "create the role, or name another one in the connection string"
    }
    if reason.contains(/too many clients|too many connections|remaining connection slots/) {
      return """
        run again when other sessions have ended: nothing is lost; if this happens often, raise the server's \
        max_connections, or the CONNECTION LIMIT of the role or database
        """
    }
    return "check the connection string, the PG* variables and that the server is running"
  }

  private init(
    _ opened: ConnectionOpener.Handle, executor: SerialQueueExecutor, socket: ConnectionSocket,
    connectionString: ConnectionString, applicationName: String, renewedAfter: Duration?,
    onOpen: (@Sendable (Connection) async throws -> Void)?
  ) {
    handle = opened.pointer
    self.connectionString = connectionString
    self.applicationName = applicationName
    self.renewedAfter = renewedAfter
    self.onOpen = onOpen
    self.executor = executor
    self.socket = socket
    canceller = StatementCanceller(connection: opened.pointer!, socket: socket)
  }

  isolated deinit { PQfinish(handle) }

  /// Ends the session. Later statements throw. Without this call, the session ends when the object is released.
  public func close() {
    isClosed = true
    PQfinish(handle)
    handle = nil
  }

  /// Closes the connection forcibly and at once. It can be called from any task, even while a statement waits for a
  /// server that does not respond. This statement and all later ones throw `.connectionLost`, or `CancellationError` in
  /// a cancelled task. The server may still complete the statement.
  public nonisolated func abort() { socket.shutDown() }

  public nonisolated var isAborted: Bool { socket.wasShutDown }

  /// The server's version number, such as 150018.
  public var serverVersion: Int { Int(PQserverVersion(handle)) }

  // MARK: Statements

  /// Runs one statement.
  ///
  /// - Throws: `PostgreSQLError`; `CancellationError` if the task was cancelled.
  public func run(_ sql: SQL) async throws -> QueryResult {
    try await renewIfNeeded()
    try requireFree()
    return try await run(sql, as: nil)
  }

  /// Runs statements separated by semicolons, without bound values. The server runs them in one transaction, unless
  /// the script itself controls transactions.
  ///
  /// - Throws: `PostgreSQLError`. Its `position` counts from the beginning of the script. Its `statementsCompleted`
  ///   shows which statement failed.
  public func runScript(_ sql: SQL) async throws {
    try await renewIfNeeded()
    try requireFree()
    try await runScript(sql, as: nil)
  }

  // MARK: Transactions

  public enum Isolation: String, Sendable {
    case readCommitted = "READ COMMITTED"
    case repeatableRead = "REPEATABLE READ"
    case serializable = "SERIALIZABLE"
  }

  /// Runs `body` in a transaction, which is committed when `body` returns and rolled back when `body` throws, or when
  /// the task is cancelled before the COMMIT.
  ///
  /// Meanwhile, only the handle that `body` gets can use the connection.
  /// - Throws: errors of `body`; `PostgreSQLError`, such as `.notCommitted` if the server rolled back;
  ///   `CancellationError`.
  public func withTransaction<R: Sendable>(
    isolationLevel: Isolation = .readCommitted, readOnly: Bool = false,
    isolation: isolated (any Actor)? = #isolation,
    _ body: (Transaction) async throws -> R
  ) async throws -> R {
    let transaction = try await begin(isolationLevel, readOnly: readOnly)
    do {
      let value = try await body(transaction)
      try Task.checkCancellation()
      try await commit(transaction)
      return value
    } catch {
      await rollBack()
      throw error
    }
  }

  /// Runs `body` in one transaction. All its changes on this connection, including those in nested `withTransaction`
  /// calls, are committed when it returns and rolled back when it throws, or when the task is cancelled before the
  /// COMMIT.
  ///
  /// A nested transaction becomes a savepoint. It can be rolled back alone, but has the isolation level of the
  /// enclosing transaction, and is not read-only. `ON COMMIT` actions of tables happen at the end. Only one task may
  /// use this, and not within another transaction.
  public func withEnclosingTransaction<R: Sendable>(
    isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> R
  ) async throws -> R {
    try await beginEnclosing()
    do {
      let value = try await body()
      try Task.checkCancellation()
      try await endEnclosing()
      return value
    } catch {
      await undoEnclosing()
      throw error
    }
  }

  private func beginEnclosing() async throws {
    try await renewIfNeeded()
    try requireFree()
    guard !isEnclosed else {
      throw PostgreSQLError(code: .busy, message: "an enclosing transaction is open")
    }
    _ = try await run("BEGIN", as: nil)
    isEnclosed = true
  }

  /// Cannot be cancelled, because it would be unknown whether a cancelled COMMIT took effect.
  private func endEnclosing() throws {
    try requireFree()
    let result = try execute("COMMIT", [])
    guard result.commandTag == "COMMIT" else {
      throw PostgreSQLError(
        code: .notCommitted, message: "the server rolled the transaction back at COMMIT")
    }
    isEnclosed = false
  }

  private func undoEnclosing() {
    isEnclosed = false
    rollBack()
  }

  private func begin(_ level: Isolation, readOnly: Bool) async throws -> Transaction {
    try await renewIfNeeded()
    let token = try occupy()
    do {
      _ = try await run(
        isEnclosed
          ? "SAVEPOINT lethe_part"
          : "BEGIN ISOLATION LEVEL \(trusted: level.rawValue)\(readOnly ? " READ ONLY" as SQL : "")",
        as: token)
    } catch {
      occupant = nil
      throw error
    }
    isReadOnly = readOnly && !isEnclosed
    return Transaction(connection: self, token: token)
  }

  /// Cannot be cancelled, because it would be unknown whether a cancelled COMMIT took effect.
  private func commit(_ transaction: Transaction) throws {
    try require(transaction.token)
    if isEnclosed {
      _ = try execute("RELEASE SAVEPOINT lethe_part", [])
      occupant = nil
      return
    }
    let result = try execute("COMMIT", [])
    // Release the connection here only after a successful COMMIT. After an error, `rollBack` releases it. If it
    // were released twice, `rollBack` could roll back another task's transaction.
    guard result.commandTag == "COMMIT" else {
      throw PostgreSQLError(
        code: .notCommitted, message: "the server rolled the transaction back at COMMIT")
    }
    occupant = nil
  }

  private func rollBack() {
    abortCopy()
    if PQtransactionStatus(handle) != PQTRANS_IDLE {
      // If ROLLBACK fails, the connection is broken, and the next statement reports this.
      _ = try? execute(isEnclosed ? "ROLLBACK TO SAVEPOINT lethe_part" : "ROLLBACK", [])
    }
    occupant = nil
  }

  // MARK: Occupants of the connection

  func requireFree() throws {
    guard occupant == nil else {
      throw PostgreSQLError(
        code: .busy, message: "a transaction or a COPY is using the connection",
        hint: "use the transaction's handle, or another connection")
    }
    try requireOpen()
  }

  private func requireOpen() throws {
    guard handle != nil else {
      throw PostgreSQLError(
        code: .connectionLost,
        message: isClosed ? "the connection is closed" : "the connection is lost")
    }
  }

  func occupy() throws -> Int {
    try requireFree()
    lastOccupant += 1
    occupant = lastOccupant
    return lastOccupant
  }

  func require(_ token: Int?) throws {
    try requireOpen()
    guard occupant == token else {
      throw PostgreSQLError(
        code: .busy, message: "this transaction has ended or a COPY is open in it")
    }
  }

  func run(_ sql: SQL, as token: Int?) async throws -> QueryResult {
    try require(token)
    let statement = sql.statement
    return try await cancellable {
      let result = try self.execute(statement.text, statement.parameters)
      guard !result.isCopy else {
        self.abortCopy()
        throw PostgreSQLError(
          code: .misuse, message: "a COPY from or to the client needs a handle",
          hint: "use withCopyIn or withCopyOut", statement: statement.text)
      }
      return result
    }
  }

  func runScript(_ sql: SQL, as token: Int?) async throws {
    try require(token)
    let text = try sql.textWithoutValues()
    try await cancellable { try self.executeScript(text) }
  }

  /// Runs a blocking `operation` so that cancelling the task cancels the server's statement.
  func cancellable<R>(_ operation: () throws -> R) async throws -> R {
    try Task.checkCancellation()
    let statement = canceller.begin()
    return try await withTaskCancellationHandler {
      defer {
        canceller.end()
        lastUse = .now
      }
      do {
        return try operation()
      } catch let error as PostgreSQLError where error.state == .queryCanceled {
        try Task.checkCancellation()
        throw error  // a statement timeout, or pg_cancel_backend in another session
      } catch  where socket.wasShutDown {
        try Task.checkCancellation()
        throw error
      }
    } onCancel: {
      canceller.cancel(statement: statement)
    }
  }
}
