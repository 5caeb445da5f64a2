internal import CLibPQ
internal import SQLText

/// The fields of an error report, by the letters of PostgreSQL's protocol. libpq defines them as character macros,
/// which Swift does not import.
enum DiagnosticField: Int32 {
  case severity = 0x56  // V
  case sqlState = 0x43  // C
  case primaryMessage = 0x4D  // M
  case detail = 0x44  // D
  case hint = 0x48  // H
  case statementPosition = 0x50  // P
  case schemaName = 0x73  // s
  case tableName = 0x74  // t
  case constraintName = 0x6E  // n
  case columnName = 0x63  // c
  case context = 0x57  // W
  case sourceFunction = 0x52  // R
}

/// These methods block until the server responds. They run on the connection's own queue.
extension Connection {
  func execute(_ sql: String, _ parameters: [Parameter]) throws -> QueryResult {
    try requireSendable(sql, parameters)
    began = .now
    let encoding = ServerEncoding(
      name: PQparameterStatus(handle, "server_encoding").map { String(cString: $0) } ?? "UTF8")
    let result = Self.withEncoded(parameters.map { $0.escapingUnsupported(in: encoding) }) {
      values, lengths, formats in
      PQexecParams(handle, sql, Int32(parameters.count), nil, values, lengths, formats, 0)
    }
    return try checked(result, statement: sql)
  }

  /// The limit of PostgreSQL's protocol, which sends the number of parameters as a 16-bit integer.
  private static let parametersMax = 65_535

  /// Refuses too many parameters, and a text with a zero byte. libpq would send such a text only up to the zero byte.
  private func requireSendable(_ sql: String, _ parameters: [Parameter]) throws {
    if sql.utf8.contains(0) {
      throw PostgreSQLError(code: .misuse, message: "the statement contains a zero byte")
    }
    guard parameters.count <= Self.parametersMax else {
      throw PostgreSQLError(
        code: .misuse,
        message:
          "a statement has \(parameters.count) parameters; the limit is \(Self.parametersMax)",
        hint: "bind the values as one array", statement: sql)
    }
    if let index = parameters.firstIndex(where: \.hasZeroByteInText) {
      throw PostgreSQLError(
        code: .misuse, message: "the text of $\(index + 1) contains a zero byte",
        hint: "PostgreSQL's text cannot contain one; bind it as bytes", statement: sql)
    }
  }

  func executeScript(_ sql: String) throws {
    try requireSendable(sql, [])
    began = .now
    guard PQsendQuery(handle, sql) == 1 else { throw brokenConnection(statement: nil) }
    var completed = 0
    var failure: PostgreSQLError?
    while let result = PQgetResult(handle) {
      do {
        if try checked(result, statement: sql).isCopy {
          // If the COPY stayed open, this loop would never end.
          failure = failure ?? copyWithoutHandle(completed: completed)
          abortCopy()
        }
        completed += 1
      } catch let error as PostgreSQLError where failure == nil {
        failure = error
        failure?.statement = nil
        failure?.statementsCompleted = completed
      }
    }
    if let failure { throw settled(failure) }
  }

  private func copyWithoutHandle(completed: Int) -> PostgreSQLError {
    var error = PostgreSQLError(
      code: .misuse, message: "a COPY from or to the client cannot be part of a script",
      hint: "write the rows as INSERTs, or use withCopyIn or withCopyOut")
    error.statementsCompleted = completed
    return error
  }

  /// Marks the error as `.connectionLost` if the connection is broken. Call it after the last result, because libpq can
  /// return the server's last error before it notices the broken connection.
  func settled(_ failure: PostgreSQLError) -> PostgreSQLError {
    var failure = failure
    if PQstatus(handle) != CONNECTION_OK { failure.noteLostConnection() }
    return failure
  }

  func checked(_ result: OpaquePointer?, statement: String) throws -> QueryResult {
    guard let result else { throw brokenConnection(statement: statement) }
    switch PQresultStatus(result) {
    case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY, PGRES_COPY_IN, PGRES_COPY_OUT:
      return QueryResult(taking: result, statement: statement)
    default:
      defer { PQclear(result) }
      throw error(of: result, statement: statement)
    }
  }

  func error(of result: OpaquePointer, statement: String) -> PostgreSQLError {
    guard let state = Self.field(result, .sqlState) else {
      return brokenConnection(statement: statement)
    }
    var error = PostgreSQLError(
      code: .server(SQLState(rawValue: state)),
      message: Self.field(result, .primaryMessage) ?? "no message",
      detail: Self.field(result, .detail), hint: Self.field(result, .hint), statement: statement)
    if let table = Self.field(result, .tableName) {
      error.table = (Self.field(result, .schemaName).map { $0 + "." } ?? "") + table
    }
    error.constraint = Self.field(result, .constraintName)
    error.column = Self.field(result, .columnName)
    // The C functions of the server that report a RAISE, an error of a remote server, or a missing privilege. Unlike
    // the messages, these names do not depend on the locale.
    error.isRaised = ["exec_stmt_raise", "pgfdw_report_error", "dblink_res_error"]
      .contains(Self.field(result, .sourceFunction))
    error.isPrivilegeMissing = ["aclcheck_error", "aclcheck_error_col"]
      .contains(Self.field(result, .sourceFunction))
    Self.note(Self.field(result, .context), in: &error)
    error.position = Self.field(result, .statementPosition).flatMap { Int($0) }
    noteOwnTimeout(in: &error)
    noteStandby(in: &error)
    // An error with the severity FATAL or PANIC ends the session. libpq might not have noticed this yet.
    let isLast = ["FATAL", "PANIC"].contains(Self.field(result, .severity))
    if isLast || PQstatus(handle) != CONNECTION_OK { error.noteLostConnection() }
    return error
  }

