/// The session parameters that Lethe's statements depend on. A role, a database or a server may set other values.
/// Lethe's sessions override these values.
///
/// The operator's search_path is kept, because triggers and conditions depend on it. But `pg_catalog` always comes
/// first in it, which is PostgreSQL's default, so that its functions, types and tables take precedence.
enum SessionSettings {
  /// Values are stored and compared as text, so a value must always have the same text.
  private static let texts = [
    ("DateStyle", "ISO, YMD"), ("TimeZone", "UTC"), ("IntervalStyle", "postgres"),
    ("bytea_output", "hex"), ("extra_float_digits", "1"), ("xmlbinary", "base64"),
    ("xmloption", "content"), ("lc_monetary", "C"),
  ]

  /// Settings that determine how the server reads and writes SQL.
  private static let syntax = [
    ("standard_conforming_strings", "on"), ("backslash_quote", "safe_encoding"),
    ("array_nulls", "on"), ("transform_null_equals", "off"), ("quote_all_identifiers", "off"),
    ("check_function_bodies", "on"),
  ]

  /// What a transaction sees and may do. In READ COMMITTED, a statement that waited for another transaction sees that
  /// transaction's changes. In the stricter levels, it does not.
  private static let transactions = [
    ("default_transaction_isolation", "read committed"), ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"), ("row_security", "on"), ("exit_on_error", "off"),
  ]

  /// The timeouts of waits. Most are turned off, because statements of large batches take long, and a session is idle
  /// while Lethe waits for the API. The connection's own timeout applies to statements. A session that is idle in a
  /// transaction belongs to a process that was stopped, and its locks stop others.
  private static let waits = [
    ("lock_timeout", "0"), ("transaction_timeout", "0"),
    ("idle_in_transaction_session_timeout", "1min"), ("idle_session_timeout", "0"),
  ]

  /// JIT compilation takes longer than it saves: it took 150 ms of 190 ms for each batch of 10,000 rows of a large
  /// table.
  private static let plans = [("jit", "off")]

  /// Removes `pg_catalog` from a search_path that has other schemas before it. PostgreSQL then searches it first.
  private static let catalogFirst: SQL = """
    SELECT pg_catalog.set_config('search_path', (
             SELECT coalesce(pg_catalog.string_agg(pg_catalog.quote_ident(s.name), ', ' ORDER BY s.number), '')
             FROM ROWS FROM (pg_catalog.unnest(p.path)) WITH ORDINALITY AS s (name, number)
             WHERE s.name OPERATOR(pg_catalog.<>) 'pg_catalog'), false)
    FROM (SELECT pg_catalog.current_schemas(false) AS path) AS p
    WHERE 'pg_catalog'::pg_catalog.name OPERATOR(pg_catalog.=) ANY (p.path)
      AND p.path[1] OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.name
    """

  /// This setting must not be `replica`, because then foreign keys are not checked and most triggers do not fire. By
  /// default, only a superuser may change it.
  private static let replicationRole = "session_replication_role"

  /// - Throws: `PostgreSQLError` `.unusableSession` if a setting that Lethe requires cannot be changed.
  static func apply(on connection: Connection) async throws {
    let ownTimeout = [("statement_timeout", connection.timeouts.statementTimeout)]
    let all = texts + syntax + transactions + waits + plans + ownTimeout
    let values = all.map { "(\(literal: $0.0), \(literal: $0.1))" as SQL }.joined(separator: ", ")
    // This is the first statement, because a deferrable transaction could wait for other transactions.
    try await connection.execute("SET default_transaction_deferrable = off")
    // Set only parameters that this server version has.
    try await connection.execute(
      """
      SELECT pg_catalog.set_config(s.name, s.value, false)
      FROM (VALUES \(values)) AS s (name, value)
      WHERE pg_catalog.current_setting(s.name, true) IS NOT NULL
      """)
    try await connection.execute(catalogFirst)
    let role = try await connection.query(
      "SELECT pg_catalog.current_setting(\(replicationRole))"
    ).onlyRow(as: String.self)
    guard role == "replica" else { return }
    do {
      try await connection.execute("SET \(identifier: replicationRole) = origin")
    } catch let error as PostgreSQLError where error.state == .insufficientPrivilege {
      throw PostgreSQLError(
        code: .unusableSession,
        message: """
          \(replicationRole) is \(role): constraints are not checked, triggers do not fire, and the role may not \
          change the setting
          """,
        hint: "ALTER ROLE … RESET \(replicationRole), or ALTER DATABASE … RESET \(replicationRole)")
    }
  }
}
