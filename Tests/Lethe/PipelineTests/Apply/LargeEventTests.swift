import ApplyStage
import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// One event that changes more rows than one transaction may change.
@Suite struct LargeEventTests {
  private static let posts = 1000
  private static let rowsMax = 50

  /// Runs `body` with the users 1 and 2 in the given state. User 1 has 1,000 posts, and user 2 has five. Each post has
  /// one media row. For each changed row, a trigger records the transaction that changed the row.
  private static func withPlatform(
    state: String = "deleted",
    _ body: @escaping @Sendable (PipelineFixture) async throws -> Void
  ) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
        VALUES (1, 'u1', now(), '\(trusted: state)', now()), (2, 'u2', now(), '\(trusted: state)', now()),
               (3, 'u3', now(), 'active', now()), (4, 'u4', now(), 'active', now());
        INSERT INTO warehouse.users (user_id, username, created_at)
        SELECT account_id, username, now() FROM platform.accounts;
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
        SELECT 100 + p, CASE WHEN p <= \(literal: posts) THEN 1 ELSE 2 + p % 2 END, 'text', now()
        FROM generate_series(1, \(literal: posts) + 10) AS p;
        INSERT INTO warehouse.post_media (post_id, media_key, url)
        SELECT post_id, 'k', 'u' FROM warehouse.posts;
        CREATE TABLE public.changes (table_name text, xid xid8);
        CREATE FUNCTION public.record_change() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN INSERT INTO public.changes VALUES (TG_TABLE_NAME, pg_current_xact_id()); RETURN NULL; END';
        CREATE TRIGGER note AFTER DELETE OR UPDATE ON warehouse.posts
          FOR EACH ROW EXECUTE FUNCTION public.record_change();
        CREATE TRIGGER note AFTER DELETE ON warehouse.post_media
          FOR EACH ROW EXECUTE FUNCTION public.record_change();
        """)
      try await body(fixture)
    }
  }

  private static func usersOnly(_ definition: String) -> String {
    let parts = definition.components(separatedBy: "  posts:\n    type")
    let users = definition.components(separatedBy: "  users:\n    type")
    return (parts[0] + "  users:\n    type" + users[1])
      .editing("batch: 3", to: "batch: 3\n    batch_rows: \(rowsMax)")
  }

  private static func rowsOfLargestTransaction(_ fixture: PipelineFixture) async throws -> Int {
    try await fixture.value(
      """
      SELECT max(rows) FROM (SELECT count(*) AS rows FROM public.changes
                             GROUP BY xid, table_name) AS t
      """, as: Int.self)
  }

  @Test func aLargeEventIsAppliedInManyTransactionsAndHasOneRecord() async throws {
    try await Self.withPlatform { fixture in
      let pipeline = try fixture.pipeline(Self.usersOnly)
      let reports = try await fixture.withRuntime(pipeline) { try await $0.run() }
      #expect(reports.last?.status == .done)
      #expect(try await Self.rowsOfLargestTransaction(fixture) <= Self.rowsMax)
      #expect(
        reports.last?.datasets["users"]?.rows["warehouse.posts"] == ["delete": Self.posts + 5])
      #expect(
        reports.last?.datasets["users"]?.rows["warehouse.post_media"] == ["delete": Self.posts + 5])
      let left = try await fixture.value(
        "SELECT string_agg(DISTINCT author_id::text, ' ') FROM warehouse.posts", as: String.self)
      #expect(left == "3")
      // The ledger has one record of the user's event, with the number of all its changes, and one record for each
      // post.
      let changed = try await fixture.value(
        """
        SELECT changed->>'delete warehouse.posts' FROM lethe.event WHERE id = 1 AND cause_id IS NULL
        """,
        as: Int.self)
      #expect(changed == Self.posts)
      let records = try await fixture.value(
        "SELECT count(DISTINCT id) FROM lethe.event WHERE cause_id = 1 AND type = 'tweets'",
        as: Int.self)
      #expect(records == Self.posts)
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  /// Returns a script that creates a trigger. The trigger refuses the `operation` on the post with the ID `post`.
  private static func stopping(at post: Int, _ operation: String) -> String {
    """
    CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN IF OLD.post_id = \(post) THEN RAISE ''stop here''; END IF; RETURN coalesce(NEW, OLD); END';
    CREATE TRIGGER stop BEFORE \(operation) ON warehouse.posts
      FOR EACH ROW EXECUTE FUNCTION public.stop();
    """
  }

  @Test func changesBeforeARefusedRowAreKeptAndCounted() async throws {
    try await Self.withPlatform { fixture in
      try await fixture.execute(SQL(trusted: Self.stopping(at: 777, "DELETE")))
      let pipeline = try fixture.pipeline(Self.usersOnly)
      let refused = try await fixture.withRuntime(pipeline) { try await $0.run() }
      #expect(refused.last?.refused.map(\.id) == ["1"])
      let applied = try await fixture.value(
        "SELECT string_agg(id::text, ' ') FROM lethe.event WHERE cause_id IS NULL", as: String.self)
      #expect(applied == "2")
      // The changes before the refused row are kept. The refusal's record contains their number.
      let media = try await fixture.value(
        """
        SELECT (SELECT count(*) FROM public.changes AS t WHERE table_name = 'post_media')
             - (event -> 'changed' ->> 'delete warehouse.post_media')::bigint
        FROM lethe.refusal
        """, as: Int.self)
      #expect(media == 5)
      try await fixture.execute("DROP TRIGGER stop ON warehouse.posts")
      let reports = try await fixture.withRuntime(pipeline) {
        try await $0.retry(chunkID: nil, ids: [1]).runs
      }
      #expect(reports.last?.status == .done)
      #expect(
        reports.last?.datasets["users"]?.rows["warehouse.posts"] == ["delete": Self.posts + 5])
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  @Test func aLargeProtectionAndItsRestoreUseManyTransactions() async throws {
    try await Self.withPlatform(state: "protected") { fixture in
      let pipeline = try fixture.pipeline(Self.usersOnly)
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      let hidden: SQL = "SELECT count(*) FROM warehouse.posts WHERE visibility = 'protected'"
      #expect(try await fixture.value(hidden, as: Int.self) == Self.posts + 5)
      try await fixture.execute("UPDATE platform.accounts SET state = 'active'")
      let reports = try await fixture.withRuntime(pipeline) { try await $0.run() }
      #expect(
        reports.last?.datasets["users"]?.rows["warehouse.posts"] == ["restore": Self.posts + 5])
      #expect(try await fixture.value(hidden, as: Int.self) == 0)
      #expect(try await Self.rowsOfLargestTransaction(fixture) <= Self.rowsMax)
      #expect(try await fixture.value("SELECT count(*) FROM lethe.holder", as: Int.self) == 0)
    }
  }

  /// Other IDs hold more of the event's rows than a transaction may change, and these rows come first in the table.
  @Test func aLargeProtectionOfRowsThatOthersHoldUsesManyTransactions() async throws {
    try await NightlyFixture.with(
      Shop(restore: "former", userKeys: ["batch: 3", "batch_rows: 5"]),
      """
      INSERT INTO users VALUES (1, 'one');
      INSERT INTO posts (post_id, author_id) SELECT p, 1 FROM generate_series(1, 45) AS p
      """
    ) { nights in
      let held = Dictionary(uniqueKeysWithValues: (Int64(1)...25).map { ($0, "protected") })
      try await nights.run(held)
      try await nights.change("UPDATE posts SET likes = likes + 1 WHERE post_id > 25")
      try await nights.execute(
        """
        CREATE TABLE public.changes (xid xid8);
        CREATE FUNCTION public.record_change() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN INSERT INTO public.changes VALUES (pg_current_xact_id()); RETURN NULL; END';
        CREATE TRIGGER note AFTER UPDATE ON shop.posts
          FOR EACH ROW EXECUTE FUNCTION public.record_change()
        """)
      try await nights.run(held, [1: "protected"])
      let largest = try await nights.rows(
        "SELECT max(n), sum(n) FROM (SELECT count(*) AS n FROM public.changes GROUP BY xid) AS t")
      #expect(largest == ["(5,20)"])
      let holders = try await nights.rows(
        """
        SELECT count(*) FROM lethe.holder AS r JOIN lethe.hold AS h USING (hold_id)
        WHERE r.type = 'users' AND h.table_name = 'shop.posts'
        """)
      #expect(holders == ["(45)"])
    }
  }

  @Test func aUsersRepliesToOwnPostsAreDeletedBeforeThesePosts() async throws {
    try await Self.withPlatform { fixture in
      try await fixture.execute(
        """
        ALTER TABLE warehouse.posts ADD reply_to bigint REFERENCES warehouse.posts;
        CREATE INDEX ON warehouse.posts (reply_to);
        UPDATE warehouse.posts SET reply_to = post_id - 1 WHERE author_id = 1 AND post_id > 101;
        TRUNCATE public.changes;
        """)
      let pipeline = try fixture.pipeline(Self.usersOnly)
      let reports = try await fixture.withRuntime(pipeline) { try await $0.run() }
      #expect(
        reports.last?.datasets["users"]?.rows["warehouse.posts"] == ["delete": Self.posts + 5],
        "\(reports)")
      #expect(try await Self.rowsOfLargestTransaction(fixture) <= Self.rowsMax)
    }
  }

  /// Without a foreign key, only Lethe makes sure that no media remain after their posts are deleted.
  @Test func mediaThatIsInsertedWhilePostsAreDeletedIsDeletedToo() async throws {
    try await Self.withPlatform { fixture in
      try await fixture.execute(
        """
        ALTER TABLE warehouse.post_media DROP CONSTRAINT post_media_post_id_fkey;
        -- When a post is deleted, a media row is inserted for another post. Each of these posts gets one such row.
        CREATE TABLE public.late AS SELECT post_id FROM warehouse.posts
          WHERE author_id = 1 AND post_id BETWEEN 500 AND 560;
        CREATE FUNCTION public.add_media() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN
             WITH one AS (DELETE FROM public.late WHERE post_id =
                            (SELECT max(post_id) FROM public.late WHERE post_id <> OLD.post_id) RETURNING post_id)
             INSERT INTO warehouse.post_media SELECT post_id, ''late'', ''u'' FROM one
             WHERE EXISTS (SELECT FROM warehouse.posts AS p WHERE p.post_id = one.post_id);
             RETURN NULL;
           END';
        CREATE TRIGGER add_media AFTER DELETE ON warehouse.posts
          FOR EACH ROW EXECUTE FUNCTION public.add_media();
        """)
      let pipeline = try fixture.pipeline(Self.usersOnly)
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      let orphans = try await fixture.value(
        """
        SELECT count(*) FROM warehouse.post_media AS m
        WHERE NOT EXISTS (SELECT FROM warehouse.posts AS p WHERE p.post_id = m.post_id)
        """, as: Int.self)
      #expect(orphans == 0)
    }
  }

  @Test func aPartlyAppliedProtectionCanBeRestored() async throws {
    try await Self.withPlatform(state: "protected") { fixture in
      try await fixture.execute(SQL(trusted: Self.stopping(at: 777, "UPDATE")))
      let pipeline = try fixture.pipeline(Self.usersOnly)
      let refused = try await fixture.withRuntime(pipeline) { try await $0.run() }
      #expect(refused.last?.refused.map(\.id) == ["1"])
      let hidden: SQL = "SELECT count(*) FROM warehouse.posts WHERE visibility = 'protected'"
      #expect(try await fixture.value(hidden, as: Int.self) > 0)
      try await fixture.execute(
        "DROP TRIGGER stop ON warehouse.posts; UPDATE platform.accounts SET state = 'active'")
      _ = try await fixture.withRuntime(pipeline) { runtime in
        _ = try await runtime.giveUp()
        return try await runtime.run()
      }
      #expect(try await fixture.value(hidden, as: Int.self) == 0)
    }
  }
}
