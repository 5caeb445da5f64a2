import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing
import Warehouse

/// Rows for which the row version proves nothing: rows of foreign tables, and rows after a move to another server.
@Suite struct HoldClusterTests {
  static let rows = """
    INSERT INTO users VALUES (1, 'one');
    INSERT INTO posts (post_id, author_id, text, visibility)
    SELECT p, 1, 'text', CASE WHEN p % 2 = 0 THEN 'internal' ELSE 'public' END
    FROM generate_series(1, 20) AS p
    """

  static let written = """
    UPDATE posts SET text = 'by a writer', visibility = 'protected' WHERE post_id <= 12
    """

  /// An ordinary table on one server. The rows that a writer changed stay hidden, and the others are restored.
  @Test func aRowThatAWriterHidAfterTheExportStaysHidden() async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      try await nights.run([:], [1: "protected"])
      try await nights.run(checks: false) {
        try await nights.execute(
          "SET search_path = shop; \(trusted: Self.written)")
      }
      #expect(
        try await nights.rows(
          "SELECT visibility, count(*), max(post_id) FROM shop.posts GROUP BY visibility"
        ) == ["(internal,4,20)", "(protected,12,12)", "(public,4,19)"])
    }
  }

  // MARK: Foreign partitions

  /// Half of the posts are in a foreign partition. Its server is this server.
  private static func foreign(_ nights: NightlyFixture) async throws {
    let host = try #require(ProcessInfo.processInfo.environment["PGHOST"])
    try await nights.execute(
      """
      CREATE SCHEMA far;
      CREATE TABLE far.posts (
        post_id bigint PRIMARY KEY, author_id bigint, text text, visibility text, searchable boolean,
        latitude float8, raw jsonb, likes integer)
      """)
    // The foreign connection sees only committed rows.
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
      try await Self.foreign(nights)
      let errors = try await nights.findings().filter { $0.severity == .error }
      #expect(errors.contains { $0.message.contains("shop.posts") })
      let remedies = errors.map(\.remedy).joined(separator: "\n")
      #expect(remedies.contains("restore: none"), "\(remedies)")
    }
  }

  @Test func aTableWithForeignPartitionsIsAcceptedWithoutARestore() async throws {
    try await NightlyFixture.with(Shop(restore: "none"), Self.rows) { nights in
      try await Self.foreign(nights)
      #expect(try await nights.findings().filter { $0.severity == .error } == [])
      try await nights.run([:], [1: "protected"], checks: false)
      try await nights.run(checks: false)
      #expect(
        try await nights.rows("SELECT DISTINCT visibility FROM shop.posts") == ["(protected)"])
    }
  }

  /// With `if_written: ignore`, a row is restored if its held columns still have the values that Lethe set.
  @Test(arguments: [
    "{visibility: public, if_written: ignore}", "{if_written: ignore}",
  ])
  func aTableWithForeignPartitionsIsRestoredByItsValues(restore: String) async throws {
    try await NightlyFixture.with(Shop(restore: restore), Self.rows) { nights in
      try await Self.foreign(nights)
      // The check also requires a key that all partitions have.
      let errors = try await nights.findings().filter { $0.severity == .error }
      #expect(errors.allSatisfy { $0.message.contains("key") })
      guard errors == [] else { return }
      try await nights.run([:], [1: "protected"], checks: false)
      try await nights.run(checks: false) {
        try await nights.execute(
          "UPDATE shop.posts SET visibility = 'friends' WHERE post_id IN (3, 13)")
      }
      #expect(
        try await nights.rows("SELECT visibility, count(*) FROM shop.posts GROUP BY visibility")
          == ["(friends,2)", "(internal,10)", "(public,8)"])
    }
  }

  /// The same setting for an ordinary table: a row that was written after the export is restored too.
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

  /// Both commands fail before they change anything.
  @Test func aStandbyIsRefused() async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      try await nights.run([5: "protected"])
      try await SecondServer.with { server in
        let moved = nights.moved(to: try await server.restore(nights.url))
        try await server.becomeStandby()
        for command in ["check", "run"] {
          let ending = try await moved.lethe(command, "PIPELINE")
          #expect(ending.code == 2, "\(ending.stderr)")
          #expect(ending.stderr.contains("is a standby"), "\(ending.stderr)")
          #expect(ending.stderr.contains("target_session_attrs"), "\(ending.stderr)")
        }
        // Commands that only read still work.
        #expect(try await moved.lethe("status", "--database", moved.url).code == 0)
      }
    }
  }

  /// The ledger and the warehouse are moved to another server between collect and apply. The new server
  /// has other transaction numbers, so Lethe cannot find out which rows were written after the export.
  @Test(arguments: [0, 5_000_000])
  func afterAMoveToAnotherServerAllRestoresWaitForTheNextRun(
    transactionsAhead: Int
  ) async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      try await nights.run([:], [1: "protected"])
      nights.answer([:])
      try await nights.withRuntime { try await nights.collect($0) }
      try await nights.execute("SET search_path = shop; \(trusted: Self.written)")
      try await SecondServer.with { server in
        let moved = nights.moved(to: try await server.restore(nights.url))
        try await server.goAhead(transactions: transactionsAhead)
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

  /// A row that was hidden on one server is restored on the other. The row version is checked there as usual.
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
