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
    let damage: String
    /// Parts of the message of the only finding. Empty if the check must find nothing.
    let says: [String]
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
      damage: "\(withoutKey) CREATE PUBLICATION p FOR TABLE shop.media", says: refused),
    Case(
      name: "published with all tables",
      damage: "\(withoutKey) CREATE PUBLICATION p FOR ALL TABLES", says: refused),
    Case(
      name: "published with its schema",
      damage: "\(withoutKey) CREATE PUBLICATION p FOR TABLES IN SCHEMA shop", says: refused),
    Case(
      name: "published with REPLICA IDENTITY NOTHING",
      damage:
        "ALTER TABLE shop.media REPLICA IDENTITY NOTHING; CREATE PUBLICATION p FOR TABLE shop.media",
      says: refused),
    Case(
      name: "a partition with REPLICA IDENTITY NOTHING",
      damage: """
        \(partitioned) ALTER TABLE shop.media_2 REPLICA IDENTITY NOTHING;
        CREATE PUBLICATION p FOR TABLE shop.media
        """, says: refused),
    Case(
      name: "a partition that is published alone",
      damage: """
        \(partitioned) ALTER TABLE shop.media_2 REPLICA IDENTITY NOTHING;
        CREATE PUBLICATION p FOR TABLE shop.media_2
        """, says: refused),
    Case(
      name: "published with REPLICA IDENTITY FULL",
      damage: """
        \(withoutKey) ALTER TABLE shop.media REPLICA IDENTITY FULL;
        CREATE PUBLICATION p FOR TABLE shop.media
        """, says: []),
    Case(
      name: "only inserts are published",
      damage: """
        \(withoutKey) CREATE PUBLICATION p FOR TABLE shop.media WITH (publish = 'insert')
        """, says: []),
    Case(
      name: "a row filter on a column outside the replica identity",
      damage: "CREATE PUBLICATION p FOR TABLE shop.media WHERE (post_id > 5)",
      says: ["PostgreSQL refuses DELETE on shop.media"]),
    Case(
      name: "another column that only PostgreSQL sets",
      damage: "ALTER TABLE shop.posts ADD number bigint GENERATED ALWAYS AS IDENTITY", says: []),
    Case(
      name: "no index on the referring column",
      damage: "CREATE TABLE shop.likes (post_id bigint REFERENCES shop.posts ON DELETE SET NULL)",
      says: ["no index finds the rows of shop.likes that refer to shop.posts"], severity: .warning,
      remedy: "CREATE INDEX ON \"shop\".\"likes\" (\"post_id\")"),
    Case(
      name: "a partial index on the referring column",
      damage: """
        CREATE TABLE shop.likes (post_id bigint REFERENCES shop.posts ON DELETE SET NULL, n int);
        CREATE INDEX ON shop.likes (post_id) WHERE n > 0
        """, says: ["no index finds the rows of shop.likes"], severity: .warning),
    Case(
      name: "an index on the referring column",
      damage: """
        CREATE TABLE shop.likes (post_id bigint REFERENCES shop.posts ON DELETE SET NULL, n int);
        CREATE INDEX ON shop.likes (post_id, n)
        """, says: []),
    Case(
      name: "a foreign key that refers to the parent table",
      damage: """
        ALTER TABLE shop.media RENAME TO former;
        DROP INDEX shop.media_post_id;
        CREATE TABLE shop.whole (media_id bigint PRIMARY KEY, post_id bigint)
          PARTITION BY RANGE (media_id);
        CREATE INDEX ON shop.whole (post_id);
        CREATE TABLE shop.media PARTITION OF shop.whole FOR VALUES FROM (0) TO (100);
        CREATE TABLE shop.frames (media_id bigint REFERENCES shop.whole);
        CREATE INDEX ON shop.frames (media_id)
        """, says: ["rows of shop.frames may refer to rows that are deleted from shop.media"],
      severity: .warning),
    Case(
      name: "a CHECK that forbids the value",
      damage: "ALTER TABLE shop.posts ADD CONSTRAINT known CHECK (visibility IN ('shown', 'gone'))",
      says: [
        "the constraint known of shop.posts forbids the values that the action sets", "visibility",
      ]),
    Case(
      name: "a CHECK that is not validated and forbids the value",
      damage: """
        ALTER TABLE shop.posts ADD CONSTRAINT known CHECK (length(visibility) < 6) NOT VALID
        """, says: ["the constraint known of shop.posts forbids the values that the action sets"]),
    Case(
      name: "a CHECK that allows the value",
      damage: "ALTER TABLE shop.posts ADD CHECK (visibility IN ('shown', 'hidden'))", says: []),
    Case(
      name: "a CHECK that also depends on other columns",
      damage: "ALTER TABLE shop.posts ADD CHECK (visibility <> 'hidden' OR post_id > 5)", says: []),
    Case(
      name: "a CHECK that forbids NULL in a location column",
      damage: "ALTER TABLE shop.posts ADD CONSTRAINT located CHECK (latitude IS NOT NULL)",
      says: ["the constraint located of shop.posts forbids"]),
    Case(
      name: "a materialized view",
      damage: "CREATE MATERIALIZED VIEW shop.top AS SELECT * FROM shop.media",
      says: ["materialized views contain rows of shop.media", "shop.top"], severity: .warning),
    Case(
      name: "a materialized view over a view over a partition",
      damage: """
        \(partitioned) CREATE VIEW shop.some AS SELECT * FROM shop.media_1;
        CREATE MATERIALIZED VIEW shop.top AS SELECT count(*) FROM shop.some
        """, says: ["materialized views contain rows of shop.media", "shop.top"], severity: .warning
    ),
    Case(
      name: "a view", damage: "CREATE VIEW shop.some AS SELECT * FROM shop.media", says: []),
    Case(
      name: "a trigger that copies deleted rows",
      damage: """
        CREATE TABLE shop.past (LIKE shop.media);
        CREATE FUNCTION shop.keep() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN INSERT INTO shop.past SELECT OLD.*; RETURN OLD; END';
        CREATE TRIGGER keep AFTER DELETE ON shop.media FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """, says: ["the trigger keep of shop.media writes rows elsewhere", "shop.keep"],
      severity: .warning),
    Case(
      name: "a trigger on INSERT",
      damage: """
        CREATE TABLE shop.past (LIKE shop.media);
        CREATE FUNCTION shop.keep() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN INSERT INTO shop.past SELECT NEW.*; RETURN NEW; END';
        CREATE TRIGGER keep AFTER INSERT ON shop.media FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """, says: []),
  ]

  @Test(arguments: cases)
  func relatedObjectsAreChecked(damage: Case) async throws {
    let pipeline = try Samples.parse(CatalogCheckTests.yaml)
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await connection.runScript(CatalogCheckTests.tables)
        try await connection.runScript(SQL(trusted: damage.damage))
        let catalog = try await Catalog(of: pipeline.definition, on: connection)
        let findings =
          try await catalog.check(pipeline.definition, on: connection)
          + catalog.constraintFindings(of: pipeline.definition, on: connection)
          + catalog.nearbyObjectFindings(of: pipeline.definition, on: connection)
        #expect(findings.count == (damage.says.isEmpty ? 0 : 1), "\(findings)")
        guard let finding = findings.first else { return }
        #expect(finding.severity == damage.severity)
        for part in damage.says { #expect(finding.message.contains(part), "\(finding.message)") }
        #expect(finding.remedy.contains(damage.remedy), "\(finding.remedy)")
      }
    }
  }
}
