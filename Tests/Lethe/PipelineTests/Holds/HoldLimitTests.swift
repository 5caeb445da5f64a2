import PostgreSQL
import Runtime
import TestSupport
import Testing
import Warehouse

/// The limits on the rows that one run may restore without an approval.
@Suite struct HoldLimitTests {
  /// Posts 1 to `count`, each with its own author, and one more post that is never hidden.
  static func posts(_ count: Int) -> String {
    """
    INSERT INTO posts (post_id, author_id, visibility)
    SELECT p, 1000 + p, CASE WHEN p % 4 = 0 THEN 'internal' ELSE 'public' END
    FROM generate_series(1, \(count) + 1) AS p
    """
  }

  static func protected(_ ids: ClosedRange<Int64>) -> [Int64: String] {
    Dictionary(uniqueKeysWithValues: ids.map { ($0, "protected") })
  }

  static let hidden: SQL = "SELECT count(*) FROM shop.posts WHERE visibility = 'protected'"

  /// The result is empty, and its announced length is zero.
  @Test(arguments: Shop.Order.allCases)
  func anEmptyResultThatWouldRestoreEveryRowStopsTheRun(order: Shop.Order) async throws {
    try await NightlyFixture.with(Shop(order: order), Self.posts(100)) { nights in
      try await nights.run(Self.protected(1...100))
      nights.answer("tweets", body: "")
      let report = try await nights.run(status: .stopped, checks: false)
      #expect(try await nights.rows(Self.hidden) == ["(100)"])
      let stopped = try #require(report.stopped.first)
      #expect(report.stopped.count == 1)
      #expect(stopped.dataset == "posts")
      #expect(stopped.reason.contains("max_restored_percent"), "\(stopped.reason)")
      // A retry without an approval stays stopped. With an approval the run continues.
      let again = try await nights.withRuntime { try await $0.run(resumeOnly: true) }
      #expect(again.first?.status == .stopped)
      #expect(try await nights.rows(Self.hidden) == ["(100)"])
      _ = try await nights.withRuntime { try await $0.apply(approving: stopped.chunkID) }
      try await nights.expectRows()
      #expect(try await nights.rows(Self.hidden) == ["(0)"])
    }
  }

  struct Share: Sendable, CustomTestStringConvertible {
    let held: Int64
    let released: Int64
    var limits = ""
    let stops: Bool

    var testDescription: String {
      "\(released) of \(held)\(limits)\(stops ? ": stopped" : ": done")"
    }
  }

  static let shares = [
    Share(held: 19, released: 19, stops: false), Share(held: 30, released: 19, stops: false),
    Share(held: 20, released: 20, stops: true), Share(held: 30, released: 20, stops: true),
    Share(held: 100, released: 20, stops: false), Share(held: 100, released: 21, stops: true),
    Share(held: 100, released: 60, limits: ", max_restored_percent: 60", stops: false),
    Share(held: 100, released: 61, limits: ", max_restored_percent: 60", stops: true),
    Share(held: 100, released: 100, limits: ", max_restored_percent: 100", stops: false),
    Share(held: 100, released: 19, limits: ", max_restored_percent: 0", stops: false),
    Share(held: 100, released: 20, limits: ", max_restored_percent: 0", stops: true),
    Share(
      held: 30, released: 10, limits: ", max_restored_percent: 100, max_restored_rows: 9",
      stops: true),
    Share(
      held: 30, released: 10, limits: ", max_restored_percent: 100, max_restored_rows: 10",
      stops: false),
    Share(held: 5, released: 2, limits: ", max_restored_rows: 1", stops: true),
  ]

