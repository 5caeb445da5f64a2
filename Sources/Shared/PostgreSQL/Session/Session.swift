@_exported public import SQLText

/// Runs statements: a `Connection` (each statement or script is its own transaction, unless an enclosing transaction is
/// open) or a `Transaction`.
public protocol Session: Sendable {
  func run(_ sql: SQL) async throws -> QueryResult
  /// Runs statements separated by semicolons, without bound values.
  func runScript(_ sql: SQL) async throws
  func beginCopyOut(_ sql: SQL) async throws -> CopyOut
  /// The unscoped form of `withCopyIn`: the caller must `finish` or `abandon` it.
  func beginCopyIn(_ sql: SQL) async throws -> CopyIn
}

extension Session {
  /// Runs a statement and returns its rows.
  public func query(_ sql: SQL) async throws -> QueryResult {
    try await run(sql)
  }

  /// - Returns: the number of affected rows.
  @discardableResult
  public func execute(_ sql: SQL) async throws -> Int {
    try await run(sql).rowsAffected
  }

  /// Runs a statement that must affect exactly one row, such as an update with a condition on the state.
  /// - Throws: `PostgreSQLError` `.unexpectedRowCount` if it affects another number of rows. The caller must roll back.
  public func executeOne(_ sql: SQL) async throws {
    let rows = try await run(sql).rowsAffected
    guard rows == 1 else {
      throw PostgreSQLError(
        code: .unexpectedRowCount, message: "the statement affected \(rows) rows instead of one",
        statement: sql.description)
    }
  }

  /// Streams a `COPY … TO STDOUT` through `body`, block by block. The server waits while `body` works. If `body` does
  /// not read to the end, the COPY is cancelled on the server.
  public func withCopyOut<R: Sendable>(
    _ sql: SQL, isolation: isolated (any Actor)? = #isolation,
    _ body: (CopyOut) async throws -> R
  ) async throws -> R {
    let copy = try await beginCopyOut(sql)
    do {
      let value = try await body(copy)
      await copy.end()
      return value
    } catch {
      await copy.end()
      throw error
    }
  }

  /// Streams into a `COPY … FROM STDIN`. If `body` throws, the COPY fails as a whole.
  /// - Returns: the number of rows copied in.
  @discardableResult
  public func withCopyIn(
    _ sql: SQL, isolation: isolated (any Actor)? = #isolation,
    _ body: (CopyIn) async throws -> Void
  ) async throws -> Int {
    let copy = try await beginCopyIn(sql)
    do {
      try await body(copy)
      return try await copy.finish()
    } catch {
      await copy.abandon()
      throw error
    }
  }
}

/// The handle of an open transaction. It is invalid after its `withTransaction` has returned.
public struct Transaction: Session {
  let connection: Connection
  let token: Int

  /// The timeouts of the connection.
  public var timeouts: SessionTimeouts { connection.timeouts }

  public func run(_ sql: SQL) async throws -> QueryResult {
    try await connection.run(sql, as: token)
  }

  public func runScript(_ sql: SQL) async throws {
    try await connection.runScript(sql, as: token)
  }

  public func beginCopyOut(_ sql: SQL) async throws -> CopyOut {
    CopyOut(
      connection: connection, copy: try await connection.beginCopy(sql, .out, as: token),
      transaction: token)
  }

  public func beginCopyIn(_ sql: SQL) async throws -> CopyIn {
    CopyIn(
      connection: connection, copy: try await connection.beginCopy(sql, .in, as: token),
      transaction: token)
  }
}

extension Connection: Session {
  public func beginCopyOut(_ sql: SQL) async throws -> CopyOut {
    try await renewIfNeeded()
    try requireFree()
    return CopyOut(
      connection: self, copy: try await beginCopy(sql, .out, as: nil), transaction: nil)
  }

  public func beginCopyIn(_ sql: SQL) async throws -> CopyIn {
    try await renewIfNeeded()
    try requireFree()
    return CopyIn(
      connection: self, copy: try await beginCopy(sql, .in, as: nil), transaction: nil)
  }
}
