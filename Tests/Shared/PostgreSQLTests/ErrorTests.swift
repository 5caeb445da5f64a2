import Foundation
import TestSupport
import Testing

@testable import PostgreSQL

@Suite struct ErrorTests {
  /// Runs `script` and then `body` on a new database, and returns the error of `body`.
  private static func failure(
    after script: SQL = "", _ body: (Connection) async throws -> Void
  ) async throws -> PostgreSQLError {
    let error: PostgreSQLError? = try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await connection.runScript(script)
        do {
          try await body(connection)
          return nil
        } catch let error as PostgreSQLError {
          #expect(try await connection.query("SELECT 1").onlyRow(as: Int.self) == 1)
          return error
        }
      }
    }
    return try #require(error)
  }

  @Test func theErrorOfAViolationNamesConstraintAndTable() async throws {
    let error = try await Self.failure(
      after:
        """
        CREATE SCHEMA s; CREATE TABLE s.t (x int CONSTRAINT x_is_unique PRIMARY KEY, y text);
        """
    ) {
      try await $0.execute("INSERT INTO s.t VALUES (\(1), \("hunter2"))")
      try await $0.execute("INSERT INTO s.t VALUES (\(1), \("hunter2"))")
    }
    #expect(error.code == .server(.uniqueViolation))
    #expect(error.state == .uniqueViolation)
    #expect(error.state?.conditionClass == "23")
    #expect(error.constraint == "x_is_unique")
    #expect(error.table == "s.t")
    #expect(error.detail == "Key (x)=(1) already exists.")
    #expect(error.statement == "INSERT INTO s.t VALUES ($1, $2)")
    #expect(error.position == nil)
    #expect(error.hint == nil)
    #expect(!error.isTemporary && !error.isRetryableTransaction)
  }

  /// A connection can be lost directly after an error. The code of that error, which decides what its texts may quote, is
  /// not known any more then.
  @Test(arguments: ["23505", "22P02", "P0001", "57P01"])
  func theErrorOfALostConnectionQuotesNoRow(state: String) {
    var error = PostgreSQLError(
      code: .server(SQLState(rawValue: state)), message: "message hunter2", detail: "hunter2",
      hint: "hunter2")
    error.isRaised = state == "P0001"
    error.noteLostConnection()
    #expect(error.code == .connectionLost)
    #expect("\(error)".contains("hunter2") == (state == "57P01" || state == "23505"))
    #expect((error.detail ?? error.hint) == (state == "57P01" ? "hunter2" : nil))
  }

  @Test func aSyntaxErrorHasItsPositionInCharacters() async throws {
    let sql: SQL = "SELECT '😀é', nothing_of_this_name"
    let error = try await Self.failure { _ = try await $0.query(sql) }
    #expect(error.state?.rawValue == "42703")
    #expect(error.position == 14)
    #expect(error.statement == sql.description)
  }

  @Test func theErrorContainsTheServersMessageDetailAndHint() async throws {
    let error = try await Self.failure { _ = try await $0.query("SELECT no_such_function(1)") }
    #expect(error.state?.rawValue == "42883")
    #expect(error.hint?.contains("explicit type casts") == true)
    let raised = try await Self.failure {
      try await $0.runScript(
        "DO $$ BEGIN RAISE EXCEPTION 'm' USING DETAIL = 'd', HINT = 'h', ERRCODE = 'ZZ123'; END $$")
    }
    #expect(raised.code == .server(SQLState(rawValue: "ZZ123")))
    #expect(
      (raised.message, raised.detail, raised.hint) as (String, String?, String?) == ("m", "d", "h"))
    #expect("\(raised)" == "m (SQLSTATE ZZ123)\n  detail: d\n  hint: h")
  }

  /// Lethe does not show the message of an error in a trigger's function, for any SQLSTATE, because the message can
  /// quote a row. It also does not show the message of a conversion error, which quotes the value.
  @Test(arguments: [
    ("RAISE 'hunter2'", "the function public.noisy raised an error (SQLSTATE P0001)"),
    (
      "RAISE 'hunter2' USING ERRCODE = '23514'",
      "the function public.noisy raised an error (SQLSTATE 23514)"
    ),
    (
      "RAISE 'hunter2' USING ERRCODE = 'ZZ123'",
      "the function public.noisy raised an error (SQLSTATE ZZ123)"
    ),
    (
      "RAISE division_by_zero USING MESSAGE = 'hunter2'",
      "the function public.noisy raised an error (SQLSTATE 22012)"
    ),
    (
      "RAISE insufficient_privilege USING MESSAGE = 'hunter2', DETAIL = 'hunter2', HINT = 'hunter2'",
      "the function public.noisy raised an error (SQLSTATE 42501)"
    ),
    (
      "EXECUTE 'TABLE ' || NEW.content",
      "the function public.noisy raised an error (SQLSTATE 42P01)"
    ),
    (
      "EXECUTE format('DO %L', 'BEGIN RAISE ''hunter2'' USING ERRCODE = ''42501''; END')",
      "a function raised an error (SQLSTATE 42501)"
    ),
    ("ASSERT false, 'hunter2'", "the function public.noisy raised an error (SQLSTATE P0004)"),
    (
      "PERFORM NEW.content::integer",
      "a value of a row has the wrong form or range (SQLSTATE 22P02)"
    ),
    (
      "NEW.short := NEW.content",
      "null value in column \"must\" of relation \"t\" violates not-null constraint (SQLSTATE 23502)"
    ),
  ])
  func noDescriptionQuotesARow(body: String, expected: String) async throws {
    let error = try await Self.failure(
      after: """
        CREATE SCHEMA s; CREATE TABLE s.t (content text, short text, must text NOT NULL);
        CREATE FUNCTION public.noisy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \(trusted: body); RETURN NEW; END $$;
        CREATE TRIGGER noisy BEFORE INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION public.noisy();
        SET search_path = s
        """
    ) { try await $0.execute("INSERT INTO s.t VALUES (\("hunter2"))") }
    #expect(error.messageWithoutValues == expected)
    #expect(!"\(error)".contains("hunter2"))
  }

  /// If a DO block executes RAISE, the message is shown, because the author of the script wrote it. The message of a
  /// conversion error in the block is not shown, because it quotes the value.
  @Test func aScriptsRaisedMessageIsShown() async throws {
    let unread = try await Self.failure {
      try await $0.runScript("DO $$ DECLARE n integer; BEGIN n := 'hunter2'; END $$")
    }
    #expect(!unread.isRaisedByScript)
    #expect(!"\(unread)".contains("hunter2"))
    let raised = try await Self.failure {
      try await $0.runScript("DO $$ BEGIN RAISE 'why'; END $$")
    }
    #expect(raised.isRaisedByScript)
    #expect(raised.messageWithoutValues == "why (SQLSTATE P0001)")
  }

  private static func everyDescription(of error: any Error) -> [String] {
    var dumped = ""
    dump(error, to: &dumped)
    return [
      "\(error)", String(describing: error), String(reflecting: error), dumped,
      error.localizedDescription,
    ]
  }

  @Test(
    arguments: [
      "SELECT 1 / (\("hunter2-value")::text = '')::int", "SELECT nothing, \("hunter2-value")::text",
      "SELECT FROM WHERE \("hunter2-value")",
      "SELECT \("hunter2-value")::text, pg_catalog.no_such(1)",
    ] as [SQL])
  func aBoundValueIsInNoDescription(sql: SQL) async throws {
    let error = try await Self.failure { _ = try await $0.query(sql) }
    for text in Self.everyDescription(of: error) { #expect(!text.contains("hunter2")) }
    #expect("\(error)".contains(sql.description))
  }

  @Test func aLongStatementIsCutAndPutOnOneLine() async throws {
    let sql: SQL = "SELECT nothing,\n  '\(trusted: String(repeating: "x", count: 1000))'"
    let error = try await Self.failure { _ = try await $0.query(sql) }
    let last = "\(error)".split(separator: "\n").last ?? ""
    #expect(last.hasPrefix("  statement: SELECT nothing, 'xxx"))
    #expect(last.hasSuffix("xxx…"))
    #expect(last.count < 430)
  }

  // MARK: Scripts

  @Test(arguments: [
    ("SELECT 1 / 0;", 0), ("SELECT 1; SELECT 1 / 0;", 1),
    (
      "SELECT 1;; ; -- no statement\n SELECT 2; DO $$ BEGIN NULL; END $$; SELECT 1 / 0; SELECT 3;",
      3
    ),
    ("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2); SELECT 1 / (x - 2) FROM t;", 2),
    ("SELECT 1; SELECT 2; SELEC 3;", 0),  // the server parses the whole script first
    ("SELECT 1; SELECT nothing; SELECT 3;", 1),
  ])
  func theErrorOfAScriptCountsItsCompletedStatements(script: SQL, completed: Int) async throws {
    let error = try await Self.failure { try await $0.runScript(script) }
    #expect(error.statementsCompleted == completed)
    #expect(error.statement == nil)
  }

  @Test func aScriptIsOneTransactionAndAPositionCountsFromItsBeginning() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        do {
          try await connection.runScript("CREATE TABLE t (x int);\nSELECT nothing;")
          Issue.record("the script succeeded")
        } catch let error as PostgreSQLError {
          #expect(error.position == 32)
        }
        let table = try await connection.query("SELECT to_regclass('t')").onlyRow(as: String?.self)
        #expect(table == nil)
      }
    }
  }

  /// Without special handling, libpq would return COPY results for ever.
  @Test(arguments: [
    ("SELECT 1; COPY t FROM STDIN; SELECT 2;", 1), ("COPY (SELECT 1) TO STDOUT;", 0),
    ("COPY (SELECT generate_series(1, 1000000)) TO STDOUT; SELECT 2;", 0),
  ])
  func aCopyWithinAScriptIsRefusedAndDoesNotHang(script: SQL, completed: Int) async throws {
    let error = try await Self.failure(after: "CREATE TABLE t (x int)") {
      try await $0.runScript(script)
    }
    #expect(error.code == .misuse)
    #expect(error.statementsCompleted == completed)
    #expect(!error.isTemporary)
  }

  @Test(arguments: ["COPY t FROM STDIN", "COPY t TO STDOUT"])
  func aCopyWithoutAHandleIsRefused(sql: SQL) async throws {
    let error = try await Self.failure(after: "CREATE TABLE t (x int); INSERT INTO t VALUES (1)") {
      _ = try await $0.query(sql)
    }
    #expect(error.code == .misuse)
    #expect(error.hint?.contains("withCopy") == true)
  }

  // MARK: Retries

  @Test(arguments: [
    (PostgreSQLError.Code.connectionFailed, true, false), (.connectionLost, true, false),
    (.malformedConnectionString, false, false),
    (.busy, false, false), (.decoding, false, false), (.notCommitted, false, false),
    (.unexpectedRowCount, false, false), (.misuse, false, false),
    (.server(.serializationFailure), true, true), (.server(.deadlockDetected), true, true),
    (.server(.lockNotAvailable), true, true), (.server(SQLState(rawValue: "57P03")), true, false),
    (.server(SQLState(rawValue: "53300")), true, false), (.server(.queryCanceled), true, false),
    (.server(.uniqueViolation), false, false), (.server(.undefinedTable), false, false),
    (.server(SQLState(rawValue: "08006")), true, false),
    (.server(.protocolViolation), false, false),
  ])
  func errorCodesAreClassifiedForRetries(
    code: PostgreSQLError.Code, isTemporary: Bool, isRetryable: Bool
  ) {
    let error = PostgreSQLError(code: code, message: "m")
    #expect(error.isTemporary == isTemporary)
    #expect(error.isRetryableTransaction == isRetryable)
  }

  @Test func aRealDeadlockIsRetryable() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { first in
        try await first.runScript("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2)")
        try await database.withConnection { second in
          let flag = TestGate<Int>()
          func swap(_ connection: Connection, _ mine: Int64, _ other: Int64) async throws {
            try await connection.withTransaction { transaction in
              try await transaction.execute("SELECT FROM t WHERE x = \(mine) FOR UPDATE")
              await flag.pass(Int(mine))
              try await flag.reached { $0 == Int(other) }
              try await transaction.execute(
                "SELECT FROM t WHERE x = \(other) FOR UPDATE")
            }
          }
          async let one: Void = swap(first, 1, 2)
          async let two: Void = swap(second, 2, 1)
          var failures: [PostgreSQLError] = []
          do { try await one } catch let error as PostgreSQLError { failures.append(error) }
          do { try await two } catch let error as PostgreSQLError { failures.append(error) }
          #expect(failures.count == 1)
          #expect(failures.first?.state == .deadlockDetected)
          #expect(failures.first?.isRetryableTransaction == true)
        }
      }
    }
  }

  /// A lost connection has only libpq's text, which could quote the line of a COPY or a statement of a function.
  @Test func theTextOfALostConnectionQuotesNoContent() async throws {
    try await withTestDatabase { database in
      let connection = try await Connection.connect(database.connectionString)
      try await connection.runScript(
        """
        CREATE TABLE t (x text);
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
          $$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(600); RETURN NEW; END$$;
        CREATE TRIGGER wait BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION wait();
        """)
      let error = await #expect(throws: PostgreSQLError.self) {
        try await connection.withCopyIn("COPY t FROM STDIN") {
          try await $0.write(Array("hunter2\n".utf8))
        }
      }
      let text = try #require(error).description
      #expect(error?.isLossOfSession == true, "\(text)")
      for part in ["hunter2", "pg_sleep", "CONTEXT"] { #expect(!text.contains(part), "\(text)") }
      await connection.close()
    }
  }

  /// The server ends a session whose process does not continue its transaction, for example because the process was
  /// stopped. A new session can continue.
  @Test(arguments: [
    ("idle_in_transaction_session_timeout", "BEGIN"), ("idle_session_timeout", "SELECT 1"),
  ])
  func aSessionThatWasIdleForTooLongIsLost(setting: String, statement: String) async throws {
    try await withTestDatabase { database in
      let connection = try await Connection.connect(database.connectionString)
      let process = try await connection.query("SELECT pg_backend_pid()").onlyRow(as: Int64.self)
      try await connection.runScript("SET \(identifier: setting) = '1ms'; \(trusted: statement)")
      try await database.withConnection { observer in
        while try await observer.query(
          "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = \(process))"
        ).onlyRow(as: Bool.self) { try await pollingPause() }
      }
      let error = await #expect(throws: PostgreSQLError.self) {
        try await connection.query("SELECT 1")
      }
      #expect(error?.isLossOfSession == true, "\(String(describing: error))")
      #expect(error?.isTemporary == true)
      await connection.close()
    }
  }
}
