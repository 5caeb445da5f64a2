import Definitions
import PostgreSQL
import TestSupport
import Testing
import Warehouse

/// Tests of the check of a definition against a database.
@Suite struct CatalogCheckTests {
  /// A definition for two tables. Tests change the tables, the roles or the text.
  static let yaml = """
    name: check
    warehouse: x
    api: {bearer_token: t}
    datasets:
      posts:
        type: tweets
        table: shop.posts
        id: post_id
        where: "ingested_at < now()"
        actions:
          deleted: delete
          bounced: ignore
          suspended: ignore
          deactivated: ignore
          protected: {protect: {set: {visibility: hidden}, restore: {visibility: shown}}}
          scrub_geo: {scrub_geo: [latitude]}
          tweet_edited: rehydrate
        targets:
          - table: shop.media
            match: post_id
            id: media_id
            type: none
            actions: {deleted: delete}
    """

  static let tables: SQL = """
    CREATE SCHEMA shop;
    CREATE TABLE shop.posts (
      post_id bigint PRIMARY KEY, ingested_at timestamptz, visibility text, latitude float8);
    CREATE TABLE shop.media (media_id bigint PRIMARY KEY, post_id bigint);
    CREATE INDEX media_post_id ON shop.media (post_id);
    """

  struct Found: Equatable {
    let severity: Finding.Severity
    let line: Int?
    let message: String
    let remedy: String
  }

  static func findings(
    _ yaml: String, on database: TestDatabase, as role: String? = nil, before script: SQL = ""
  ) async throws -> [Found] {
    let pipeline = try Samples.parse(yaml)
    return try await database.withConnection { connection in
      try await connection.runScript(script)
      if let role { try await connection.execute("SET ROLE \(identifier: role)") }
      let catalog = try await Catalog(of: pipeline.definition, on: connection)
      return try await catalog.check(pipeline.definition, on: connection).map {
        Found(
          severity: $0.severity, line: pipeline.line(of: $0.path), message: $0.message,
          remedy: $0.remedy)
      }
    }
  }

  @Test(arguments: ["demo", "nightly"])
  func theProjectsOwnDefinitionsFitTheReferenceWarehouse(name: String) async throws {
    let pipeline = try Pipeline.load(
      file: "\(repositoryRootPath)/pipelines/\(name).yaml", environment: Samples.environment)
    try await withTestDatabase(.ledger, .warehouse) { database in
      try await database.withConnection { connection in
        let catalog = try await Catalog(of: pipeline.definition, on: connection)
        #expect(try await catalog.check(pipeline.definition, on: connection) == [])
      }
    }
  }

  struct Case: Sendable, CustomTestStringConvertible {
    /// SQL that makes the tables unsuitable for the definition.
    let setupSQL: String
    let line: Int
    let message: String
    let severity: Finding.Severity
    /// A part of the definition. Empty if the definition stays unchanged.
    let part: String
    /// The replacement of `part`.
    let other: String

    var testDescription: String { message }

    init(
      _ setupSQL: String, part: String = "", other: String = "", line: Int, _ message: String,
      _ severity: Finding.Severity = .error
    ) {
      self.setupSQL = setupSQL
      self.line = line
      self.message = message
      self.severity = severity
      self.part = part
      self.other = other
    }
  }

