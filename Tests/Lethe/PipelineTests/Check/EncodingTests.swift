import Foundation
import PostgreSQL
import TestSupport
import Testing

/// Databases with several encodings. Some of the encodings do not have all characters of the texts that the API and the
/// operators send.
@Suite struct EncodingTests {
  struct Kind: Sendable, CustomTestStringConvertible {
    let encoding: String
    /// A name with characters outside of ASCII that the encoding can store.
    let name: String
    /// The text that the database stores for `note`.
    let kept: String
    var testDescription: String { encoding }
  }

  private static let note = "\u{0416}\u{6728} \u{1F642} ok"
  private static let escaped = "\\u{416}\\u{6728} \\u{1f642} ok"

  private static let kinds = [
    Kind(encoding: "UTF8", name: "Beiträge", kept: note),
    Kind(encoding: "SQL_ASCII", name: "Beiträge", kept: note),
    Kind(encoding: "LATIN1", name: "Beiträge", kept: escaped),
    Kind(encoding: "LATIN9", name: "Größen", kept: escaped),
    Kind(encoding: "WIN1251", name: "Записи", kept: escaped),
    Kind(encoding: "KOI8R", name: "Записи", kept: escaped),
    Kind(encoding: "EUC_JP", name: "投稿", kept: escaped),
    Kind(encoding: "EUC_KR", name: "글쓰기판", kept: escaped),
  ]

  private static func definition(_ name: String) -> String {
    """
    name: encoding
    warehouse: ${DATABASE_URL}
    api: {base_url: "${COMPLIANCE_API_URL}", bearer_token: t, poll_seconds: 0.02, poll_seconds_max: 0.05, job_attempts: 1}
    limits: {max_redacted_percent: 10, max_restored_percent: 100}
    datasets:
      posts:
        type: tweets
        table: '"shop"."\(name)"'
        id: '\(name)_id'
        where: "title <> 'not \(name)'"
        actions:
          deleted: delete
          bounced: delete
          suspended: delete
          deactivated: delete
          protected: {protect: {set: {title: '\(name) x'}, restore: former}}
          geo_scrubbed: {scrub_geo: {raw: [[geo, '\(name)']]}}
          tweet_edited: rehydrate
    """
  }

  private static func withDatabase(
    _ kind: Kind, _ script: ScriptedAPI.Script,
    _ body: @escaping @Sendable (PipelineFixture) async throws -> Void
  ) async throws {
    try await withTestDatabase(encoding: kind.encoding, .ledger) { database in
      try await ScriptedAPI(script).serving { url in
        let fixture = PipelineFixture(
          database: database, service: url, gate: TestGate(),
          directory: FileManager.default.temporaryDirectory
            .appending(path: "encoding-\(database.name)").path)
        defer { try? FileManager.default.removeItem(atPath: fixture.directory) }
        try await fixture.execute(
          """
          CREATE SCHEMA shop;
          CREATE TABLE shop."\(trusted: kind.name)" ("\(trusted: kind.name)_id" text PRIMARY KEY,
            title text, raw jsonb);
          INSERT INTO shop."\(trusted: kind.name)"
          SELECT p, '\(trusted: kind.name) ' || p, '{"geo": {"\(trusted: kind.name)": 1, "rest": 2}}'
          FROM generate_series(1, 10) AS p;
          INSERT INTO shop."\(trusted: kind.name)" VALUES ('11', 'not \(trusted: kind.name)', NULL);
          """)
        try await body(fixture)
      }
    }
  }

  private static func lethe(_ fixture: PipelineFixture, _ arguments: String...) async throws
    -> Program.Result
  {
    try await Program.run("lethe", arguments, environment: fixture.environment)
  }

