import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing
import Warehouse

/// Rows for which Lethe cannot use the row version (xmin): rows of foreign tables, and rows after a move to another
/// server.
@Suite struct HoldClusterTests {
  static let rows = """
    INSERT INTO users VALUES (1, 'one');
    INSERT INTO posts (post_id, author_id, text, visibility)
    SELECT p, 1, 'text', CASE WHEN p % 2 = 0 THEN 'internal' ELSE 'public' END
    FROM generate_series(1, 20) AS p
    """

  static let writersUpdate = """
    UPDATE posts SET text = 'by a writer', visibility = 'protected' WHERE post_id <= 12
    """

  /// An ordinary table on one server. The rows that a writer changed after the export stay hidden, and the others are
  /// restored.
  @Test func aRowThatAWriterHidAfterTheExportStaysHidden() async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      try await nights.run([:], [1: "protected"])
      try await nights.run(checks: false) {
        try await nights.execute(
          "SET search_path = shop; \(trusted: Self.writersUpdate)")
      }
      #expect(
        try await nights.rows(
          "SELECT visibility, count(*), max(post_id) FROM shop.posts GROUP BY visibility"
        ) == ["(internal,4,20)", "(protected,12,12)", "(public,4,19)"])
    }
  }

  // MARK: Foreign partitions

  /// Moves half of the posts to a foreign partition. The foreign server is the same PostgreSQL server.
  private static func addForeignPartition(_ nights: NightlyFixture) async throws {
    let host = try #require(ProcessInfo.processInfo.environment["PGHOST"])
    try await nights.execute(
      """
      CREATE SCHEMA far;
      CREATE TABLE far.posts (
        post_id bigint PRIMARY KEY, author_id bigint, text text, visibility text, searchable boolean,
        latitude float8, raw jsonb, likes integer)
      """)
    // postgres_fdw uses its own connection, which sees only committed tables. So `far.posts` is created above, in a
    // transaction of its own.
    try await nights.execute(
      """
      CREATE EXTENSION postgres_fdw;
      CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw
        OPTIONS (host '\(trusted: host)',
          dbname '\(trusted: try #require(nights.url.split(separator: "/").last?.removingPercentEncoding))');
      CREATE USER MAPPING FOR CURRENT_USER SERVER loop OPTIONS (user 'lethe');
      ALTER TABLE shop.posts RENAME TO plain;
      CREATE TABLE shop.posts (
        post_id bigint NOT NULL, author_id bigint, text text, visibility text, searchable boolean,
        latitude float8, raw jsonb, likes integer
      ) PARTITION BY RANGE (post_id);
      CREATE TABLE shop.near PARTITION OF shop.posts (PRIMARY KEY (post_id))
        FOR VALUES FROM (MINVALUE) TO (11);
      CREATE FOREIGN TABLE shop.far PARTITION OF shop.posts
        FOR VALUES FROM (11) TO (MAXVALUE) SERVER loop OPTIONS (schema_name 'far', table_name 'posts');
      INSERT INTO shop.posts SELECT * FROM shop.plain;
      DROP TABLE shop.plain
      """)
  }

  @Test(arguments: ["{visibility: public}", "former"])
  func aTableWithForeignPartitionsIsRefusedIfARestoreNeedsRowVersions(
    restore: String
  ) async throws {
    let shop = Shop(restore: restore)
    try await NightlyFixture.with(shop, Self.rows) { nights in
      try await Self.addForeignPartition(nights)
      let errors = try await nights.findings().filter { $0.severity == .error }
      #expect(errors.contains { $0.message.contains("shop.posts") })
      let remedies = errors.map(\.remedy).joined(separator: "\n")
      #expect(remedies.contains("restore: none"), "\(remedies)")
    }
  }

  @Test func aTableWithForeignPartitionsIsAcceptedWithoutARestore() async throws {
    try await NightlyFixture.with(Shop(restore: "none"), Self.rows) { nights in
      try await Self.addForeignPartition(nights)
      #expect(try await nights.findings().filter { $0.severity == .error } == [])
      try await nights.run([:], [1: "protected"], checks: false)
      try await nights.run(checks: false)
      #expect(
        try await nights.rows("SELECT DISTINCT visibility FROM shop.posts") == ["(protected)"])
    }
  }

  /// With `if_written: ignore`, a restore needs no row versions, but it needs a key. A table with a foreign partition has
  /// none.
  @Test(arguments: [
    "{visibility: public, if_written: ignore}", "{if_written: ignore}",
  ])
  func aTableWithForeignPartitionsIsRefusedIfARestoreNeedsAKey(restore: String) async throws {
    try await NightlyFixture.with(Shop(restore: restore), Self.rows) { nights in
      try await Self.addForeignPartition(nights)
      let errors = try await nights.findings().filter { $0.severity == .error }
      #expect(!errors.isEmpty && errors.allSatisfy { $0.message.contains("key") }, "\(errors)")
    }
  }

  /// With `if_written: ignore`, a row of an ordinary table that was written after the export is restored too.
  @Test func aRowThatWasWrittenAfterTheExportIsRestoredIfRowVersionsAreIgnored() async throws {
    let shop = Shop(restore: "{visibility: public, if_written: ignore}")
    try await NightlyFixture.with(shop, Self.rows) { nights in
      try await nights.run([5: "protected"], [1: "protected"])
      try await nights.run {
        try await nights.change("UPDATE posts SET likes = 3; UPDATE users SET likes = 1")
      }
    }
  }

  // MARK: Another cluster

  /// `check` and `run` fail before they change anything.
  @Test func aStandbyIsRefused() async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      try await nights.run([5: "protected"])
      try await SecondServer.with { server in
        let moved = nights.moved(to: try await server.restore(nights.url))
        try await server.becomeStandby()
        for command in ["check", "run"] {
          let result = try await moved.lethe(command, "PIPELINE")
          #expect(result.code == 2, "\(result.stderr)")
          #expect(result.stderr.contains("is a standby"), "\(result.stderr)")
          #expect(result.stderr.contains("target_session_attrs"), "\(result.stderr)")
        }
        // Commands that only read still work.
        #expect(try await moved.lethe("status", "--database", moved.url).code == 0)
      }
    }
  }

  /// The ledger and the warehouse are moved to another server between collect and apply. The new server
  /// has other transaction IDs, so Lethe cannot find out which rows were written after the export.
  /// - Parameter nextTransactionID: of the new server; 0 leaves it unchanged.
  @Test(arguments: [0, 5_000_000])
  func afterAMoveToAnotherServerAllRestoresWaitForTheNextRun(
    nextTransactionID: Int
  ) async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      try await nights.run([:], [1: "protected"])
      nights.answer([:])
      try await nights.withRuntime { try await nights.collect($0) }
      try await nights.execute("SET search_path = shop; \(trusted: Self.writersUpdate)")
      try await SecondServer.with { server in
        let moved = nights.moved(to: try await server.restore(nights.url))
        try await server.restart(nextTransactionID: nextTransactionID)
        _ = try await moved.withRuntime { try await $0.apply() }
        #expect(
          try await moved.rows("SELECT DISTINCT visibility FROM shop.posts") == ["(protected)"])
        #expect(
          try await moved.rows("SELECT DISTINCT visibility FROM shop.users") == ["(protected)"])
        // The next run exports from this server.
        try await moved.run(checks: false)
        #expect(
          try await moved.rows("SELECT visibility, count(*) FROM shop.posts GROUP BY visibility")
            == ["(internal,10)", "(public,10)"])
      }
    }
  }

  /// A row that was hidden on one server is restored on the other. There, Lethe uses the row versions of the other
  /// server.
  @Test func holdsFromAnotherServerAreReleasedAsUsual() async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      try await nights.run([7: "protected"], [1: "protected"])
      try await SecondServer.with { server in
        let moved = nights.moved(to: try await server.restore(nights.url))
        try await moved.change("UPDATE posts SET visibility = 'friends' WHERE post_id = 3")
        try await moved.run([7: "protected"], stillHidden: [8]) {
          try await moved.change("UPDATE posts SET likes = 1 WHERE post_id = 8")
        }
        #expect(try await moved.visibility(3) == "friends")
        #expect(try await moved.visibility(8) == "protected")
        try await moved.run()
        #expect(try await moved.visibility(7) == "public")
        #expect(try await moved.visibility(8) == "internal")
      }
    }
  }

  /// A deletion needs no row version.
  @Test func deletionsAreAppliedAfterAMoveToAnotherServer() async throws {
    try await NightlyFixture.with(Shop(), Self.rows) { nights in
      nights.answer([.init(type: "tweets", id: 5): "deleted"])
      try await nights.withRuntime { try await nights.collect($0) }
      try await SecondServer.with { server in
        let moved = nights.moved(to: try await server.restore(nights.url))
        _ = try await moved.withRuntime { try await $0.apply() }
        #expect(
          try await moved.rows(
            "SELECT count(*), count(*) FILTER (WHERE post_id = 5) FROM shop.posts")
            == ["(19,0)"])
      }
    }
  }
}