  private static let cases: [Case] = [
    Case("DROP TABLE shop.posts", line: 7, "there is no table shop.posts"),
    Case("DROP SCHEMA shop CASCADE", line: 7, "there is no table shop.posts"),
    Case("DROP TABLE shop.media", line: 19, "there is no table shop.media"),
    Case(
      "ALTER TABLE shop.media RENAME TO media_table; CREATE VIEW shop.media AS SELECT * FROM shop.media_table",
      line: 19, "shop.media is a view"),
    Case(
      "ALTER TABLE shop.posts RENAME post_id TO \"Post_ID\"", line: 8,
      "shop.posts has no column post_id"),
    Case(
      "ALTER TABLE shop.posts ALTER post_id TYPE uuid USING gen_random_uuid()", line: 8,
      "shop.posts.post_id is uuid, which cannot store IDs"),
    Case(
      "ALTER TABLE shop.posts ALTER post_id TYPE float8", line: 8,
      "shop.posts.post_id is double precision"),
    Case(
      "ALTER TABLE shop.media RENAME post_id TO post", line: 20, "shop.media has no column post_id"),
    Case(
      "ALTER TABLE shop.media ALTER post_id TYPE date USING now()", line: 20,
      "shop.media.post_id is date"),
    Case(
      "ALTER TABLE shop.media RENAME media_id TO id", line: 21, "shop.media has no column media_id"),
    Case(
      "ALTER TABLE shop.posts RENAME visibility TO seen", line: 15,
      "shop.posts has no column visibility"),
    Case(
      "ALTER TABLE shop.posts RENAME latitude TO lat", line: 16, "shop.posts has no column latitude"
    ),
    Case(
      "ALTER TABLE shop.posts ALTER latitude SET NOT NULL", line: 16,
      "shop.posts.latitude is NOT NULL and cannot be set to NULL"),
    Case(
      "ALTER TABLE shop.posts DROP latitude, ADD latitude float8 GENERATED ALWAYS AS (post_id / 2.0) STORED",
      line: 16, "shop.posts.latitude is generated and cannot be set"),
    Case(
      "ALTER TABLE shop.posts ALTER visibility SET NOT NULL", part: "{set: {visibility: hidden}",
      other: "{set: {visibility: null}", line: 15, "shop.posts.visibility is NOT NULL"),
    Case(
      "ALTER TABLE shop.posts ALTER visibility SET NOT NULL", part: "restore: {visibility: shown}",
      other: "restore: {visibility: null}", line: 15, "shop.posts.visibility is NOT NULL"),
    Case(
      "SELECT", part: "ingested_at < now()", other: "ingested_at <", line: 9,
      "PostgreSQL refuses the condition: syntax error"),
    Case(
      "SELECT", part: "ingested_at < now()", other: "ingested < now()", line: 9,
      "PostgreSQL refuses the condition: column \\\"ingested\\\" does not exist"),
    Case(
      "SELECT", part: "ingested_at < now()", other: "ingested_at", line: 9,
      "PostgreSQL refuses the condition: argument of WHERE must be type boolean"),
    Case(
      "SELECT", part: "ingested_at < now()", other: "true); DELETE FROM shop.posts; --", line: 9,
      "PostgreSQL refuses the condition: "),
    Case(
      "SELECT", part: "ingested_at < now()", other: "post_id = $1", line: 9,
      "PostgreSQL refuses the condition: bind message supplies 0 parameters"),
    Case(
      "DROP INDEX shop.media_post_id", line: 20, "no index of shop.media starts with post_id",
      .warning),
    Case(
      "DROP INDEX shop.media_post_id; CREATE INDEX ON shop.media (media_id, post_id)", line: 20,
      "no index of shop.media starts with post_id", .warning),
    Case(
      "ALTER TABLE shop.posts SET (fillfactor = 10); INSERT INTO shop.posts SELECT generate_series(1, 40000); ANALYZE shop.posts",
      line: 7,
      "only 0 % of shop.posts is marked all-visible", .warning),
    Case(
      "ALTER TABLE shop.posts DROP CONSTRAINT posts_pkey, ADD number int PRIMARY KEY", line: 8,
      "no index of shop.posts starts with post_id", .warning),
    Case(
      "CREATE DOMAIN shop.key AS uuid; ALTER TABLE shop.posts ALTER post_id TYPE shop.key USING gen_random_uuid()",
      line: 8, "shop.posts.post_id is shop.key, which cannot store IDs"),
    Case(
      "CREATE RULE kept AS ON DELETE TO shop.posts DO INSTEAD NOTHING", line: 11,
      "a rule of shop.posts rewrites DELETE"),
    Case(
      "CREATE TYPE shop.mood AS ENUM ('shown'); ALTER TABLE shop.posts ALTER visibility TYPE shop.mood USING 'shown'",
      line: 15,
      "shop.posts.visibility is shop.mood and refuses the value hidden: invalid input value"
    ),
    Case(
      "ALTER TABLE shop.posts ALTER visibility TYPE varchar(5)", line: 15,
      "shop.posts.visibility is character varying(5) and does not store the value hidden unchanged"),
    Case(
      "CREATE DOMAIN shop.degrees AS float8 NOT NULL; ALTER TABLE shop.posts ALTER latitude TYPE shop.degrees",
      line: 16, "shop.posts.latitude is shop.degrees and refuses NULL"),
    Case(
      "CREATE TABLE shop.likes (post_id bigint REFERENCES shop.posts ON DELETE CASCADE)", line: 7,
      "PostgreSQL also deletes the rows of shop.likes that refer to deleted rows of shop.posts (constraint likes_post_id_fkey)",
      .warning),
    Case(
      "CREATE TABLE shop.likes (media_id bigint REFERENCES shop.media)", line: 19,
      "rows of shop.likes may refer to rows that are deleted from shop.media (constraint likes_media_id_fkey)",
      .warning),
    Case(
      "ALTER TABLE shop.posts ADD reply_to bigint REFERENCES shop.posts", line: 7,
      "rows of shop.posts may refer to rows that are deleted from shop.posts", .warning),
    Case(
      "ALTER TABLE shop.media ADD FOREIGN KEY (post_id) REFERENCES shop.posts",
      part: "bounced: ignore", other: "bounced: delete", line: 7,
      "rows of shop.media may refer to rows that are deleted from shop.posts", .warning),
  ]

