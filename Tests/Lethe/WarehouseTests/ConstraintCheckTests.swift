import Definitions
import PostgreSQL
import TestSupport
import Testing
import Warehouse

/// Checks of the constraints and publications of PostgreSQL 13 to 18. A test skips cases that its server does not
/// support.
@Suite struct ConstraintCheckTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    /// SQL that adds the constraints or the publication.
    let setupSQL: String
    /// Parts of the message of the first finding. Empty if the check must find nothing.
    var messageParts: [String] = []
    var findings = 1
    var severity = Finding.Severity.error
    /// The first PostgreSQL release that supports the case.
    var since = 13

    var testDescription: String { name }
  }

  private static let preventsDeletion = [
    "rows of shop.likes may refer to rows that are deleted from shop.posts"
  ]
  private static let partitioned = """
    DROP TABLE shop.media;
    CREATE TABLE shop.media (media_id bigint, post_id bigint, PRIMARY KEY (media_id))
      PARTITION BY RANGE (media_id);
    CREATE INDEX ON shop.media (post_id);
    CREATE TABLE shop.media_1 PARTITION OF shop.media FOR VALUES FROM (0) TO (100);
    CREATE TABLE shop.media_2 PARTITION OF shop.media FOR VALUES FROM (100) TO (200);

    """

  private static let keys: [Case] = [
    Case(
      name: "a foreign key that is not validated",
      setupSQL: """
        CREATE TABLE shop.likes (post_id bigint); CREATE INDEX ON shop.likes (post_id);
        ALTER TABLE shop.likes ADD FOREIGN KEY (post_id) REFERENCES shop.posts NOT VALID
        """, messageParts: preventsDeletion, severity: .warning),
    Case(
      name: "ON DELETE SET NULL on a NOT NULL column",
      setupSQL: """
        CREATE TABLE shop.likes (post_id bigint NOT NULL REFERENCES shop.posts ON DELETE SET NULL);
        CREATE INDEX ON shop.likes (post_id)
        """, messageParts: preventsDeletion, severity: .warning),
    Case(
      name: "ON DELETE SET NULL on a nullable column",
      setupSQL: """
        CREATE TABLE shop.likes (post_id bigint REFERENCES shop.posts ON DELETE SET NULL);
        CREATE INDEX ON shop.likes (post_id)
        """),
    Case(
      name: "ON DELETE SET NULL on a nullable column of two, the other column is NOT NULL",
      setupSQL: """
        ALTER TABLE shop.posts ADD realm int, ADD UNIQUE (realm, post_id);
        CREATE TABLE shop.likes (realm int NOT NULL, post_id bigint,
          FOREIGN KEY (realm, post_id) REFERENCES shop.posts (realm, post_id) ON DELETE SET NULL (post_id));
        CREATE INDEX ON shop.likes (realm, post_id)
        """, since: 15),
    Case(
      name: "ON DELETE SET NULL on a NOT NULL column of two, the other column is nullable",
      setupSQL: """
        ALTER TABLE shop.posts ADD realm int, ADD UNIQUE (realm, post_id);
        CREATE TABLE shop.likes (realm int NOT NULL, post_id bigint,
          FOREIGN KEY (realm, post_id) REFERENCES shop.posts (realm, post_id) ON DELETE SET NULL (realm));
        CREATE INDEX ON shop.likes (realm, post_id)
        """, messageParts: preventsDeletion, severity: .warning, since: 15),
    Case(
      name: "a partitioned table with a foreign key",
      setupSQL: """
        CREATE TABLE shop.likes (post_id bigint REFERENCES shop.posts) PARTITION BY HASH (post_id);
        CREATE TABLE shop.likes_0 PARTITION OF shop.likes FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE shop.likes_1 PARTITION OF shop.likes FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        CREATE INDEX ON shop.likes (post_id)
        """, messageParts: preventsDeletion, severity: .warning),
    Case(
      name: "a foreign key to one partition",
      setupSQL: """
        \(partitioned)
        CREATE TABLE shop.frames (media_id bigint REFERENCES shop.media_2);
        CREATE INDEX ON shop.frames (media_id)
        """,
      messageParts: ["rows of shop.frames may refer to rows that are deleted from shop.media"],
      severity: .warning),
    Case(
      name: "a foreign key that is not enforced",
      setupSQL: """
        CREATE TABLE shop.likes (post_id bigint REFERENCES shop.posts NOT ENFORCED)
        """, since: 18),
    Case(
      name: "a CHECK that is not enforced",
      setupSQL: "ALTER TABLE shop.posts ADD CHECK (visibility <> 'hidden') NOT ENFORCED", since: 18),
    Case(
      name: "a temporal key (WITHOUT OVERLAPS), and a foreign key that references it",
      setupSQL: """
        CREATE EXTENSION btree_gist;
        ALTER TABLE shop.posts ADD valid tstzrange NOT NULL DEFAULT '[2026-01-01,)',
          ADD UNIQUE (post_id, valid WITHOUT OVERLAPS);
        CREATE TABLE shop.likes (post_id bigint, valid tstzrange,
          FOREIGN KEY (post_id, PERIOD valid) REFERENCES shop.posts (post_id, PERIOD valid));
        CREATE INDEX ON shop.likes (post_id)
        """, messageParts: preventsDeletion, severity: .warning, since: 18),
  ]

  private static let publications: [Case] = [
    Case(
      name: "a partition without replica identity, published through its parent table",
      setupSQL: """
        \(partitioned) ALTER TABLE shop.media_2 REPLICA IDENTITY NOTHING;
        CREATE PUBLICATION p FOR TABLE shop.media WITH (publish_via_partition_root)
        """, messageParts: ["PostgreSQL refuses DELETE on shop.media"]),
    Case(
      name: "a partition without replica identity, published with all tables",
      setupSQL: """
        \(partitioned) ALTER TABLE shop.media_1 REPLICA IDENTITY NOTHING;
        CREATE PUBLICATION p FOR ALL TABLES WITH (publish_via_partition_root)
        """, messageParts: ["PostgreSQL refuses DELETE on shop.media"]),
    Case(
      name: "a partition without replica identity, published with its schema",
      setupSQL: """
        \(partitioned) CREATE SCHEMA other; ALTER TABLE shop.media_2 SET SCHEMA other;
        ALTER TABLE other.media_2 REPLICA IDENTITY NOTHING;
        CREATE PUBLICATION p FOR TABLES IN SCHEMA other
        """, messageParts: ["PostgreSQL refuses DELETE on shop.media"], since: 15),
    Case(
      name: "a column list without the replica identity",
      setupSQL: "CREATE PUBLICATION p FOR TABLE shop.media (post_id)",
      messageParts: ["PostgreSQL refuses DELETE on shop.media"], since: 15),
    Case(
      name: "a column list with the replica identity",
      setupSQL: "CREATE PUBLICATION p FOR TABLE shop.media (media_id)", since: 15),
    Case(
      name: "a row filter on the replica identity",
      setupSQL: "CREATE PUBLICATION p FOR TABLE shop.media WHERE (media_id > 5)", since: 15),
    Case(
      name: "a row filter on another column, with only updates published",
      setupSQL:
        "CREATE PUBLICATION p FOR TABLE shop.posts WHERE (latitude > 5) WITH (publish = 'update')",
      messageParts: ["PostgreSQL refuses UPDATE on shop.posts"], findings: 2, since: 15),
    Case(
      name: "only updates are published, and the actions only delete",
      setupSQL: """
        ALTER TABLE shop.media REPLICA IDENTITY NOTHING;
        CREATE PUBLICATION p FOR TABLE shop.media WITH (publish = 'update')
        """),
  ]

  /// A CHECK constraint calls a function that inserts a row and calls `nextval`. After the check, the table and the
  /// sequence are unchanged, and the finding is a note.
  @Test func theCheckDoesNotKeepChangesOfAConstraintsFunction() async throws {
    let pipeline = try Samples.parse(CatalogCheckTests.yaml)
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await connection.runScript(CatalogCheckTests.tables)
        try await connection.runScript(
          """
          CREATE TABLE shop.seen (what text);
          CREATE SEQUENCE shop.count;
          CREATE FUNCTION shop.noted(what text) RETURNS boolean LANGUAGE plpgsql AS $$
            BEGIN PERFORM nextval('shop.count'); INSERT INTO shop.seen VALUES (what); RETURN true; END $$;
          ALTER TABLE shop.posts ADD CHECK (shop.noted(visibility)) NOT VALID
          """)
        let catalog = try await Catalog(of: pipeline.definition, on: connection)
        let found = try await catalog.constraintFindings(of: pipeline.definition, on: connection)
        #expect(!found.isEmpty && found.allSatisfy { $0.severity == .note }, "\(found)")
        #expect(found.allSatisfy { $0.message.contains("changes data") }, "\(found)")
        let (rows, isCalled) = try await connection.query(
          "SELECT (SELECT count(*) FROM shop.seen), is_called FROM shop.count"
        ).onlyRow(as: Int.self, Bool.self)
        #expect(rows == 0 && !isCalled)
      }
    }
  }

  private static let byVisibility = """
    ALTER TABLE shop.posts RENAME TO former;
    CREATE TABLE shop.posts (
      post_id bigint, ingested_at timestamptz, visibility text, latitude float8,
      PRIMARY KEY (post_id, visibility)) PARTITION BY LIST (visibility);
    CREATE TABLE shop.posts_1 PARTITION OF shop.posts FOR VALUES IN ('shown');
    """

  private static let partitions: [Case] = [
    Case(
      name: "a partition that does not allow the value of the action",
      setupSQL: """
        ALTER TABLE shop.posts RENAME TO former;
        CREATE TABLE shop.whole (
          post_id bigint, ingested_at timestamptz, visibility text, latitude float8)
          PARTITION BY LIST (visibility);
        CREATE TABLE shop.posts PARTITION OF shop.whole FOR VALUES IN ('shown');
        ALTER TABLE shop.posts ADD PRIMARY KEY (post_id)
        """,
      messageParts: [
        "shop.posts is a partition, and does not accept rows with the values that the action sets"
      ]),
    Case(
      name: "a partition for each value",
      setupSQL: """
        \(byVisibility)
        CREATE TABLE shop.posts_2 PARTITION OF shop.posts FOR VALUES IN ('hidden')
        """),
    Case(
      name: "a CHECK of a partition that the rows are moved from",
      setupSQL: """
        \(byVisibility)
        ALTER TABLE shop.posts_1 ADD CHECK (visibility = 'shown');
        CREATE TABLE shop.posts_2 PARTITION OF shop.posts FOR VALUES IN ('hidden')
        """),
    Case(
      name: "a default partition",
      setupSQL: """
        \(byVisibility)
        CREATE TABLE shop.posts_2 PARTITION OF shop.posts DEFAULT
        """),
  ]

  @Test(arguments: keys + publications + partitions)
  func theCheckFindsWhatTheServerRefuses(each: Case) async throws {
    // The partition column is part of the rows' key, and an action with a restore must not change the key.
    let yaml = CatalogCheckTests.yaml.editing(
      "restore: {visibility: shown}",
      to: each.setupSQL.contains("BY LIST (visibility)")
        ? "restore: none" : "restore: {visibility: shown}")
    let pipeline = try Samples.parse(yaml)
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        let release = try await connection.query(
          "SELECT current_setting('server_version_num')::int / 10000"
        ).onlyRow(as: Int.self)
        guard release >= each.since else { return }
        try await connection.runScript(CatalogCheckTests.tables)
        try await connection.runScript(SQL(trusted: each.setupSQL))
        let catalog = try await Catalog(of: pipeline.definition, on: connection)
        let findings =
          try await catalog.check(pipeline.definition, on: connection)
          + catalog.constraintFindings(of: pipeline.definition, on: connection)
        #expect(findings.count == (each.messageParts.isEmpty ? 0 : each.findings), "\(findings)")
        guard let finding = findings.first else { return }
        #expect(finding.severity == each.severity)
        for part in each.messageParts {
          #expect(finding.message.contains(part), "\(finding.message)")
        }
      }
    }
  }
}
