import PostgreSQL
import TestSupport
import Testing
import Warehouse

/// What `id_time` promises, held against the rows.
@Suite struct IDTimeCheckTests {
  /// Rows of a table that is partitioned by `ingested_at`, and what is said of them. The ID's time is
  /// 2023-11-14 22:13:20 in UTC.
  @Test(
    arguments: [
      ("timestamptz", 1_724_551_110_456_246_272, "'2023-11-14 22:13:20'", nil),
      ("timestamptz", 1_724_551_110_456_246_272, "'2023-11-16 00:00'", nil),
      (
        "timestamptz", 1_724_551_110_456_246_272, "'2023-11-16 00:30'",
        "is 2023-11-16 00:30:00+00, and the time in it is 2023-11-14 22:13:20"
      ),
      ("timestamptz", 1_724_551_110_456_246_272, "NULL", "is NULL, and the time in it is 2023-"),
      ("timestamptz", 1_724_551_110_456_246_272, "'-infinity'", "is -infinity, and the time in it"),
      ("timestamp", 1_724_551_110_456_246_272, "'2023-11-13 22:13:20'", nil),
      ("timestamp", 1_724_551_110_456_246_272, "'2023-11-13 20:00'", "is 2023-11-13 20:00:00, and"),
      ("date", 1_724_551_110_456_246_272, "'2023-11-16'", nil),
      ("date", 1_724_551_110_456_246_272, "'2023-11-17'", "is 2023-11-17, and the time in it is"),
      ("timestamptz", 20, "'2006-03-21'", nil),
      (
        "timestamptz", 20, "'2023-11-14'",
        "is 2023-11-14 00:00:00+00, and it is older than IDs with"
      ),
    ] as [(String, Int64, String, String?)])
  func timesThatAreNotThoseInTheIDsAreFound(
    type: String, id: Int64, time: String, message: String?
  ) async throws {
    let yaml = CatalogCheckTests.yaml.replacing(
      "id: post_id\n", with: "id: post_id\n    id_time: ingested_at\n"
    )
    .replacing("where: \"ingested_at < now()\"", with: "tombstones: true")
    // The table has no key.
    .replacing("restore: {visibility: shown}", with: "restore: none")
    try await withTestDatabase { database in
      let found = try await CatalogCheckTests.findings(
        yaml, on: database,
        before: CatalogCheckTests.tables + """
          DROP TABLE shop.posts;
          CREATE TABLE shop.posts (
            post_id text, ingested_at \(type), visibility text, latitude float8)
          PARTITION BY LIST (visibility);
          CREATE INDEX ON shop.posts (post_id);
          CREATE TABLE shop.shown PARTITION OF shop.posts DEFAULT PARTITION BY RANGE (ingested_at);
          CREATE TABLE shop.ever PARTITION OF shop.shown DEFAULT;
          INSERT INTO shop.posts
          VALUES ('1724551110456246272', '2023-11-14'), ('junk', '1970-01-01'), ('\(id)', \(time))
          """)
      #expect(found.map(\.line) == (message == nil ? [] : [9]), "\(found)")
      let text = "shop.posts.ingested_at of ID \(id) \(message ?? "")"
      #expect(found.allSatisfy { $0.message.hasPrefix(text) }, "\(found)")
      #expect(found.allSatisfy { $0.remedy.hasPrefix("leave id_time out") })
    }
  }

  @Test func anIDTimeThatNoPartOfTheTableIsPartitionedByIsAWarning() async throws {
    let yaml = CatalogCheckTests.yaml.replacing(
      "id: post_id\n", with: "id: post_id\n    id_time: ingested_at\n")
    try await withTestDatabase { database in
      let found = try await CatalogCheckTests.findings(
        yaml, on: database, before: CatalogCheckTests.tables)
      #expect(
        found.map(\.message)
          == ["shop.posts is not partitioned by ingested_at: id_time prunes nothing there"])
      #expect(found.map(\.severity) == [.warning])
    }
  }
}