  @Test(arguments: shares)
  func aShareOfTheHoldersMayBeReleasedWithoutApproval(share: Share) async throws {
    try await NightlyFixture.with(
      Shop(limits: share.limits), Self.posts(Int(share.held))
    ) { nights in
      try await nights.run(Self.protected(1...share.held))
      let left =
        share.released < share.held ? Self.protected(share.released + 1...share.held) : [:]
      try await nights.run(left, status: share.stops ? .stopped : .done, checks: false)
      if share.stops {
        #expect(try await nights.rows(Self.hidden) == ["(\(share.held))"])
      } else {
        try await nights.expectRows()
      }
    }
  }

  /// The release of one ID restores many rows. The number of rows is limited, independently of the share of holders.
  @Test(arguments: [(99, true), (101, true), (102, false)])
  func theRowsThatARunMayRestoreAreLimited(rows: Int, stops: Bool) async throws {
    // 101 rows of posts and one row of users.
    try await NightlyFixture.with(
      Shop(limits: ", max_restored_rows: \(rows)"),
      """
      INSERT INTO users VALUES (1, 'one'), (2, 'two');
      INSERT INTO posts (post_id, author_id) SELECT p, 1 FROM generate_series(1, 101) AS p
      """
    ) { nights in
      try await nights.run([:], [1: "protected"])
      let report = try await nights.run(status: stops ? .stopped : .done, checks: false)
      guard stops else { return try await nights.expectRows() }
      #expect(try await nights.rows(Self.hidden) == ["(101)"])
      let stopped = try #require(report.stopped.first)
      #expect(stopped.reason.contains("max_restored_rows"), "\(stopped.reason)")
      _ = try await nights.withRuntime { try await $0.apply(approving: stopped.chunkID) }
      try await nights.expectRows()
    }
  }

  /// The rows of a run are counted over all its chunks, so the later chunks stop.
  @Test func theRestoredRowsAreCountedOverAllChunksOfARun() async throws {
    let shop = Shop(
      order: .postsFirst, limits: ", max_restored_percent: 100, max_restored_rows: 25",
      postKeys: ["chunk: {ids: 10}"])
    try await NightlyFixture.with(shop, Self.posts(39)) { nights in
      try await nights.run(Self.protected(1...39))
      let report = try await nights.run(status: .stopped, checks: false)
      #expect(report.stopped.count == 2)
      #expect(try await nights.rows(Self.hidden) == ["(19)"])
    }
  }

  /// The percentage is a share of the holders in the chunk's key range. Holders outside the range do not lower the
  /// percentage.
  @Test func theShareRefersToTheHoldersInTheChunksRange() async throws {
    let shop = Shop(order: .postsFirst, postKeys: ["chunk: {ids: 50}"])
    try await NightlyFixture.with(shop, Self.posts(149)) { nights in
      try await nights.run(Self.protected(1...149))
      // The result of the first chunk does not name 25 of its 50 IDs. The other results name all of their IDs.
      let report = try await nights.run(
        Self.protected(26...149), status: .stopped, checks: false)
      #expect(report.stopped.count == 1)
      #expect(try await nights.rows(Self.hidden) == ["(149)"])
    }
  }

  /// IDs whose answers are clean in every run release nothing.
  @Test func idsThatHoldNoRowAreNotCounted() async throws {
    try await NightlyFixture.with(Shop(), Self.posts(200)) { nights in
      try await nights.run(Self.protected(1...5))
      try await nights.run(Self.protected(2...5))
      try await nights.run()
    }
  }

  @Test func aStoppedRunIsShownByItsExitCodeAndItsPlan() async throws {
    try await NightlyFixture.with(Shop(), Self.posts(50)) { nights in
      try await nights.run(Self.protected(1...50))
      nights.answer([:])
      try await nights.withRuntime { try await nights.collect($0) }
      let plan = try await nights.lethe("plan", "PIPELINE", "--output", "json")
      #expect(plan.stdout.contains("restore"), "\(plan.stdout)")
      let run = try await nights.lethe("run", "PIPELINE", "--output", "json")
      #expect(run.code == 3, "\(run.stderr)")
      #expect(try await nights.rows(Self.hidden) == ["(50)"])
    }
  }
}
