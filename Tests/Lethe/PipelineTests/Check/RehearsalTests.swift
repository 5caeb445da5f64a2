import ApplyStage
import Definitions
import Foundation
import PostgreSQL
import Runtime
import Synchronization
import TestSupport
import Testing
import Warehouse

/// `lethe check` tries each change on one row of each table, partition and child table. It rolls back all changes.
@Suite struct RehearsalTests {
  /// Runs `body` with a database and with the URL that the check uses to connect to the database.
  private func withDatabase(
    _ setupSQL: String, asPlainRole isPlain: Bool = false,
    _ body: (TestDatabase, String) async throws -> Void
  ) async throws {
    try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection in
        try await connection.runScript("\(trusted: RehearsalCase.tables)\n\(trusted: setupSQL)")
      }
      guard isPlain else { return try await body(database, database.url) }
      let role = "\(database.name)_plain"
      try await database.withConnection { connection in
        try await connection.runScript(
          """
          CREATE ROLE \(trusted: role);
          GRANT USAGE ON SCHEMA shop, lethe TO \(trusted: role);
          GRANT SELECT, UPDATE, DELETE ON shop.posts, shop.media TO \(trusted: role);
          GRANT ALL ON ALL TABLES IN SCHEMA lethe TO \(trusted: role)
          """)
        do {
          try await body(database, "\(database.url)?options=-c%20role%3D\(role)")
        } catch {
          try await connection.runScript(
            "DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)")
          throw error
        }
        try await connection.runScript("DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)")
      }
    }
  }

  private func findings(
    _ url: String, of definition: String = RehearsalCase.definition, rehearses: Bool = true,
    announcements: Announcements = Announcements()
  ) async throws -> [Finding] {
    let pipeline = try Pipeline.parse(
      yaml: definition, file: "p.yaml", environment: ["DATABASE_URL": url])
    return try await PipelineRuntime.findings(of: pipeline, rehearses: rehearses) {
      announcements.add($0)
    }
  }

  /// Everything that a rehearsal must not change: all rows, and all sequences except those of the ledger's holds,
  /// which a rollback does not reset.
  private func snapshot(_ database: TestDatabase) async throws -> [String] {
    try await database.withConnection { connection in
      let tables = try await connection.query(
        """
        SELECT format('%I.%I', n.nspname, c.relname)
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('shop', 'lethe') AND c.relkind = 'r' ORDER BY 1
        """
      ).rows(as: String.self)
      var all = try await connection.query(
        """
        SELECT format('%s %s %s', schemaname, sequencename, last_value) FROM pg_sequences
        WHERE sequencename NOT LIKE 'hold%' ORDER BY 1
        """
      ).rows(as: String.self)
      for table in tables {
        let rows = try await connection.query(
          """
          SELECT coalesce(string_agg(t::text || t.xmin, ',' ORDER BY t::text), '')
          FROM \(trusted: table) AS t
          """
        ).onlyRow(as: String.self)
        all.append("\(table): \(rows)")
      }
      return all
    }
  }

  private func expectFindings(of each: RehearsalCase) async throws {
    try await withDatabase(each.setupSQL, asPlainRole: each.isPlainRole) { database, url in
      let before = try await snapshot(database)
      let findings = try await findings(url, of: each.definition)
      #expect(try await snapshot(database) == before)
      // Besides an error, the check can warn that the trigger copies rows. This test ignores that warning.
      let reported = findings.filter { $0.severity == each.severity || $0.severity == .error }
      let notes = findings.filter { $0.severity == .note && $0 != .notRehearsed }
      #expect(reported.count == each.messageParts.count, "\(findings)")
      #expect(notes.count == each.notes.count, "\(notes)")
      for parts in each.messageParts {
        #expect(
          reported.contains { finding in
            finding.severity == each.severity && parts.allSatisfy(finding.message.contains)
              && (each.remedy.isEmpty || finding.remedy.contains(each.remedy))
          }, "\(parts) is not in \(reported)")
      }
      for parts in each.notes {
        #expect(
          notes.contains { parts.allSatisfy($0.message.contains) }, "\(parts) is not in \(notes)")
      }
      for finding in findings {
        #expect(!finding.message.contains("secret"), "\(finding)")
        #expect(!finding.remedy.contains("secret"), "\(finding)")
      }
    }
  }

  @Test(arguments: RehearsalCase.refused)
  func aChangeThatARunCouldNotMakeIsReported(refused: RehearsalCase) async throws {
    try await expectFindings(of: refused)
  }

  @Test(arguments: RehearsalCase.copied)
  func aTriggerThatKeepsCopiesIsReportedOnce(copied: RehearsalCase) async throws {
    try await expectFindings(of: copied)
  }

  @Test(arguments: RehearsalCase.noted)
  func onlyTheExpectedNotesAreReported(noted: RehearsalCase) async throws {
    try await expectFindings(of: noted)
  }

  @Test(arguments: RehearsalCase.eventTriggers)
  func eventTriggersThatStopLetheAreReported(eventTrigger: RehearsalCase) async throws {
    try await expectFindings(of: eventTrigger)
  }

  @Test func theRehearsalDoesNotWaitForLockedRows() async throws {
    try await withDatabase("DELETE FROM shop.posts WHERE post_id = 4") { database, url in
      try await database.withConnection { other in
        try await other.withTransaction { transaction in
          try await transaction.execute("SELECT FROM shop.posts FOR UPDATE")
          let began = ContinuousClock.now
          let messages = try await findings(url).map { "\($0.severity): \($0.message)" }
          #expect(ContinuousClock.now - began < .seconds(20))
          for label in ["delete", "protect", "scrub_geo", "redact"] {
            #expect(
              messages.contains {
                $0.hasPrefix("note: \(label) shop.posts was not rehearsed: rows locked by others")
              }, "\(messages)")
          }
          #expect(messages.count == 4, "\(messages)")
        }
      }
    }
  }

  /// Only post 3 is not locked, so the rehearsal uses it.
  @Test func theRehearsalSkipsALockedRow() async throws {
    try await withDatabase("") { database, url in
      try await database.withConnection { other in
        try await other.withTransaction { transaction in
          try await transaction.execute("SELECT FROM shop.posts WHERE post_id <> 3 FOR UPDATE")
          #expect(try await findings(url) == [])
        }
      }
    }
  }

  @Test(arguments: RehearsalCase.refused.prefix(3))
  func theRehearsalCanBeSkipped(refused: RehearsalCase) async throws {
    try await withDatabase(refused.setupSQL) { _, url in
      let announcements = Announcements()
      let findings = try await findings(url, rehearses: false, announcements: announcements)
      #expect(!findings.contains { $0.severity == .error || $0.message.contains("rehearsed") })
      #expect(announcements.all.isEmpty)
    }
  }

  @Test func triggersAreReportedBeforeTheRehearsal() async throws {
    let setupSQL = RehearsalCase.copied[0].setupSQL
    try await withDatabase(setupSQL) { _, url in
      let announcements = Announcements()
      _ = try await findings(url, announcements: announcements)
      #expect(announcements.all.count == 1)
      #expect(announcements.all.first?.contains("keep of shop.posts") == true)
    }
  }

  /// A run finds the event trigger before it changes a row.
  @Test(arguments: RehearsalCase.eventTriggers)
  func aRunIsRefusedIfAnEventTriggerStopsLethe(eventTrigger: RehearsalCase) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.execute("CREATE SCHEMA shop; \(trusted: eventTrigger.setupSQL)")
      let pipeline = try fixture.pipeline()
      await #expect(throws: (any Error).self) {
        _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      }
      #expect(try await fixture.value("SELECT count(*) FROM lethe.run", as: Int.self) == 0)
    }
  }

  @Test func theProgramReportsWhatItDidNotCheck() async throws {
    try await PipelineFixture.with { fixture in
      let file = try fixture.definitionFile()
      // The check also reports values from this machine's environment, so the test clears them.
      let environment = fixture.environment.merging(
        ["SSL_CERT_FILE": "", "SSL_CERT_DIR": "", "http_proxy": "", "HTTP_PROXY": ""]
      ) { $1 }.merging(["all_proxy": "", "ALL_PROXY": ""]) { $1 }
      func check(_ arguments: String...) async throws -> Program.Result {
        try await Program.run("lethe", ["check", file] + arguments, environment: environment)
      }
      let empty = try await check()
      #expect(empty.code == 0, "\(empty.stderr)")
      #expect(empty.stdout.contains("fits the database, apart from what was not checked:"))
      #expect(empty.stdout.contains("note: delete warehouse.posts was not rehearsed"))
      let without = try await check("--no-rehearsal")
      #expect(without.stdout.hasSuffix("its changes were not rehearsed\n"), "\(without.stdout)")
      try await fixture.addSamples(posts: 500)
      try await fixture.execute(
        """
        CREATE TABLE public.past (id bigint);
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN INSERT INTO public.past VALUES (OLD.post_id); RETURN OLD; END';
        CREATE TRIGGER keep AFTER DELETE ON warehouse.posts FOR EACH ROW EXECUTE FUNCTION keep()
        """)
      try await fixture.execute("ALTER TABLE warehouse.reposts RENAME TO elsewhere")
      let wrong = try await check("--output", "json")
      #expect(wrong.code == 2 && wrong.json["rehearsed"] as? Bool == false, "\(wrong.stdout)")
      let error = try #require(wrong.json["error"] as? [String: Any])
      #expect(error["code"] as? String == "usage")
      #expect((error["message"] as? String)?.contains("warehouse.reposts") == true)
      try await fixture.execute("ALTER TABLE warehouse.elsewhere RENAME TO reposts")
      let full = try await check("--output", "json")
      #expect(full.code == 0, "\(full.stdout)")
      #expect(full.stderr.contains("keep of warehouse.posts"))
      #expect(full.json["rehearsed"] as? Bool == true)
      let findings = try #require(full.json["findings"] as? [[String: Any]])
      #expect(
        findings.contains {
          $0["severity"] as? String == "warning"
            && ($0["message"] as? String)?.contains("public.past gets copies") == true
        }, "\(findings)")
      #expect(try await fixture.value("SELECT count(*) FROM public.past", as: Int.self) == 0)
    }
  }
}

/// The lines that were reported before the rehearsal.
private final class Announcements: Sendable {
  private let lines = Mutex<[String]>([])
  func add(_ line: String) { lines.withLock { $0.append(line) } }
  var all: [String] { lines.withLock { $0 } }
}
