import PostgreSQL
import Runtime
import TestSupport
import Testing
import Warehouse

/// Rows that a version of Lethe without holds has hidden. That version stored only the protected IDs, in
/// `lethe.protection`.
@Suite struct HoldUpgradeTests {
  static let rows = """
    INSERT INTO users VALUES (1, 'one'), (2, 'two');
    INSERT INTO posts (post_id, author_id, visibility) VALUES
      (8, 1, 'public'), (9, 1, 'internal'), (10, 2, 'public'), (11, 3, 'internal')
    """

  /// Replaces the holds with the records that the earlier version would have created.
  private static func replaceHolds(_ nights: NightlyFixture) async throws {
    try await nights.execute(
      """
      INSERT INTO lethe.protection (pipeline, dataset, id, chunk_id, protected_at, asked_at)
      SELECT DISTINCT ON (r.pipeline, r.dataset, r.id)
             r.pipeline, r.dataset, r.id, j.chunk_id, h.held_at, r.asked_at
      FROM lethe.holder AS r JOIN lethe.hold AS h USING (hold_id) JOIN lethe.job AS j USING (job_id);
      DELETE FROM lethe.hold;
      """)
  }

  private static let protections: SQL = "SELECT count(*) FROM lethe.protection"

  /// Lethe uses the values of `restore`, because no former value is known.
  @Test func rowsOfAnEarlierVersionGetTheValuesOfRestore() async throws {
    try await NightlyFixture.with(Shop(restore: "{visibility: friends}"), Self.rows) { nights in
      try await nights.run([11: "protected"], [1: "protected"])
      try await Self.replaceHolds(nights)
      let findings = try await nights.findings().filter { $0.message.contains("had no holds") }
      #expect(findings.count == 1)
      #expect(findings.first?.message.contains("2 IDs") == true, "\(findings)")
      #expect(try await nights.lethe("status").stdout.contains("2 IDs were protected"))
      try await nights.run(checks: false)
      #expect(
        try await nights.rows("SELECT post_id, visibility FROM shop.posts") == [
          "(10,public)", "(11,friends)", "(8,friends)", "(9,friends)",
        ])
      #expect(try await nights.rows(Self.protections) == ["(0)"])
    }
  }

  /// `restore: former` has no values, and the earlier version stored no former values. So Lethe cannot restore the
  /// rows. They stay hidden and are counted.
  @Test func rowsOfAnEarlierVersionStayHiddenWithRestoreFormerAndAreCounted() async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      try await nights.run([11: "protected"])
      try await Self.replaceHolds(nights)
      try await nights.run(checks: false)
      #expect(try await nights.visibility(11) == "protected")
      #expect(try await nights.rows(Self.protections) == ["(1)"])
      #expect(try await nights.findings().contains { $0.message.contains("had no holds") })
    }
  }

  /// The first runs have reasons that release nothing. The last run releases the user.
  @Test(arguments: [
    ["protected"], ["deactivated"], ["suspended"], ["deleted"], ["protected", "deactivated"],
  ])
  func aReasonThatReleasesNothingLeavesRowsOfAnEarlierVersionHidden(reasons: [String]) async throws
  {
    let kept = "{redact: {name: ''}}"
    let shop = Shop(
      userActions: ["deactivated": kept, "suspended": kept, "deleted": kept],
      reachedActions: ["deactivated": "ignore", "suspended": "ignore", "deleted": "ignore"])
    try await NightlyFixture.with(shop, Self.rows) { nights in
      try await nights.run([:], [1: "protected"])
      try await Self.replaceHolds(nights)
      for reason in reasons {
        try await nights.run([:], [1: reason], checks: false)
        #expect(try await nights.visibility(8) == "protected", "\(reason)")
      }
      try await nights.run(checks: false)
      #expect(try await nights.visibility(8) == "public")
    }
  }

  /// One row has a hold and a protection of the earlier version. It is restored when both are released.
  @Test(arguments: [true, false])
  func aRowWithAHoldAndAnEarlierProtectionIsRestoredByTheLastRelease(holdGoesFirst: Bool)
    async throws
  {
    try await NightlyFixture.with(Shop(), Self.rows) { nights in
      try await nights.run([:], [1: "protected"])
      try await Self.replaceHolds(nights)
      // Another writer makes the row visible, and the row's own answer hides it again.
      try await nights.execute("UPDATE shop.posts SET visibility = 'internal' WHERE post_id = 9")
      try await nights.run([9: "protected"], [:], checks: false)
      #expect(try await nights.visibility(9) == "protected")
    }
    try await NightlyFixture.with(Shop(), Self.rows) { nights in
      try await nights.run([:], [1: "protected"])
      try await Self.replaceHolds(nights)
      try await nights.execute("UPDATE shop.posts SET visibility = 'internal' WHERE post_id = 9")
      try await nights.run([9: "protected"], [1: "protected"], checks: false)
      #expect(
        try await nights.rows("SELECT former FROM lethe.hold WHERE row_key ->> 'post_id' = '9'")
          == [#"("{""visibility"": ""internal""}")"#])
      let (first, second): ([Int64: String], [Int64: String]) =
        holdGoesFirst ? ([:], [1: "protected"]) : ([9: "protected"], [:])
      try await nights.run(first, second, checks: false)
      #expect(try await nights.visibility(9) == "protected")
      try await nights.run(checks: false)
      #expect(try await nights.visibility(9) == "internal")
      #expect(try await nights.visibility(8) == "public")
    }
  }

  /// A protection of the earlier version hides the row, and its author is protected now. Lethe does not write the
  /// row, but it restores the row only after the author is released.
  @Test(arguments: Shop.Order.allCases)
  func aLaterProtectedAuthorHoldsRowsOfAnEarlierVersionToo(order: Shop.Order) async throws {
    try await NightlyFixture.with(Shop(order: order), Self.rows) { nights in
      try await nights.run([8: "protected"], checks: false)
      try await Self.replaceHolds(nights)
      try await nights.run([8: "protected"], [1: "protected"], checks: false)
      try await nights.run([:], [1: "protected"], checks: false)
      #expect(try await nights.visibility(8) == "protected", "its author holds it")
      try await nights.run(checks: false)
      #expect(try await nights.visibility(8) == "public")
      #expect(try await nights.visibility(9) == "internal")
      #expect(try await nights.rows(Self.protections) == ["(0)"])
    }
  }

  /// For the limits, the number of rows of an earlier version is the number of their protected IDs.
  @Test func theLimitsCountRowsOfAnEarlierVersion() async throws {
    try await NightlyFixture.with(Shop(), HoldLimitTests.posts(30)) { nights in
      try await nights.run(HoldLimitTests.protected(1...30))
      try await Self.replaceHolds(nights)
      let report = try await nights.run(status: .stopped, checks: false)
      #expect(report.stopped.first?.reason.contains("max_restored_percent") == true)
      #expect(try await nights.rows(HoldLimitTests.hidden) == ["(30)"])
    }
  }

  /// A version without holds inserts its run without the SQL comment that the ledger requires.
  @Test func aProgramVersionWithoutHoldsIsRefused() async throws {
    try await withTestDatabase(.ledger) { database -> Void in
      try await database.withConnection { connection -> Void in
        await #expect {
          _ = try await connection.query(
            """
            INSERT INTO lethe.run (key, pipeline, definition, work_directory, lease)
            VALUES (\("0123456789ab"), \("p"), \("{}"), \("/tmp"),
              \("9b2f6c1e-31bb-4d41-9c5e-0d7c1c0f5a11")) RETURNING run_id
            """)
        } throws: {
          "\($0)".contains("this ledger keeps holds")
        }
      }
    }
  }

  /// A restored row that has its own ID gets an event record. The digest of the batch must include this record.
  @Test func restoredPostsOfAUserAreInTheSealedEvidence() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 300, users: 24)
      let pipeline = try fixture.pipeline()
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      // The records that an earlier version would have created.
      try await fixture.execute(
        """
        INSERT INTO lethe.protection (pipeline, dataset, id, chunk_id, protected_at, asked_at)
        SELECT DISTINCT ON (r.pipeline, r.dataset, r.id)
               r.pipeline, r.dataset, r.id, j.chunk_id, h.held_at, r.asked_at
        FROM lethe.holder AS r JOIN lethe.hold AS h USING (hold_id) JOIN lethe.job AS j USING (job_id);
        DELETE FROM lethe.hold;
        UPDATE platform.accounts SET state = 'active' WHERE state = 'protected';
        """)
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      #expect(
        try await fixture.value(
          "SELECT count(*) > 0 FROM lethe.event WHERE action = 'restore' AND cause_id IS NOT NULL",
          as: Bool.self))
      let verified = try await Program.run(
        "lethe", ["audit", "verify", "--database", fixture.database.url],
        environment: fixture.environment)
      #expect(verified.code == 0, "\(verified.stdout)\(verified.stderr)")
    }
  }
}
