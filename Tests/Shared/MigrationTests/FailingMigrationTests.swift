import Migrations
import PostgreSQL
import SystemPackage
import TestSupport
import Testing

/// Tests that a failing migration reports its file and line, and leaves no changes.
@Suite struct FailingMigrationTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let up: String
    /// The number of the line after `-- migrate:up`, from 1. Nil if the error has no line.
    let line: Int?
    let message: String
  }

  private static let function = """
    CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $body$
    BEGIN
      -- a comment; with semicolons; and a quote '
      RAISE NOTICE 'one; two; $$ three';
      RETURN 1;
    END
    $body$;
    """

  private static let cases: [Case] = [
    Case(
      testDescription: "a syntax error has a position",
      up: "CREATE TABLE a (x int);\n\nCREATE TABEL b (x int);",
      line: 3, message: "syntax error at or near \"TABEL\""),
    Case(
      testDescription: "an unknown column has a position",
      up: "CREATE TABLE a (x int);\nSELECT x,\n  y\nFROM a;", line: 3,
      message: "column \"y\" does not exist"),
    Case(
      testDescription: "positions count code points",
      up: "SELECT '👨‍👩‍👧‍👦 e\u{301} 🇩🇪';\n\n\nSELECT '👨‍👩‍👧‍👦', nothing;", line: 4,
      message: "column \"nothing\" does not exist"),
    Case(
      testDescription: "lines are counted in CRLF files",
      up: "CREATE TABLE a (x int);\r\n\r\n-- why\r\nSELECT nothing;\r\n", line: 4,
      message: "column \"nothing\" does not exist"),
    Case(
      testDescription: "a runtime error in a CRLF file",
      up: "CREATE TABLE a (x int);\r\n\r\n-- why\r\nSELECT 1 / 0;\r\n", line: 4,
      message: "division by zero"),
    Case(
      testDescription: "a division by zero after a function with semicolons",
      up: function + "\n/* a; comment */ SELECT 1;\n\nSELECT\n  1 / 0;\nSELECT 2;", line: 10,
      message: "division by zero"),
    Case(
      testDescription: "a unique violation in the third statement",
      up: "CREATE TABLE u (x int PRIMARY KEY);\n" + function
        + "\nINSERT INTO u VALUES (1);\nINSERT\nINTO u VALUES (1);", line: 10,
      message: "duplicate key value violates unique constraint \"u_pkey\""),
    Case(
      testDescription: "nested comments, escapes, quotes and parentheses do not end a statement",
      up: """
        /* one /* two; */ three; */
        SELECT E'it\\'s; fine', 'it''s; fine', "a;b" FROM (SELECT 1 AS "a;b") AS t;
        CREATE TABLE a (x int); CREATE RULE r AS ON INSERT TO a DO ALSO (SELECT 1; SELECT 2);
        SELECT $$;$$, $a$;$$;$a$, 1 AS x$a$; ;;
        SELECT 1 / 0;
        """, line: 5, message: "division by zero"),
    Case(
      testDescription: "an error in a DO block",
      up: "\nDO $$ BEGIN\n RAISE EXCEPTION 'no'; END $$;",
      line: 2, message: "no (SQLSTATE P0001)"),
    Case(
      testDescription: "a statement that cannot run in a transaction",
      up: "CREATE TABLE a (x int);\nCREATE INDEX CONCURRENTLY i ON a (x);", line: 2,
      message: "CREATE INDEX CONCURRENTLY cannot"),
    Case(
      testDescription: "a COPY from the client",
      up: "CREATE TABLE a (x int);\nCOPY a FROM STDIN;\n", line: 2,
      message: "a COPY from or to the client cannot be part of a script"),
    Case(
      testDescription: "a COPY to the client", up: "SELECT 1;\n\nCOPY (SELECT 1) TO STDOUT;\n",
      line: 3,
      message: "a COPY from or to the client cannot be part of a script"),
    Case(
      testDescription: "an error at COMMIT has no line",
      up: """
        CREATE TABLE p (x int PRIMARY KEY);
        CREATE TABLE c (x int REFERENCES p DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO c VALUES (1);
        """, line: nil, message: "insert or update on table \"c\" violates foreign key constraint"),
    Case(
      testDescription: "an error when the version is recorded has no line",
      up: "DROP TABLE public.schema_migrations;", line: nil,
      message: "relation \"public.schema_migrations\" does not exist"),
  ]

  @Test(arguments: cases)
  func aFailingMigrationReportsFileAndLineAndChangesNothing(failing: Case) async throws {
    let head = "-- It fails.\n\n-- migrate:up\n"
    let files = [
      "1_good.sql":
        "-- migrate:up\nCREATE TABLE good (x int);\n-- migrate:down\nDROP TABLE good;\n",
      "2_bad.sql": head + failing.up + "\n-- migrate:down\n",
      "3_later.sql": "-- migrate:up\nCREATE TABLE later (x int);\n-- migrate:down\n",
    ]
    try await withTestDatabase { database in
      try await database.withConnection { connection throws in
        try await withMigrationSet(files) { set throws in
          let migrator = Migrator(connection: connection, set: set)
          do {
            try await migrator.up()
            Issue.record("the migration succeeded")
          } catch let error as MigrationError {
            #expect(error.file == set.migrations[1].file.string)
            #expect(error.line == failing.line.map { $0 + 3 })
            #expect(error.message.contains(failing.message))
            #expect(error.remedy.contains("none of this file's changes were kept"))
          }
          // Earlier migrations stay applied, later migrations did not run, and the connection can be used.
          #expect(try await connection.recordedVersions() == ["1"])
          let objects = try await connection.objects().filter {
            !$0.contains("schema_migrations") && $0 != "schema public"
          }
          #expect(objects == ["table good", "type good", "type good[]"])
          #expect(try await connection.advisoryLocks() == 0)
        }
      }
    }
  }

  @Test func aFailedRollbackLeavesTheMigrationApplied() async throws {
    let files = [
      "1_a.sql":
        "-- migrate:up\nCREATE TABLE a (x int);\n-- migrate:down\nDROP TABLE a;\nDROP TABLE b;\n"
    ]
    try await withTestDatabase { database in
      try await database.withConnection { connection throws in
        try await withMigrationSet(files) { set throws in
          let migrator = Migrator(connection: connection, set: set)
          try await migrator.up()
          do {
            try await migrator.down()
            Issue.record("the rollback succeeded")
          } catch let error as MigrationError {
            #expect(error.line == 5)
            #expect(error.message.contains("table \"b\" does not exist"))
          }
          #expect(try await connection.recordedVersions() == ["1"])
          #expect(try await connection.hasRelation("a"))
        }
      }
    }
  }
}
