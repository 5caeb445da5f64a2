/// The parameters that Lethe's statements, values and waits rest on. A role, a database or a server may set
/// any of them; in Lethe's sessions they are these.
///
/// The operator's search_path stays: triggers and conditions rest on it. Only that PostgreSQL's own functions, types
/// and tables are found first, as they are where it does not name `pg_catalog`.
enum SessionSettings {
  /// Values are kept and compared by their text, so it must be one text for one value.
  private static let texts = [
    ("DateStyle", "ISO, YMD"), ("TimeZone", "UTC"), ("IntervalStyle", "postgres"),
    ("bytea_output", "hex"), ("extra_float_digits", "1"), ("xmlbinary", "base64"),
    ("xmloption", "content"), ("lc_monetary", "C"),
  ]

  /// How statements are read.
  private static let syntax = [
    ("standard_conforming_strings", "on"), ("backslash_quote", "safe_encoding"),
    ("array_nulls", "on"), ("transform_null_equals", "off"), ("quote_all_identifiers", "off"),
    ("check_function_bodies", "on"),
  ]

  /// What a transaction sees and may do. A statement that waits for somebody else sees what he left behind
  /// only in READ COMMITTED.
  private static let transactions = [
    ("default_transaction_isolation", "read committed"), ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"), ("row_security", "on"), ("exit_on_error", "off"),
  ]

  /// A statement of a large batch takes what it takes, unless the connection's own timeouts say otherwise, and
  /// a session waits for the API between two.
  private static let waits = [
    ("lock_timeout", "0"), ("transaction_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"), ("idle_session_timeout", "0"),
  ]

  /// Takes `pg_catalog` out of a search_path that has other schemas before it: it is before all then.
  private static let catalogFirst: SQL = """
    SELECT pg_catalog.set_config('search_path', (
             SELECT coalesce(pg_catalog.string_agg(pg_catalog.quote_ident(s.name), ', ' ORDER BY s.place), '')
             FROM ROWS FROM (pg_catalog.unnest(p.path)) WITH ORDINALITY AS s (name, place)
             WHERE s.name OPERATOR(pg_catalog.<>) 'pg_catalog'), false)
    FROM (SELECT pg_catalog.current_schemas(false) AS path) AS p
    WHERE 'pg_catalog'::pg_catalog.name OPERATOR(pg_catalog.=) ANY (p.path)
      AND p.path[1] OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.name
    """

  /// Constraints are checked and triggers fire. Only a superuser may set it.
  private static let replicationRole = "session_replication_role"

  /// - Throws: `PostgreSQLError` `.unusableSession` for what cannot be set and would make Lethe do wrong.
  static func take(on connection: Connection) async throws {
    let own = [("statement_timeout", connection.timeouts.statementTimeout)]
    let all = texts + syntax + transactions + waits + own
    let values = all.map { "(\(literal: $0.0), \(literal: $0.1))" as SQL }.joined(separator: ", ")
    // First, for the next one would wait for others.
    try await connection.execute("SET default_transaction_deferrable = off")
    // Servers differ in which of them they know.
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
          \(replicationRole) is \(role), so that no constraint is checked and no trigger fires, and the role \
          may not change it
          """,
        hint: "ALTER ROLE … RESET \(replicationRole), or the same of the database")
    }
  }
}
