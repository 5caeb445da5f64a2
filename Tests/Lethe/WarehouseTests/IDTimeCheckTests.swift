import Definitions
import PostgreSQL
import TestSupport
import Testing
import Warehouse

/// Tests of the check that compares the column in `id_time` with the times in the IDs.
@Suite struct IDTimeCheckTests {
  /// The partitions of the table are partitioned by `ingested_at`. Each case is a row and the finding about the row.
  /// The time in the large ID is 2023-11-14 22:13:20 UTC.
  @Test(
    arguments: [
      ("timestamptz", 1_724_551_110_456_246_272, "'2023-11-14 22:13:20'", nil),
      ("timestamptz", 1_724_551_110_456_246_272, "'2023-11-16 00:00'", nil),
      (
        "timestamptz", 1_724_551_110_456_246_272, "'2023-11-16 00:30'",
        "is 2023-11-16 00:30:00+00, and the time in the ID is 2023-11-14 22:13:20"
      ),
      (
        "timestamptz", 1_724_551_110_456_246_272, "NULL", "is NULL, and the time in the ID is 2023-"
      ),
      (
        "timestamptz", 1_724_551_110_456_246_272, "'-infinity'",
        "is -infinity, and the time in the ID"
      ),
      ("timestamp", 1_724_551_110_456_246_272, "'2023-11-13 22:13:20'", nil),
      ("timestamp", 1_724_551_110_456_246_272, "'2023-11-13 20:00'", "is 2023-11-13 20:00:00, and"),
      ("date", 1_724_551_110_456_246_272, "'2023-11-16'", nil),
      (
        "date", 1_724_551_110_456_246_272, "'2023-11-17'",
        "is 2023-11-17, and the time in the ID is"
      ),
      ("timestamptz", 20, "'2006-03-21'", nil),
      (
        "timestamptz", 20, "'2023-11-14'",
        "is 2023-11-14 00:00:00+00, and the ID is so old that it contains no time"
      ),
    ] as [(String, Int64, String, String?)])
  func timesThatDifferFromTheTimesInTheIDsAreReported(
    type: String, id: Int64, time: String, message: String?
  ) async throws {
    let yaml = CatalogCheckTests.yaml.editing(
      "id: post_id\n", to: "id: post_id\n    id_time: ingested_at\n"
    )
    .editing("where: \"ingested_at < now()\"", to: "tombstones: true")
    // The table has no key, so its rows cannot be restored.
    .editing("restore: {visibility: shown}", to: "restore: none")
    try await withTestDatabase { database in
      let found = try await CatalogCheckTests.findings(
        yaml, on: database,
        before: CatalogCheckTests.tables + """
          DROP TABLE shop.posts;
          CREATE TABLE shop.posts (
            post_id text, ingested_at \(trusted: type), visibility text, latitude float8)
          PARTITION BY LIST (visibility);
          CREATE INDEX ON shop.posts (post_id);
          CREATE TABLE shop.shown PARTITION OF shop.posts DEFAULT PARTITION BY RANGE (ingested_at);
          CREATE TABLE shop.ever PARTITION OF shop.shown DEFAULT;
          INSERT INTO shop.posts
          VALUES ('1724551110456246272', '2023-11-14'), ('junk', '1970-01-01'),
            ('\(literal: id)', \(trusted: time))
          """)
      #expect(found.map(\.line) == (message == nil ? [] : [9]), "\(found)")
      let text = "shop.posts.ingested_at of ID \(id) \(message ?? "")"
      #expect(found.allSatisfy { $0.message.hasPrefix(text) }, "\(found)")
      #expect(found.allSatisfy { $0.remedy.hasPrefix("remove id_time") })
    }
  }

  /// A sample of a foreign partition would read the whole partition. The foreign partition of this test cannot be read.
  /// The test also runs with a role that may read only the partitioned table.
  @Test(
    arguments: [nil, "is 2026-01-01 00:00:00+00, and the time in the ID is 2023-"], [false, true])
  func foreignPartitionsAreNotSampled(message: String?, isPlainRole: Bool) async throws {
    let yaml = CatalogCheckTests.yaml.editing(
      "id: post_id\n", to: "id: post_id\n    id_time: ingested_at\n")
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await connection.runScript(
          CatalogCheckTests.tables + """
            DROP TABLE shop.posts;
            CREATE TABLE shop.posts (
              post_id bigint, ingested_at timestamptz, visibility text, latitude float8)
            PARTITION BY RANGE (ingested_at);
            CREATE TABLE shop.now PARTITION OF shop.posts FOR VALUES FROM ('2020-01-01') TO ('2030-01-01');
            CREATE INDEX ON shop.now (post_id);
            CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nothing FOREIGN DATA WRAPPER nothing;
            CREATE FOREIGN TABLE shop.then PARTITION OF shop.posts
              FOR VALUES FROM ('2010-01-01') TO ('2020-01-01') SERVER nothing;
            INSERT INTO shop.posts
            VALUES (1724551110456246272, '\(trusted: message == nil ? "2023-11-14" : "2026-01-01")')
            """)
        let pipeline = try Samples.parse(yaml)
        let role = "\(database.name)_reader"
        if isPlainRole {
          try await connection.runScript(
            """
            CREATE ROLE \(trusted: role); GRANT USAGE ON SCHEMA shop TO \(trusted: role);
            GRANT SELECT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop TO \(trusted: role);
            REVOKE ALL ON shop.now, shop.then FROM \(trusted: role); SET ROLE \(trusted: role)
            """)
        }
        let catalog = try await Catalog(of: pipeline.definition, on: connection)
        let found = try await catalog.check(pipeline.definition, on: connection)
          .filter { $0.message.contains("ingested_at of ID") }
        if isPlainRole {
          try await connection.runScript(
            "RESET ROLE; DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)")
        }
        #expect(found.count == (message == nil ? 0 : 1), "\(found)")
        if let message { #expect(found.first?.message.contains(message) == true, "\(found)") }
      }
    }
  }

  @Test func anIDTimeThatIsNoPartitionColumnIsAWarning() async throws {
    let yaml = CatalogCheckTests.yaml.editing(
      "id: post_id\n", to: "id: post_id\n    id_time: ingested_at\n")
    try await withTestDatabase { database in
      let found = try await CatalogCheckTests.findings(
        yaml, on: database, before: CatalogCheckTests.tables)
      #expect(
        found.map(\.message)
          == ["shop.posts is not partitioned by ingested_at, so id_time makes nothing faster"])
      #expect(found.map(\.severity) == [.warning])
    }
  }
}
