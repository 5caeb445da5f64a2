public import Failures

/// An error of PostgreSQL or of the connection to it.
///
/// Its description contains the server's message, detail, hint and the statement's text. It never contains a bound
/// value, a connection string or a row's values, because they may be secret or personal data. The properties `message`,
/// `detail` and `hint` come from the server and may quote a row's values.
public struct PostgreSQLError: ExplainedError, Sendable {
  public enum Code: Hashable, Sendable {
    /// No connection could be established.
    case connectionFailed
    /// The connection string is malformed; no connection was tried.
    case malformedConnectionString
    /// The session has a setting that changes the meaning of statements and cannot be overridden, or a pooler does not
    /// keep the session.
    case unusableSession
    /// The connection broke, or was closed or aborted. If a COMMIT was running, it is unknown whether it took effect.
    case connectionLost
    /// The server refused a statement.
    case server(SQLState)
    /// Another transaction or COPY is using the connection, or the transaction of the handle has ended.
    case busy
    /// A value of the result does not have the requested type, or not exactly one column has the requested name.
    case decoding
    /// The server rolled the transaction back at COMMIT.
    case notCommitted
    /// A statement affected or returned a different number of rows than required.
    case unexpectedRowCount
    /// Wrong use of this library: for example a COPY without a handle, or a zero byte in a text.
    case misuse
  }

  public var code: Code
  public var message: String
  public var detail: String?
  public var hint: String?
  /// The schema-qualified table, if the server names one.
  public var table: String?
  public var constraint: String?
  public var column: String?
  /// The procedural-language function with the error, if the context names one.
  public var function: String?
  /// Whether the message may come from a function, a DO block or a remote server, whatever the SQLSTATE is.
  public var isRaised = false
  /// Whether a privilege is missing. The message then names only the object, so it is safe to show.
  public var isPrivilegeMissing = false
  /// Whether the server reported a context other than a bound value: for example a function, a COPY, or a statement
  /// that a constraint runs.
  public var isWithinFunction = false
  /// Whether a DO block, as the statement itself, raised the error: the message comes from the script's author.
  public var isRaisedByScript = false
  /// Whether the statement was refused because the server is a standby, which accepts no changes. After a switchover,
  /// another server is the primary, or this one is promoted soon.
  public var isOnStandby = false
  /// Whether the connection's own timeout ended the statement.
  public var isOwnTimeout = false
  /// The position of the error in the statement or the script, counted in code points from 1.
  public var position: Int?
  /// The statement's text, without its values. Nil for an error within a script.
  public var statement: String?
  /// The number of statements of a script that completed before this error; 0 outside scripts.
  public var statementsCompleted = 0

  public init(
    code: Code, message: String, detail: String? = nil, hint: String? = nil,
    statement: String? = nil
  ) {
    self.code = code
    self.message = message
    self.detail = detail
    self.hint = hint
    self.statement = statement
  }

  public var state: SQLState? {
    if case .server(let state) = code { state } else { nil }
  }

  /// Whether a retry of the transaction can succeed: after a deadlock, a serialization failure or a lock timeout.
  public var isRetryableTransaction: Bool {
    switch state {
    case .serializationFailure, .deadlockDetected, .lockNotAvailable: true
    default: false
    }
  }

  /// Whether the session is lost or could not begin, because the server is stopping, starting, unavailable or a
  /// standby, or because somebody has terminated the session. A new session can succeed.
  public var isLossOfSession: Bool {
    if isOnStandby { return true }
    return switch code {
    case .connectionLost: true
    case .connectionFailed: disposition == .temporary
    case .server(let state):
      state.conditionClass == "08" && state != .protocolViolation
        || Self.statesOfEndedSessions.contains(state.rawValue)
    case .malformedConnectionString, .unusableSession, .busy, .decoding, .notCommitted,
      .unexpectedRowCount, .misuse:
      false
    }
  }

  /// The server ends a session after a request, at a shutdown, after a crash, or while it starts; and after a session
  /// was idle, idle in a transaction, or in one transaction for too long, for example because this process was stopped.
  private static let statesOfEndedSessions: Set = [
    "57P01", "57P02", "57P03", "57P05", "25P03", "25P04",
  ]

  /// Whether the same request may succeed later, because the server is not available, is starting or stopping, is a
  /// standby, lacks resources, has a system error, or has ended the statement or the transaction. Each failed
  /// connection counts as temporary; its `disposition` depends on the reason.
  public var isTemporary: Bool {
    if isOnStandby { return true }
    return switch code {
    case .connectionFailed, .connectionLost: true
    case .server(.protocolViolation): false  // such as a parameter without a value
    case .server(.queryCanceled) where isOwnTimeout: false
    case .server(let state):
      isRetryableTransaction || isLossOfSession
        || ["08", "53", "57", "58"].contains(state.conditionClass)
    case .malformedConnectionString, .unusableSession, .busy, .decoding, .notCommitted,
      .unexpectedRowCount, .misuse:
      false
    }
  }