  /// Marks the error if the server is a standby. If the connection renews its sessions, the next statement outside a
  /// transaction then uses a new session.
  ///
  /// Sessions have `default_transaction_read_only = off`, so there is no other cause outside of transactions that are
  /// read-only on purpose. `in_hot_standby` is not used, because a pooler would show an old value.
  private func noteStandby(in error: inout PostgreSQLError) {
    guard error.state == .readOnlyTransaction, !error.isRaised, occupant == nil || !isReadOnly
    else { return }
    error.isOnStandby = true
    error.hint = "connect to the primary; with several hosts, add target_session_attrs=read-write"
    hasFoundStandby = true
  }

  /// Adds to the error what its context shows about functions. Keeps only names, because the context can quote
  /// statements and rows.
  private static func note(_ context: String?, in error: inout PostgreSQLError) {
    let lines = (context ?? "").split(separator: "\n")
    // The context of a bound value, such as a table's name, is not a function. The server may translate this text; then
    // the error counts as one of a function.
    guard let first = lines.first, !first.hasPrefix("unnamed portal parameter") else { return }
    error.isWithinFunction = true
    // A function in another language than PL/pgSQL can raise any SQLSTATE, and nothing in the error shows that the
    // function raised it. So each error of such a function counts as raised.
    if context?.contains(/PL\/(?!pgSQL)\w/) == true { error.isRaised = true }
    error.isRaisedByScript =
      error.isRaised && lines.count == 1 && first.contains("inline_code_block")
    if first.hasPrefix("PL/"), let call = first.firstMatch(of: /([\w.$"]+)\(/) {
      error.function = String(call.1)
    }
  }

  /// Returns an error of libpq itself, which has no SQLSTATE. The connection must not be used again, even if libpq does
  /// not report it as broken. For example, after a crash of the server libpq cannot send, but can still read the
  /// server's last message.
  func brokenConnection(statement: String?) -> PostgreSQLError {
    guard !isAborted else {
      return PostgreSQLError(
        code: .connectionLost,
        message: "the connection to PostgreSQL was closed because the server did not respond",
        hint: "run again when the server responds", statement: statement)
    }
    return PostgreSQLError(
      code: .connectionLost,
      message: "the connection to PostgreSQL failed: \(Self.trimmed(PQerrorMessage(handle)))",
      hint: "run again when the server is available", statement: statement)
  }

  /// Puts all values into one buffer, so that libpq's pointers stay valid during the call.
  static func withEncoded<R>(
    _ parameters: [Parameter],
    _ body: (UnsafePointer<UnsafePointer<CChar>?>?, UnsafePointer<Int32>?, UnsafePointer<Int32>?)
      -> R
  ) -> R {
    guard !parameters.isEmpty else { return body(nil, nil, nil) }
    var buffer: [UInt8] = []
    var offsets: [Int?] = []
    var lengths: [Int32] = []
    for parameter in parameters {
      let encoded = parameter.encoded
      offsets.append(encoded.map { _ in buffer.count })
      lengths.append(Int32(encoded?.count ?? 0))
      buffer += encoded ?? []
      // The zero byte ends a text. It also gives an empty bytea an address in the buffer.
      buffer.append(0)
    }
    let formats: [Int32] = parameters.map { $0.isBinary ? 1 : 0 }
    return buffer.withUnsafeBytes { bytes in
      let base = bytes.baseAddress!.assumingMemoryBound(to: CChar.self)
      let pointers = offsets.map { $0.map { UnsafePointer(base + $0) } }
      return body(pointers, lengths, formats)
    }
  }

  static func field(_ result: OpaquePointer, _ name: DiagnosticField) -> String? {
    PQresultErrorField(result, name.rawValue).map { String(cString: $0) }
  }

  static func trimmed(_ message: UnsafeMutablePointer<CChar>?) -> String {
    guard let message else { return "" }
    return String(cString: message).split(whereSeparator: \.isNewline).joined(separator: " ")
  }
}

extension SQL {
  /// The text of a script or a COPY, which cannot have bound values.
  func textWithoutValues() throws -> String {
    let (text, parameters) = statement
    guard parameters.isEmpty else {
      throw PostgreSQLError(
        code: .misuse, message: "a script or a COPY cannot have bound values",
        hint: "write each value as a literal", statement: text)
    }
    return text
  }
}
