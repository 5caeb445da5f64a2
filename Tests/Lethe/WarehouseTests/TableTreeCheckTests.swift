import Definitions
import PostgreSQL
import TestSupport
import Testing
import Warehouse

/// Tests of the check of objects that a definition does not name: partitions, parent tables, tables that refer to the
/// definition's tables, and objects that copy their rows.
@Suite struct TableTreeCheckTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    /// SQL that adds the objects.
    let setupSQL: String
    /// Parts of the message of the only finding. Empty if the check must find nothing.
    let messageParts: [String]
    var severity = Finding.Severity.error
    var remedy = ""

    var testDescription: String { name }
  }

  private static let partitioned = """
    DROP TABLE shop.media;
    CREATE TABLE shop.media (media_id bigint, post_id bigint, PRIMARY KEY (media_id))
      PARTITION BY RANGE (media_id);
    CREATE INDEX ON shop.media (post_id);
    CREATE TABLE shop.media_1 PARTITION OF shop.media FOR VALUES FROM (0) TO (100);
    CREATE TABLE shop.media_2 PARTITION OF shop.media FOR VALUES FROM (100) TO (200);
    """
  private static let withoutKey = "ALTER TABLE shop.media DROP CONSTRAINT media_pkey;"
  private static let refused = ["PostgreSQL refuses DELETE on shop.media", "replica identity"]

  private static let cases = [
    Case(
      name: "published without a key",
      setupSQL: "\(withoutKey) CREATE PUBLICATION p FOR TABLE shop.media", messageParts: refused),
    Case(
      name: "published with all tables",
      setupSQL: "\(withoutKey) CREATE PUBLICATION p FOR ALL TABLES", messageParts: refused),
    Case(
      name: "published with its schema",
      setupSQL: "\(withoutKey) CREATE PUBLICATION p FOR TABLES IN SCHEMA shop",
      messageParts: refused),
    Case(
      name: "published with REPLICA IDENTITY NOTHING",
      setupSQL:
        "ALTER TABLE shop.media REPLICA IDENTITY NOTHING; CREATE PUBLICATION p FOR TABLE shop.media",
      messageParts: refused),
    Case(
      name: "a partition with REPLICA IDENTITY NOTHING",
      setupSQL: """
        \(partitioned) ALTER TABLE shop.media_2 REPLICA IDENTITY NOTHING;
        CREATE PUBLICATION p FOR TABLE shop.media
        """, messageParts: refused),
    Case(
      name: "a partition that is published alone",
      setupSQL: """
        \(partitioned) ALTER TABLE shop.media_2 REPLICA IDENTITY NOTHING;
        CREATE PUBLICATION p FOR TABLE shop.media_2
        """, messageParts: refused),
    Case(
      name: "published with REPLICA IDENTITY FULL",
      setupSQL: """
        \(withoutKey) ALTER TABLE shop.media REPLICA IDENTITY FULL;
        CREATE PUBLICATION p FOR TABLE shop.media
        """, messageParts: []),
    Case(
      name: "only inserts are published",
      setupSQL: """
        \(withoutKey) CREATE PUBLICATION p FOR TABLE shop.media WITH (publish = 'insert')
        """, messageParts: []),
    Case(
      name: "a row filter on a column outside the replica identity",
      setupSQL: "CREATE PUBLICATION p FOR TABLE shop.media WHERE (post_id > 5)",
      messageParts: ["PostgreSQL refuses DELETE on shop.media"]),
    Case(
      name: "another column that is GENERATED ALWAYS AS IDENTITY",
      setupSQL: "ALTER TABLE shop.posts ADD number bigint GENERATED ALWAYS AS IDENTITY",
      messageParts: []),
    Case(
      name: "no index on the referring column",
      setupSQL: "CREATE TABLE shop.likes (post_id bigint REFERENCES shop.posts ON DELETE SET NULL)",
      messageParts: ["no index finds the rows of shop.likes that refer to shop.posts"],
      severity: .warning,
      remedy: "CREATE INDEX ON \"shop\".\"likes\" (\"post_id\")"),
    Case(
      name: "a partial index on the referring column",
      setupSQL: """
        CREATE TABLE shop.likes (post_id bigint REFERENCES shop.posts ON DELETE SET NULL, n int);
        CREATE INDEX ON shop.likes (post_id) WHERE n > 0
        """, messageParts: ["no index finds the rows of shop.likes"], severity: .warning),
    Case(
      name: "an index on the referring column",
      setupSQL: """
        CREATE TABLE shop.likes (post_id bigint REFERENCES shop.posts ON DELETE SET NULL, n int);
        CREATE INDEX ON shop.likes (post_id, n)
        """, messageParts: []),
    Case(
      name: "a foreign key that refers to the parent table",
      setupSQL: """
        ALTER TABLE shop.media RENAME TO former;
        DROP INDEX shop.media_post_id;
        CREATE TABLE shop.whole (media_id bigint PRIMARY KEY, post_id bigint)
          PARTITION BY RANGE (media_id);
        CREATE INDEX ON shop.whole (post_id);
        CREATE TABLE shop.media PARTITION OF shop.whole FOR VALUES FROM (0) TO (100);
        CREATE TABLE shop.frames (media_id bigint REFERENCES shop.whole);
        CREATE INDEX ON shop.frames (media_id)
        """,
      messageParts: ["rows of shop.frames may refer to rows that are deleted from shop.media"],
      severity: .warning),
    Case(
      name: "a CHECK that forbids the value",
      setupSQL:
        "ALTER TABLE shop.posts ADD CONSTRAINT known CHECK (visibility IN ('shown', 'gone'))",
      messageParts: [
        "the constraint known of shop.posts forbids the values that the action sets", "visibility",
      ]),
    Case(
      name: "a CHECK that is not validated and forbids the value",
      setupSQL: """
        ALTER TABLE shop.posts ADD CONSTRAINT known CHECK (length(visibility) < 6) NOT VALID
        """,
      messageParts: ["the constraint known of shop.posts forbids the values that the action sets"]),
    Case(
      name: "a CHECK that allows the value",
      setupSQL: "ALTER TABLE shop.posts ADD CHECK (visibility IN ('shown', 'hidden'))",
      messageParts: []),
    Case(
      name: "a CHECK that also depends on other columns",
      setupSQL: "ALTER TABLE shop.posts ADD CHECK (visibility <> 'hidden' OR post_id > 5)",
      messageParts: []),
    Case(
      name: "a CHECK that forbids NULL in a location column",
      setupSQL: "ALTER TABLE shop.posts ADD CONSTRAINT located CHECK (latitude IS NOT NULL)",
      messageParts: ["the constraint located of shop.posts forbids"]),
    Case(
      name: "a materialized view",
      setupSQL: "CREATE MATERIALIZED VIEW shop.top AS SELECT * FROM shop.media",
      messageParts: ["materialized views contain rows of shop.media", "shop.top"],
      severity: .warning),
    Case(
      name: "a materialized view over a view over a partition",
      setupSQL: """
        \(partitioned) CREATE VIEW shop.some AS SELECT * FROM shop.media_1;
        CREATE MATERIALIZED VIEW shop.top AS SELECT count(*) FROM shop.some
        """, messageParts: ["materialized views contain rows of shop.media", "shop.top"],
      severity: .warning
    ),
    Case(
      name: "a view", setupSQL: "CREATE VIEW shop.some AS SELECT * FROM shop.media",
      messageParts: []),
    Case(
      name: "a trigger that copies deleted rows",
      setupSQL: """
        CREATE TABLE shop.past (LIKE shop.media);
        CREATE FUNCTION shop.keep() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN INSERT INTO shop.past SELECT OLD.*; RETURN OLD; END';
        CREATE TRIGGER keep AFTER DELETE ON shop.media FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """, messageParts: ["the trigger keep of shop.media writes rows elsewhere", "shop.keep"],
      severity: .warning),
    Case(
      name: "a trigger on INSERT",
      setupSQL: """
        CREATE TABLE shop.past (LIKE shop.media);
        CREATE FUNCTION shop.keep() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN INSERT INTO shop.past SELECT NEW.*; RETURN NEW; END';
        CREATE TRIGGER keep AFTER INSERT ON shop.media FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """, messageParts: []),
  ]

  @Test(arguments: cases)
  func relatedObjectsAreChecked(one: Case) async throws {
    let pipeline = try Samples.parse(CatalogCheckTests.yaml)
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await connection.runScript(CatalogCheckTests.tables)
        try await connection.runScript(SQL(trusted: one.setupSQL))
        let catalog = try await Catalog(of: pipeline.definition, on: connection)
        let findings =
          try await catalog.check(pipeline.definition, on: connection)
          + catalog.constraintFindings(of: pipeline.definition, on: connection)
          + catalog.nearbyObjectFindings(of: pipeline.definition, on: connection)
        #expect(findings.count == (one.messageParts.isEmpty ? 0 : 1), "\(findings)")
        guard let finding = findings.first else { return }
        #expect(finding.severity == one.severity)
        for part in one.messageParts {
          #expect(finding.message.contains(part), "\(finding.message)")
        }
        #expect(finding.remedy.contains(one.remedy), "\(finding.remedy)")
      }
    }
  }
}