  public var disposition: Disposition {
    switch code {
    case .connectionFailed: dispositionOfFailedConnection
    case .malformedConnectionString, .unusableSession: .usage
    default: isTemporary ? .temporary : .failed
    }
  }

  /// libpq reports no SQLSTATE for a refused connection, so the disposition depends on the text of the message.
  private var dispositionOfFailedConnection: Disposition {
    // Quoted parts are names, which could contain these words.
    let plain = message.replacing(/"[^"]*"/, with: "")
    func hasAny(_ words: [String]) -> Bool { words.contains(where: plain.contains) }
    if hasAny(["authentication failed", "no password supplied", "no pg_hba.conf entry"]) {
      return .credentials
    }
    // Malformed or incompatible settings.
    if hasAny([
      "invalid ", "unrecognized ", "server does not support", "unsupported startup parameter",
      "SSL was required", "SSL error",
      "certificate", "private key", "definition of service", "service file",
    ]) {
      return .usage
    }
    // A missing role or database, or a missing privilege: a retry does not help.
    return hasAny([
      "does not exist", "permission denied", "is not permitted", "not currently accepting",
    ])
      ? .failed : .temporary
  }

  public var summary: String { messageWithoutValues }

  public var remedy: String {
    if let hint = hintWithoutValues { return hint }
    return switch disposition {
    case .temporary: "run again: nothing is lost, and the run continues where it stopped"
    case .credentials: "check the user and the password of the connection"
    case .usage, .refused, .held, .failed:
      "see PostgreSQL's log for details"
    }
  }

  /// Whether the server refused the statement, and a retry would not help.
  public var isRefusal: Bool { state != nil && !isTemporary }

  /// Whether a function of the ledger raised the error. The messages of these functions quote at most a row's ID.
  private var isOurs: Bool {
    isRaised && (function?.hasPrefix("lethe.") == true || state?.rawValue == "23L01")
  }

  /// Classes of errors with messages that never quote a row, if PostgreSQL itself wrote the message.
  private static let plainClasses: Set<Substring> = ["23", "40", "44", "53", "55", "57"]
  /// Classes of errors with messages that may quote a value.
  private static let quotingClasses: Set<Substring> = ["22", "38", "39", "P0"]

  /// Whether the message may quote a row.
  private var mayQuoteRows: Bool {
    guard let state, !isOurs, !isRaisedByScript, !isOwnTimeout, !isPrivilegeMissing else {
      return false
    }
    if isRaised { return true }
    // Division by zero, and a text that is too long.
    if ["22012", "22001"].contains(state.rawValue) { return false }
    if Self.quotingClasses.contains(state.conditionClass) { return true }
    return isWithinFunction && !Self.plainClasses.contains(state.conditionClass)
  }

  /// Whether the detail and the hint may quote a row. For a constraint violation, the detail is the row.
  private var mayQuoteRowsInDetail: Bool {
    guard let state, !isOurs, !isRaisedByScript, !isOwnTimeout else { return false }
    return mayQuoteRows || isWithinFunction || ["23", "44"].contains(state.conditionClass)
  }

  /// Marks the error as the loss of the connection. Texts that may quote a row are removed first, because the new code
  /// no longer shows which texts may quote one.
  mutating func noteLostConnection() {
    if mayQuoteRowsInDetail { (detail, hint) = (nil, nil) }
    if mayQuoteRows { message = messageWithoutValues }
    code = .connectionLost
  }

  /// The server's hint, unless it may quote a row.
  public var hintWithoutValues: String? { mayQuoteRowsInDetail ? nil : hint }

  /// The server's message. If it may quote a row, a message with the names of the column, table or function replaces
  /// it.
  public var messageWithoutValues: String {
    guard let state else { return message }
    let what: String
    if !mayQuoteRows {
      what = message
    } else if !isRaised && state.conditionClass == "22" {
      let object = column ?? table
      what =
        "a value of a row has the wrong form or range\(object.map { ": \($0)" } ?? "")"
    } else {
      what = function.map { "the function \($0) raised an error" } ?? "a function raised an error"
    }
    return "\(what) (SQLSTATE \(state))"
  }

  public var description: String {
    var text = messageWithoutValues
    if let detail, !mayQuoteRowsInDetail { text += "\n  detail: \(detail)" }
    if let hint = hintWithoutValues { text += "\n  hint: \(hint)" }
    if let statement {
      let line = statement.split(whereSeparator: \.isWhitespace).joined(separator: " ")
      text += "\n  statement: \(line.count > 400 ? line.prefix(400) + "…" : line[...])"
    }
    return text
  }
}
