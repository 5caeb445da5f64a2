import PostgreSQL
import Runtime
import TestSupport
import Testing

/// Two processes change one row: one restores it, the other hides it. The result must be the same as if they
/// ran one after the other. In either order, the answer that hides the row counts.
@Suite struct HoldRaceTests {
  static let rows = """
    INSERT INTO users VALUES (1, 'one'), (2, 'two');
    INSERT INTO posts (post_id, author_id, visibility) VALUES (9, 1, 'internal'), (10, 2, 'public')
    """

  /// The point at which the first process waits until the other process waits for a lock.
  enum Gate: String, CaseIterable, Sendable {
    /// The restoring process has locked the holds and is about to write the row.
    case restoring = """
      CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF NEW.visibility <> 'protected' THEN PERFORM pg_advisory_xact_lock(4711); END IF;
        RETURN NEW;
      END $$;
      CREATE TRIGGER gate BEFORE UPDATE ON shop.posts FOR EACH ROW EXECUTE FUNCTION public.gate()
      """
    /// The hiding process has inserted its holder and is about to commit.
    case hiding = """
      CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF NEW.type = 'users' THEN PERFORM pg_advisory_xact_lock(4711); END IF;
        RETURN NULL;
      END $$;
      CREATE TRIGGER gate AFTER INSERT ON lethe.holder FOR EACH ROW EXECUTE FUNCTION public.gate()
      """
  }

  @Test(arguments: Gate.allCases)
  func theRowEndsHiddenInEitherOrder(gate: Gate) async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      let whole = nights.definition
      let posts = try HoldDefinitionTests.singleDataset("posts", whole)
      let users = try HoldDefinitionTests.singleDataset("users", whole)
      try nights.edit(whole, to: posts)
      try await nights.run([9: "protected"])
      nights.answer([.init(type: "users", id: 1): "protected"])
      try await nights.withRuntime { try await nights.collect($0) }
      try nights.edit(posts, to: users)
      try await nights.withRuntime { try await nights.collect($0) }
      try await nights.execute(SQL(trusted: gate.rawValue))
      let (first, second) = gate == .restoring ? (posts, users) : (users, posts)
      try await Connection.withConnection(ConnectionString(nights.url)) { blocker in
        try await blocker.execute("SELECT pg_advisory_lock(4711)")
        if nights.definition != first { try nights.edit(nights.definition, to: first) }
        async let one = nights.withRuntime { try await $0.apply() }
        try await Self.waitForLocks(1, nights)
        try nights.edit(first, to: second)
        async let other = nights.withRuntime { try await $0.apply() }
        try await Self.waitForLocks(2, nights)
        try await blocker.execute("SELECT pg_advisory_unlock(4711)")
        _ = try await (one, other)
      }
      #expect(try await nights.visibility(9) == "protected")
      let holders = try await nights.rows(
        """
        SELECT r.type, r.id FROM lethe.holder AS r JOIN lethe.hold AS h USING (hold_id)
        WHERE h.table_name = 'shop.posts'
        """)
      #expect(holders == ["(users,1)"])
      // The next answer restores the row to its first value.
      nights.answer([:])
      try nights.edit(second, to: users)
      try await nights.run(checks: false)
      #expect(try await nights.visibility(9) == "internal")
    }
  }

  /// Waits until `count` sessions wait for a lock of another session.
  static func waitForLocks(_ count: Int, _ nights: NightlyFixture) async throws {
    try await Connection.withConnection(ConnectionString(nights.url)) { watcher in
      while try await watcher.query(
        """
        SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND datname = current_database()
        """
      ).onlyRow(as: Int.self) < count { try await pollingPause() }
    }
  }
}
