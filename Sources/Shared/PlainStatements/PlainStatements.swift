public import PostgreSQL

/// Statements as texts that number their placeholders themselves, for what does not use `SQL` yet.
extension Session {
  public func run(_ sql: String, _ parameters: [Parameter]) async throws -> QueryResult {
    try await run(SQL(numbered: sql, parameters))
  }

  public func query(_ sql: String, _ parameters: Parameter...) async throws -> QueryResult {
    try await run(sql, parameters)
  }

  @discardableResult
  public func execute(_ sql: String, _ parameters: Parameter...) async throws -> Int {
    try await run(sql, parameters).rowsAffected
  }

  public func executeOne(_ sql: String, _ parameters: Parameter...) async throws {
    try await executeOne(SQL(numbered: sql, parameters))
  }

  public func runScript(_ sql: String) async throws {
    try await runScript(SQL(trusted: sql))
  }

  public func beginCopyOut(_ sql: String) async throws -> CopyOut {
    try await beginCopyOut(SQL(trusted: sql))
  }

  public func beginCopyIn(_ sql: String) async throws -> CopyIn {
    try await beginCopyIn(SQL(trusted: sql))
  }

  public func withCopyOut<R: Sendable>(
    _ sql: String, isolation: isolated (any Actor)? = #isolation,
    _ body: (CopyOut) async throws -> R
  ) async throws -> R {
    try await withCopyOut(SQL(trusted: sql), isolation: isolation, body)
  }

  @discardableResult
  public func withCopyIn(
    _ sql: String, isolation: isolated (any Actor)? = #isolation,
    _ body: (CopyIn) async throws -> Void
  ) async throws -> Int {
    try await withCopyIn(SQL(trusted: sql), isolation: isolation, body)
  }
}
