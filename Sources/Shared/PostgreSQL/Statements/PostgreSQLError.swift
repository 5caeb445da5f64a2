public import Failures

/// What went wrong between this program and a PostgreSQL server.
///
/// Its description carries the server's message, detail, hint and the statement's text. It never
/// carries a bound value, a connection string or the content of a row: those may be secret or somebody's
/// data. (`message`, `detail` and `hint` are the server's own, and may quote any of a row's values.)
public struct PostgreSQLError: ExplainedError, Sendable {
  public enum Code: Hashable, Sendable {
    /// No connection could be made.
    case connectionFailed
    /// The connection string is not one; the server was not asked.
    case malformedConnectionString
    /// The session has a setting that would make statements do something else, and it cannot be changed.
    case unusableSession
    /// The connection broke. If a COMMIT was under way, whether it took effect is not known.
    case connectionLost
    /// The server refused a statement.
    case server(SQLState)
    /// The connection is in a transaction or a COPY that somebody else holds.
    case busy
    /// A value of the result is not of the asked type.
    case decoding
    /// The server ended a transaction with ROLLBACK where COMMIT was asked for.
    case notCommitted
    /// A statement changed another number of rows than it had to.
    case unexpectedRowCount
    /// It cannot be done this way: a COPY without a handle, a handle for what is no COPY, a zero byte
    /// in a text.
    case misuse
  }

  public var code: Code
  public var message: String
  public var detail: String?
  public var hint: String?
  /// The schema-qualified table, where the server names one.
  public var table: String?
  public var constraint: String?
  public var column: String?
  /// The function of a procedural language that it comes from, where the context names one.
  public var function: String?
  /// Whether a function has raised it: the message is somebody's own, whatever its SQLSTATE.
  public var isRaised = false
  /// Whether the server misses a privilege: its message names the object, which is there.
  public var isOfPrivilege = false
  /// Whether it came about within a function, or within a statement that a constraint makes.
  public var isWithinFunction = false
  /// Whether a DO block has raised it that was the statement itself: the message is its author's word to
  /// whoever runs it.
  public var isOfScript = false
  /// Whether a statement took longer than the connection's own timeouts allow.
  public var isOwnTimeout = false
  /// Where in `statement` the server saw the error: characters, the first is 1.
  public var position: Int?
  /// The statement's text, without its values.
  public var statement: String?
  /// How many statements of a script had completed before this error; 0 outside scripts.
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

  /// The same transaction, tried again, may well succeed: a deadlock, a serialization failure or a
  /// lock that was not to be had in time.
  public var isRetryableTransaction: Bool {
    switch state {
    case .serializationFailure, .deadlockDetected, .lockNotAvailable: true
    default: false
    }
  }

  /// Nothing is wrong with the request: the server is away, starting, stopping or out of resources.
  public var isTemporary: Bool {
    switch code {
    case .connectionFailed, .connectionLost: true
    case .server(.protocolViolation): false  // such as a parameter that nothing is bound to
    case .server(.queryCanceled) where isOwnTimeout: false
    case .server(let state):
      isRetryableTransaction || ["08", "53", "57", "58"].contains(state.conditionClass)
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

  /// libpq has no SQLSTATE for a connection that was refused; its words and the server's are all there is.
  private var dispositionOfFailedConnection: Disposition {
    // What is quoted is a name of somebody's.
    let plain = message.replacing(/"[^"]*"/, with: "")
    func says(_ words: [String]) -> Bool { words.contains(where: plain.contains) }
    if says(["authentication failed", "no password supplied", "no pg_hba.conf entry"]) {
      return .credentials
    }
    // What was written wrong, or does not go together.
    if says([
      "invalid ", "unrecognized ", "server does not support", "SSL was required", "SSL error",
      "certificate", "private key", "definition of service", "service file",
    ]) {
      return .usage
    }
    // A role or a database, which no later try will find; or what its owner forbids.
    return says([
      "does not exist", "permission denied", "is not permitted", "not currently accepting",
    ])
      ? .failed : .temporary
  }

  public var what: String { messageWithoutValues }

  public var remedy: String {
    if let hint = hintWithoutValues { return hint }
    return switch disposition {
    case .temporary: "run again: nothing is lost, and the run goes on where it stood"
    case .credentials: "check the user and the password of the connection"
    case .usage, .refused, .held, .failed:
      "PostgreSQL's log has more of it"
    }
  }

  /// The server refuses a statement, and would refuse it again.
  public var isRefusal: Bool { state != nil && !isTemporary }

  /// Whether a function of the ledger has raised it: those quote no row.
  private var isOurs: Bool {
    isRaised && (function?.hasPrefix("lethe.") == true || state?.rawValue == "23L01")
  }

  /// Classes of which PostgreSQL's own messages quote no row, wherever they come about.
  private static let plainClasses: Set<Substring> = ["23", "40", "44", "53", "55", "57"]
  /// Classes whose messages may quote a value.
  private static let quotingClasses: Set<Substring> = ["22", "38", "39", "P0"]

  /// Whether the message may quote a row.
  private var mayQuoteRows: Bool {
    guard let state, !isOurs, !isOfScript, !isOwnTimeout, !isOfPrivilege else { return false }
    if isRaised { return true }
    // A division by zero, and a text that is too long.
    if ["22012", "22001"].contains(state.rawValue) { return false }
    if Self.quotingClasses.contains(state.conditionClass) { return true }
    return isWithinFunction && !Self.plainClasses.contains(state.conditionClass)
  }

  /// Whether the detail and the hint may: of a row that breaks a constraint, the detail is the row.
  private var mayQuoteRowsInDetail: Bool {
    guard let state, !isOurs, !isOfScript, !isOwnTimeout else { return false }
    return mayQuoteRows || isWithinFunction || ["23", "44"].contains(state.conditionClass)
  }

  /// The server's hint, unless it may quote a row.
  public var hintWithoutValues: String? { mayQuoteRowsInDetail ? nil : hint }

  /// The server's message; where that may quote a row, the names of the function and the table in its
  /// place.
  public var messageWithoutValues: String {
    guard let state else { return message }
    let what: String
    if !mayQuoteRows {
      what = message
    } else if !isRaised && state.conditionClass == "22" {
      let place = column ?? table
      what =
        "a value of a row cannot be used as it would have to be\(place.map { ": \($0)" } ?? "")"
    } else {
      what = function.map { "the function \($0) refuses it" } ?? "a function refuses it"
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