  @Test(arguments: [
    "CREATE TABLE shop.likes (post_id bigint REFERENCES shop.posts ON DELETE SET NULL)",
    "ALTER TABLE shop.media ADD FOREIGN KEY (post_id) REFERENCES shop.posts ON DELETE CASCADE",
    // The referring table inherits from a table of the definition.
    """
    CREATE TABLE shop.videos (FOREIGN KEY (post_id) REFERENCES shop.posts) INHERITS (shop.media)
    """,
  ])
  func aForeignKeyThatPreventsNoDeletionIsNotReported(key: String) async throws {
    try await withTestDatabase { database in
      let found = try await Self.findings(
        Self.yaml, on: database, before: Self.tables + SQL(trusted: key))
      #expect(found == [])
    }
  }

  @Test(arguments: cases)
  func aMismatchIsReportedWithTheLineOfTheDefinition(fault: Case) async throws {
    let yaml = fault.part.isEmpty ? Self.yaml : Self.yaml.editing(fault.part, to: fault.other)
    try #require(fault.part.isEmpty || yaml != Self.yaml)
    try await withTestDatabase { database in
      let before = try await Self.findings(Self.yaml, on: database, before: Self.tables)
      #expect(before == [])
      let found = try await Self.findings(yaml, on: database, before: SQL(trusted: fault.setupSQL))
      let message = fault.message.replacing("\\\"", with: "\"")
      let match = found.first { $0.message.hasPrefix(message) }
      #expect(match?.line == fault.line, "\(found)")
      #expect(match?.severity == fault.severity)
      #expect(match?.remedy.isEmpty == false)
      // Each mistake leads to one finding. Only cases with CASCADE can lead to several findings.
      if !fault.setupSQL.contains("CASCADE") { #expect(found.count == 1, "\(found)") }
    }
  }

  @Test func checkingChangesNothing() async throws {
    let yaml = Self.yaml.editing("ingested_at < now()", to: "true); DELETE FROM shop.posts; --")
    try await withTestDatabase { database in
      let found = try await Self.findings(
        yaml, on: database, before: Self.tables + "INSERT INTO shop.posts VALUES (1)")
      #expect(found.map(\.line) == [9])
      try await database.withConnection { connection in
        let rows = try await connection.query("SELECT count(*) FROM shop.posts").onlyRow(
          as: Int.self)
        #expect(rows == 1)
      }
    }
  }

  // MARK: Privileges

  @Test(
    arguments: [
      ("", [7, 7, 11, 15, 16, 19, 19, 23], ["USAGE on the schema shop", "SELECT on shop.posts"]),
      (
        "GRANT USAGE ON SCHEMA shop TO r", [7, 11, 15, 16, 19, 23],
        [
          "SELECT on shop.posts", "DELETE on shop.posts", "UPDATE on shop.posts",
          "SELECT on shop.media",
        ]
      ),
      (
        "GRANT USAGE ON SCHEMA shop TO r; GRANT SELECT ON ALL TABLES IN SCHEMA shop TO r",
        [11, 15, 16, 23], ["DELETE on shop.posts", "UPDATE on shop.posts", "DELETE on shop.media"]
      ),
      (
        "GRANT USAGE ON SCHEMA shop TO r; GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA shop TO r",
        [15, 16], ["UPDATE on shop.posts"]
      ),
      (
        "GRANT USAGE ON SCHEMA shop TO r; GRANT SELECT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop TO r",
        [], []
      ),
    ] as [(String, [Int], [String])])
  func aMissingPrivilegeIsReportedOnTheLineThatNeedsIt(
    grants: String, lines: [Int], missing: [String]
  ) async throws {
    try await withTestDatabase { database in
      // Roles belong to the whole server, so each test has its own role.
      let role = database.name + "_role"
      let quoted = Identifier(role).quoted
      func withoutRole(_ session: Connection) async throws {
        try await session.runScript(
          "DROP OWNED BY \(trusted: quoted); DROP ROLE \(trusted: quoted)")
      }
      let found: [Found]
      do {
        found = try await Self.findings(
          Self.yaml.editing("where: \"ingested_at < now()\"", to: "tombstones: true"),
          on: database, as: role,
          before: "CREATE ROLE \(trusted: quoted); \(Self.tables)"
            + SQL(trusted: grants.replacing(" TO r", with: " TO \(quoted)")))
      } catch {
        try? await database.withConnection { try await withoutRole($0) }
        throw error
      }
      try await database.withConnection { try await withoutRole($0) }
      #expect(found.compactMap(\.line).sorted() == lines, "\(found)")
      for privilege in missing {
        let match = found.first { $0.message == "\(privilege) is not granted" }
        #expect(match?.severity == .error, "\(privilege): \(found)")
        #expect(match?.remedy.hasPrefix("GRANT ") == true)
      }
      #expect(found.allSatisfy { $0.message.hasSuffix(" is not granted") })
    }
  }

  @Test func aReferringTableThatCannotBeReadIsAnError() async throws {
    try await withTestDatabase { database in
      let role = database.name + "_role"
      let before: SQL = """
        CREATE ROLE \(trusted: role); \(Self.tables)
        GRANT USAGE ON SCHEMA shop TO \(trusted: role);
        GRANT SELECT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop TO \(trusted: role);
        CREATE TABLE shop.likes (post_id bigint REFERENCES shop.posts);
        """
      let found = try? await Self.findings(
        Self.yaml, on: database, as: role, before: before)
      try await database.withConnection {
        try await $0.runScript("DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)")
      }
      #expect(found?.map(\.line) == [7])
      #expect(found?.first?.severity == .error)
      #expect(found?.first?.remedy.hasPrefix("GRANT SELECT ON \"shop\".\"likes\"") == true)
    }
  }

  // MARK: Names

  @Test func namesAreMatchedExactlyAsWritten() async throws {
    let yaml = Self.yaml.editing(
      "table: shop.posts", to: "table: '\"The \"\"Shop\"\"\".\"Posts.2\"'")
    try await withTestDatabase { database in
      let found = try await Self.findings(
        yaml, on: database,
        before: Self.tables + #"""
          CREATE SCHEMA "The ""Shop""";
          ALTER TABLE shop.posts SET SCHEMA "The ""Shop""";
          ALTER TABLE "The ""Shop""".posts RENAME TO "Posts.2";
          """#)
      #expect(found == [])
      let folded = try await Self.findings(
        Self.yaml.editing("table: shop.posts", to: "table: shop.POSTS"), on: database,
        before: "CREATE TABLE shop.posts ()")
      #expect(folded.map(\.message).contains("there is no table shop.POSTS"))
    }
  }

  @Test func aTableWithoutASchemaIsFoundInTheSearchPath() async throws {
    let yaml = Self.yaml.editing("table: shop.posts", to: "table: posts")
    try await withTestDatabase { database in
      let hidden = try await Self.findings(yaml, on: database, before: Self.tables)
      #expect(hidden.map(\.message) == ["there is no table posts"])
      #expect(hidden.map(\.line) == [7])
      let found = try await Self.findings(yaml, on: database, before: "SET search_path = shop")
      #expect(found == [])
    }
  }

  @Test(arguments: [
    "bigint", "integer", "numeric", "numeric(20, 0)", "text", "varchar", "varchar(19)",
  ])
  func idColumnsOfTheseTypesAreAccepted(type: String) async throws {
    try await withTestDatabase { database in
      let found = try await Self.findings(
        Self.yaml, on: database,
        before: Self.tables
          + "ALTER TABLE shop.posts ALTER post_id TYPE \(trusted: type) USING post_id::\(trusted: type)"
      )
      #expect(found == [])
    }
  }
}