  /// The API returns a job status that Lethe does not know. The encoding LATIN1 does not have all characters of the
  /// status.
  @Test(arguments: ["UTF8", "LATIN1"])
  func anUnknownJobStatusIsStored(encoding: String) async throws {
    let kind = try #require(Self.kinds.first { $0.encoding == encoding })
    try await Self.withDatabase(kind, .init(status: Self.note)) { fixture in
      let file = try fixture.definitionFile { _ in
        Self.definition(kind.name).editing(
          "job_attempts: 1", to: "job_attempts: 1, job_hours_max: 0.0001")
      }
      let result = try await Self.lethe(fixture, "run", file)
      #expect(result.code == 5, "\(result.stderr)")
      #expect(
        try await fixture.value("SELECT status FROM lethe.job", as: String.self) == kind.kept)
    }
  }

  @Test(arguments: kinds)
  func aRunHasTheSameResultInEachEncoding(kind: Kind) async throws {
    let script = ScriptedAPI.Script(result: { ids in
      guard ids.contains(1) else { return CollectTests.event(4, "scrub_geo", "geo_scrubbed") }
      return CollectTests.event(1) + CollectTests.event(2)
        + CollectTests.event(3, "delete", "protected")
        + CollectTests.event(4, "scrub_geo", "geo_scrubbed")
        + #"{"id":"5","action":"\#(Self.note)","reason":"\#(Self.note)","created_at":null,"redacted_at":null}"#
        + "\n\(Self.note)\n"
    })
    try await Self.withDatabase(kind, script) { fixture in
      let file = try fixture.definitionFile { _ in Self.definition(kind.name) }
      let check = try await Self.lethe(fixture, "check", file)
      #expect(check.code == 0, "\(check.stdout)\(check.stderr)")
      let stopped = try await Self.lethe(fixture, "run", file)
      #expect(stopped.code == 3, "\(stopped.stdout)\(stopped.stderr)")
      let approved = try await Self.lethe(
        fixture, "apply", file, "--approve", "1", "--by", Self.note, "--note", Self.note)
      #expect(approved.code == 4, "\(approved.stdout)\(approved.stderr)")
      let table = "shop.\"\(kind.name)\""
      let rows: SQL =
        """
        SELECT string_agg("\(trusted: kind.name)_id", ' ' ORDER BY length(title), title)
        FROM \(trusted: table)
        """
      #expect(try await fixture.value(rows, as: String.self).split(separator: " ").count == 9)
      let changed = try await fixture.value(
        """
        SELECT string_agg(title || raw::text, '|' ORDER BY title) FROM \(trusted: table)
        WHERE "\(trusted: kind.name)_id" IN ('3', '4')
        """, as: String.self)
      #expect(
        changed
          == #"\#(kind.name) 4{"geo": {"rest": 2}}|\#(kind.name) x{"geo": {"rest": 2, "\#(kind.name)": 1}}"#
      )
      #expect(
        try await fixture.value(
          "SELECT approved_by || note FROM lethe.approval", as: String.self)
          == kind.kept + kind.kept)

      let listed = try await Self.lethe(fixture, "quarantine", "list")
      #expect(listed.code == 0, "\(listed.stderr)")
      let dismissed = try await Self.lethe(
        fixture, "quarantine", "dismiss", "--all", "--note", Self.note)
      #expect(dismissed.code == 0, "\(dismissed.stderr)")
      #expect(
        try await fixture.value("SELECT max(note) FROM lethe.quarantine", as: String.self)
          == kind.kept)
      let release = try await Self.lethe(
        fixture, "holds", "release", file, "3", "--type", "tweets", "--force", "--note", Self.note)
      #expect(release.code == 0, "\(release.stderr)")
      let sealed: SQL = "SELECT content::jsonb ->> 'note' FROM lethe.seal WHERE kind = 'release'"
      #expect(try await fixture.value(sealed, as: String.self) == kind.kept)
      let again = try await Self.lethe(fixture, "run", file)
      #expect(again.code == 0, "\(again.stdout)\(again.stderr)")
      for id in ["1", "3", "5"] {
        #expect(try await Self.lethe(fixture, "audit", "show", id).code == 0)
      }
      let verified = try await Self.lethe(fixture, "audit", "verify")
      #expect(verified.code == 0, "\(verified.stdout)\(verified.stderr)")
    }
  }

  @Test(arguments: kinds)
  func theAPIsErrorForAFailedJobIsStored(kind: Kind) async throws {
    let script = ScriptedAPI.Script(status: "failed", error: Self.note)
    try await Self.withDatabase(kind, script) { fixture in
      let file = try fixture.definitionFile { _ in Self.definition(kind.name) }
      let run = try await Self.lethe(fixture, "run", file)
      #expect(run.code == 5, "\(run.stdout)\(run.stderr)")
      let failure = try await fixture.value("SELECT failure FROM lethe.chunk", as: String.self)
      #expect(failure.contains(kind.kept), "\(failure)")
      let status = try await Self.lethe(fixture, "status")
      #expect(status.stdout.contains(kind.kept), "\(status.stdout)\(status.stderr)")
    }
  }

  /// Each argument has a text of the definition, the text that replaces it, and the part of the definition that the
  /// check reports.
  @Test(arguments: [
    ("title <> 'not Beiträge'", "title <> '\u{0416}'", "where"),
    ("set: {title: 'Beiträge x'}", "set: {title: '\u{6728}'}", "actions.protected"),
    ("[geo, 'Beiträge']", "[geo, '\u{20AC}']", "actions.geo_scrubbed"),
    ("id: 'Beiträge_id'", "id: '\u{0416}_id'", "id"),
    (#"table: '"shop"."Beiträge"'"#, #"table: '"shop"."木"'"#, "table"),
  ])
  func aDefinitionTextThatTheDatabaseCannotStoreIsReported(old: String, new: String, part: String)
    async throws
  {
    let kind = Self.kinds[2]
    try await Self.withDatabase(kind, .init()) { fixture in
      let file = try fixture.definitionFile { _ in
        Self.definition(kind.name).editing(old, to: new)
      }
      for command in [["check", file, "--output", "json"], ["run", file], ["plan", file]] {
        let result = try await Program.run("lethe", command, environment: fixture.environment)
        let output = result.stdout + result.stderr
        #expect(result.code == 2, "\(output)")
        #expect(output.contains("encoding LATIN1 does not have all characters"), "\(output)")
        if command[0] == "check" { #expect(output.contains("datasets.posts.\(part)"), "\(output)") }
      }
      #expect(try await fixture.value("SELECT count(*) FROM lethe.run", as: Int.self) == 0)
    }
  }
}
