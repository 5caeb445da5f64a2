import Evidence
import Foundation
import Ledger
import PostgreSQL
import Runtime
import TestSupport
import Testing
import Vocabulary

/// Answers that the API repeats in each run and that change nothing. The first answer gets an event record. The later
/// answers leave traces. All code that reads answers reads event records and traces.
@Suite struct TraceTests {
  struct Kind: Sendable, CustomTestStringConvertible {
    let testDescription: String
    var shop = Shop(restore: "former")
    var posts: [Int64: String] = [:]
    var users: [Int64: String] = [:]
    /// The answers that are added in the fifth run.
    var added: [Int64: String] = [:]
  }

  static let rows = """
    INSERT INTO users VALUES (1, 'one'), (2, 'two'), (3, 'three');
    INSERT INTO posts (post_id, author_id, text, latitude, raw, visibility)
    SELECT p * 1000, 1 + p % 3, 'text', 1, '{"geo": 1}', CASE WHEN p = 9 THEN 'protected' ELSE 'public' END
    FROM generate_series(1, 40) AS p
    """

  static let kinds = [
    Kind(
      testDescription: "protected", posts: [1000: "protected", 2000: "protected"],
      added: [3000: "protected"]),
    Kind(
      testDescription: "protected without a restore", shop: Shop(restore: "none"),
      posts: [1000: "protected", 40_000: "protected"], added: [2000: "protected"]),
    Kind(
      testDescription: "already protected", posts: [9000: "protected"],
      added: [8000: "protected"]),
    Kind(
      testDescription: "a protected author", users: [1: "protected"], added: [4000: "protected"]),
    Kind(
      testDescription: "a post and its author", posts: [3000: "protected"],
      users: [1: "protected"], added: [6000: "protected"]),
    Kind(
      testDescription: "redacted in place",
      shop: Shop(postActions: ["deleted": "{redact: {text: ''}}"]),
      posts: [1000: "deleted", 5000: "deleted"], added: [7000: "deleted"]),
    Kind(
      testDescription: "without a location", posts: [1000: "geo_scrubbed", 2000: "geo_scrubbed"],
      added: [3000: "geo_scrubbed"]),
    Kind(
      testDescription: "ignored", shop: Shop(postActions: ["suspended": "ignore"]),
      posts: [1000: "suspended"], added: [3000: "suspended"]),
    Kind(testDescription: "edited", posts: [1000: "tweet_edited"], added: [3000: "tweet_edited"]),
    Kind(
      testDescription: "edited and marked",
      shop: Shop(postActions: ["tweet_edited": "{rehydrate: {set: {searchable: false}}}"]),
      posts: [1000: "tweet_edited"], added: [3000: "tweet_edited"]),
    Kind(
      testDescription: "of all kinds, in small batches",
      shop: Shop(
        postKeys: ["batch: 3"],
        postActions: ["deleted": "{redact: {text: ''}}", "suspended": "ignore"]),
      posts: Dictionary(
        uniqueKeysWithValues: (1...30).map { number in
          let reasons = ["protected", "deleted", "geo_scrubbed", "suspended", "tweet_edited"]
          return (Int64(number) * 1000, reasons[number % 5])
        }), added: [31_000: "protected", 32_000: "deleted"]),
    Kind(
      testDescription: "of all kinds, in one batch",
      shop: Shop(
        postKeys: ["atomic: chunk"],
        postActions: ["deleted": "{redact: {text: ''}}", "suspended": "ignore"]),
      posts: Dictionary(
        uniqueKeysWithValues: (1...30).map { number in
          let reasons = ["suspended", "protected", "deleted", "geo_scrubbed", "tweet_edited"]
          return (Int64(number) * 1000, reasons[number % 5])
        }), added: [31_000: "tweet_edited"]),
  ]

  static let records: SQL = "SELECT count(*) FROM lethe.event WHERE cause_id IS NULL"

  /// Returns a query for the answers that the traces of a run represent.
  private static func traced(_ run: Int) -> String {
    """
    SELECT t.type, t.id, t.reason FROM \(PipelineFixture.tracedEvents) AS t JOIN lethe.chunk USING (chunk_id)
    WHERE run_id = \(run)
    """
  }

  private static func rows(_ posts: [Int64: String], _ users: [Int64: String]) -> [String] {
    (posts.map { "(tweets,\($0),\($1))" } + users.map { "(users,\($0),\($1))" }).sorted()
  }

  private static func counts(_ nights: NightlyFixture) async throws -> [String: Int] {
    let tables = try await nights.rows(
      """
      SELECT relname FROM pg_class WHERE relnamespace = 'lethe'::regnamespace AND relkind IN ('r', 'p')
        AND NOT relispartition
      """)
    var counts: [String: Int] = [:]
    for table in tables.map({ $0.filter { !"()".contains($0) } }) {
      let count = try await nights.rows("SELECT count(*) FROM lethe.\(trusted: table)")
      counts[table] = Int(count[0].filter(\.isNumber))
    }
    return counts
  }

  /// The tables that get rows in every run, whatever the result contains.
  private static let growing: Set<String> = [
    "run", "export", "chunk", "job", "batch", "seal", "trace",
  ]

  @Test(arguments: kinds)
  func aRunThatChangesNothingLeavesTraces(kind: Kind) async throws {
    try await NightlyFixture.with(kind.shop, Self.rows) { nights in
      func run(_ posts: [Int64: String]) async throws {
        try await nights.run(posts, kind.users, checks: false)
        try await nights.execute("DELETE FROM lethe.rehydration")
      }
      let all = kind.posts.count + kind.users.count
      try await run(kind.posts)
      #expect(try await nights.rows(Self.records) == ["(\(all))"])
      let first = try await Self.counts(nights)
      var before = first
      for number in 2...4 {
        try await run(kind.posts)
        #expect(
          try await nights.rows(SQL(trusted: Self.traced(number)))
            == Self.rows(kind.posts, kind.users))
        let now = try await Self.counts(nights)
        for (table, count) in now {
          let isGrowing = Self.growing.contains(table)
          #expect(isGrowing || count == first[table], "\(table), run \(number)")
          guard number > 2, isGrowing else { continue }
          #expect(
            count - (before[table] ?? 0) == (now[table] ?? 0) / number || table == "trace"
              || table == "seal", "\(table)")
        }
        before = now
      }
      // Only the added answers get new records.
      try await run(kind.posts.merging(kind.added) { $1 })
      #expect(try await nights.rows(Self.records) == ["(\(all + kind.added.count))"])
      #expect(
        try await nights.rows(SQL(trusted: Self.traced(5))) == Self.rows(kind.posts, kind.users))

      let verified = try await nights.lethe("audit", "verify", "--output", "json")
      #expect(verified.code == 0, "\(verified.stdout)\(verified.stderr)")
      let everything = try await nights.rows("SELECT count(*) FROM lethe.event")
      let proven = verified.json["events_proven"] as? Int
      #expect(proven.map { "(\($0 - 4 * all))" } == everything.first)
      let ids = kind.posts.keys.map { ($0, "tweets") } + kind.users.keys.map { ($0, "users") }
      for (id, type) in ids.prefix(5) {
        let shown = try await nights.lethe(
          "audit", "show", "\(id)", "--type", type, "--output", "json")
        let events = (shown.json["events"] as? [[String: Any]] ?? []).filter {
          $0["cause_id"] == nil
        }
        #expect(events.count == 5, "\(shown.stdout)")
        #expect(Set(events.compactMap { $0["created_at"] as? String }).count == 1)
        #expect(events.allSatisfy { $0["created_at"] != nil })
        let answers = (shown.json["checks"] as? [[String: Any]])?.map { $0["answer"] as? String }
        #expect(answers == Array(repeating: "event", count: 5))
      }
      let exported = try await nights.lethe(
        "audit", "export", "--from", "2000-01-01", "--to", "2999-01-01", "--format", "ndjson")
      #expect(exported.stdout.split(separator: "\n").count == proven)
      let times = exported.stdout.split(separator: "\n").filter { !$0.contains(#""cause_id":""#) }
      #expect(times.allSatisfy { $0.contains(#""created_at":"2021-08-11T19:42:55"#) })
    }
  }

  @Test func anAnswerThatDiffersFromTheNewestRecordGetsItsOwnRecord() async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      func line(_ reason: String, redacted: String) -> String {
        let action = reason == "geo_scrubbed" ? "scrub_geo" : "delete"
        return
          #"{"id":"1000","action":"\#(action)","reason":"\#(reason)","redacted_at":\#(redacted)}"#
          + "\n"
      }
      let (one, two) = (#""2026-01-01T00:00:00.000Z""#, #""2026-01-02T00:00:00.000Z""#)
      let steps: [(line: String, records: Int)] = [
        (line("protected", redacted: one), 1), (line("protected", redacted: one), 1),
        (line("protected", redacted: two), 2), (line("protected", redacted: two), 2),
        (line("protected", redacted: one), 3), (line("protected", redacted: "null"), 4),
        (line("protected", redacted: "null"), 4), (line("geo_scrubbed", redacted: "null"), 5),
        (line("geo_scrubbed", redacted: "null"), 5), (line("protected", redacted: one), 6),
        // The ID is clean again. Then the earlier answer is repeated. It hides the row again, so it gets a record.
        ("\n", 7), ("\n", 7), (line("protected", redacted: one), 8),
        (line("protected", redacted: one), 8),
      ]
      for (number, step) in steps.enumerated() {
        nights.answer("tweets", body: step.line)
        try await nights.run(checks: false)
        #expect(try await nights.rows(Self.records) == ["(\(step.records))"], "run \(number)")
      }
      // Another writer makes the row public.
      try await nights.execute("UPDATE shop.posts SET visibility = 'public' WHERE post_id = 1000")
      try await nights.run(checks: false)
      #expect(try await nights.rows(Self.records) == ["(9)"])
      // The first answer to another pipeline gets its own record.
      try nights.edit("name: shop", to: "name: other")
      for _ in 1...2 { try await nights.run(checks: false) }
      #expect(try await nights.rows(Self.records) == ["(10)"])
      #expect(try await nights.lethe("audit", "verify").code == 0)
    }
  }

  // MARK: Code that reads answers

  private static let protected = CollectTests.event(1000, "delete", "protected")
  private static let withheld = CollectTests.event(1000, "delete", "withheld")

  /// Retries the quarantined lines of a run. Before the retry, replaces their text with an event that deletes post 1000,
  /// and marks them as not resolved.
  private static func retry(
    _ nights: NightlyFixture, ofRun run: Int
  ) async throws -> PipelineRuntime.RetryReport {
    try await nights.execute(
      """
      UPDATE lethe.quarantine
      SET raw = convert_to('\(trusted: CollectTests.event(1000))', 'UTF8'), resolved_at = NULL,
          resolution = NULL, note = NULL
      WHERE chunk_id IN (SELECT chunk_id FROM lethe.chunk WHERE run_id = \(literal: run))
      """)
    return try await nights.withRuntime { try await $0.retryQuarantined() }
  }

  /// The newest answer left only a trace. An older answer is still not applied.
  @Test(arguments: ["protected", "geo_scrubbed", "suspended"])
  func aTraceSupersedesOlderAnswers(reason: String) async throws {
    let shop = Shop(restore: "former", postActions: ["suspended": "ignore"])
    try await NightlyFixture.with(shop, Self.rows) { nights in
      let action = reason == "geo_scrubbed" ? "scrub_geo" : "delete"
      let confirmed = CollectTests.event(1000, action, reason)
      for body in [confirmed, Self.withheld, confirmed] {
        nights.answer("tweets", body: body)
        try await nights.run(checks: false)
      }
      #expect(try await nights.rows(Self.records) == ["(1)"])
      let report = try await Self.retry(nights, ofRun: 2)
      #expect(report.events == 1 && report.superseded == 1)
      #expect(try await nights.rows("SELECT 1 FROM shop.posts WHERE post_id = 1000") == ["(1)"])
      #expect(try await nights.lethe("audit", "verify").code == 0)
    }
  }

  @Test func aQuarantinedLineAboutAnIDWithATraceStaysInQuarantine() async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      for _ in 1...2 {
        nights.answer("tweets", body: Self.protected)
        try await nights.run(checks: false)
      }
      try await nights.execute(
        """
        INSERT INTO lethe.quarantine (chunk_id, job_id, line, raw, why, id, in_chunk)
        SELECT chunk_id, job_id, 2, 'x', 'unknown to an older version', 1000, true
        FROM lethe.job JOIN lethe.chunk USING (chunk_id) WHERE run_id = 2 AND type = 'tweets'
        """)
      #expect(try await Self.retry(nights, ofRun: 2).events == 0)
      #expect(
        try await nights.rows("SELECT why FROM lethe.quarantine")
          == [#"("the chunk already has an event about the ID")"#])
    }
  }

  /// An answer that left a trace supersedes the refused event.
  @Test func aTraceSupersedesARefusedEvent() async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      try await nights.execute(
        """
        CREATE TABLE bookmarks (post_id bigint REFERENCES shop.posts);
        INSERT INTO bookmarks VALUES (1000)
        """)
      let statuses: [(String, RunReport.Status)] = [
        (Self.protected, .done), (CollectTests.event(1000), .failed), (Self.protected, .done),
      ]
      for (body, _) in statuses {
        nights.answer("tweets", body: body)
        _ = try await nights.withRuntime { try await $0.run() }
      }
      #expect(try await nights.rows(Self.records) == ["(1)"])
      // Undo the resolution that the last run recorded.
      try await nights.execute(
        "UPDATE lethe.refusal SET resolved_at = NULL, resolution = NULL, superseded_by = NULL")
      try await Connection.withConnection(ConnectionString(nights.url)) {
        try await RunLedger(connection: $0).endSupersededRefusals(pipeline: "shop")
      }
      #expect(try await nights.rows("SELECT resolution FROM lethe.refusal") == ["(superseded)"])
    }
  }

  @Test func aReleaseUsesATraceAsTheNewestAnswer() async throws {
    let shop = Shop(restore: "former", postActions: ["suspended": "ignore"])
    try await NightlyFixture.with(shop, Self.rows) { nights in
      let suspended = CollectTests.event(1000, "delete", "suspended")
      for (name, body) in [
        ("shop", Self.protected), ("other", suspended), ("shop", Self.protected),
      ] {
        let other = name == "shop" ? "other" : "shop"
        if nights.definition.contains("name: \(other)\n") {
          try nights.edit("name: \(other)\n", to: "name: \(name)\n")
        }
        nights.answer("tweets", body: body)
        try await nights.run(checks: false)
      }
      #expect(try await nights.rows(Self.records) == ["(2)"])
      let still = try await Connection.withConnection(ConnectionString(nights.url)) {
        try await HoldLedger(connection: $0).stillProtected(type: .tweets, ids: [1000, 2000])
      }
      #expect(still == [1000])
    }
  }

  // MARK: Edits

  /// The times in the answer of each run, and whether that run queues the ID for a rehydration.
  private static let edits: [(what: String, times: [(String, String)], queued: [Bool])] = [
    ("no times", Array(repeating: ("null", "null"), count: 3), [true, false, false]),
    (
      "only the time of the post", Array(repeating: (time(1), "null"), count: 3),
      [true, false, false]
    ),
    (
      "a second edit",
      [(time(1), time(2)), (time(1), time(2)), (time(1), time(3)), (time(1), time(3))],
      [true, false, true, false]
    ),
    (
      "another version of the post", [(time(1), "null"), (time(2), "null"), (time(2), "null")],
      [true, true, false]
    ),
    (
      "a time in a later answer", [("null", "null"), ("null", time(2)), ("null", time(2))],
      [true, true, false]
    ),
  ]

  private static func time(_ day: Int) -> String { #""2026-01-0\#(day)T00:00:00.000Z""# }

  private static func edit(_ times: (String, String)) -> String {
    #"{"id":"1000","action":"rehydrate","reason":"tweet_edited","created_at":\#(times.0),"redacted_at":\#(times.1)}"#
      + "\n"
  }

  @Test(
    arguments: sampled(
      edits.indices, ["rehydrate", "{rehydrate: {set: {searchable: false}}}"], edits.count))
  func anEditIsQueuedOnce(index: Int, action: String) async throws {
    let edit = Self.edits[index]
    let shop = Shop(restore: "former", postActions: ["tweet_edited": action])
    try await NightlyFixture.with(shop, Self.rows) { nights in
      for (times, isQueued) in zip(edit.times, edit.queued) {
        nights.answer("tweets", body: Self.edit(times))
        try await nights.run(checks: false)
        #expect(
          try await nights.rows("SELECT id FROM lethe.rehydration") == (isQueued ? ["(1000)"] : []),
          "\(edit.what)")
        // The tables are now as if the operator's program had fetched the post again.
        try await nights.execute(
          "DELETE FROM lethe.rehydration; UPDATE shop.posts SET searchable = true")
      }
    }
  }

  /// The record of an edit is pruned. A repeated answer about the same edit is not queued again, but it gets a record
  /// again. An answer about a newer edit is queued.
  @Test(arguments: [false, true])
  func anEditIsNotQueuedAgainAfterItsRecordIsPruned(isEditedAgain: Bool) async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      for _ in 1...2 {
        nights.answer(
          "tweets", body: Self.edit((Self.time(1), Self.time(2))) + Self.secondProtected)
        try await nights.run(checks: false)
      }
      #expect(try await nights.rows(Self.records) == ["(2)"])
      try await nights.execute(
        """
        DELETE FROM lethe.rehydration;
        SELECT lethe.ensure_event_partitions(now() - interval '30 months');
        UPDATE lethe.event SET applied_at = now() - interval '30 months';
        UPDATE lethe.batch SET applied_at = now() - interval '30 months'
        WHERE chunk_id IN (SELECT chunk_id FROM lethe.chunk WHERE run_id = 1)
        """)
      let pruned = try await nights.lethe(
        "audit", "prune", "--older-than", "25months", "--output", "json")
      #expect(pruned.json["events"] as? Int == 2, "\(pruned.stderr)")
      let edit = Self.edit((Self.time(1), Self.time(isEditedAgain ? 3 : 2)))
      nights.answer("tweets", body: edit + Self.secondProtected)
      for number in 1...2 {
        try await nights.run(checks: false)
        #expect(
          try await nights.rows("SELECT id FROM lethe.rehydration")
            == (isEditedAgain && number == 1 ? ["(1000)"] : []))
        #expect(try await nights.rows(Self.records) == ["(2)"])
        try await nights.execute("DELETE FROM lethe.rehydration")
      }
    }
  }

  private static let secondProtected = CollectTests.event(2000, "delete", "protected")

  // MARK: Evidence

  /// A change to the second run's traces of IDs 1000 and 2000, and the place at which verification finds the change.
  private static let tamperings: [(sql: SQL, expected: String)] = [
    (
      "UPDATE lethe.trace SET distances = '\\x000003e9'", "lethe.event and lethe.trace chunk_id = 3"
    ),
    (
      "UPDATE lethe.trace SET first_id = first_id + 1, last_id = last_id + 1",
      "lethe.event and lethe.trace chunk_id = 3"
    ),
    ("UPDATE lethe.trace SET reason = 'suspended'", "lethe.event and lethe.trace chunk_id = 3"),
    ("UPDATE lethe.trace SET action = 'ignore'", "lethe.event and lethe.trace chunk_id = 3"),
    ("UPDATE lethe.trace SET job_id = 1", "lethe.event and lethe.trace chunk_id = 3"),
    ("UPDATE lethe.trace SET type = 'users'", "lethe.event and lethe.trace chunk_id = 3"),
    (
      "UPDATE lethe.trace SET applied_at = applied_at - interval '1 second'",
      "lethe.event and lethe.trace chunk_id = 3"
    ),
    ("DELETE FROM lethe.trace", "lethe.event chunk_id = 3"),
    (
      """
      INSERT INTO lethe.trace SELECT chunk_id, batch, type, 'suspended', action, job_id, applied_at, 1, 5, 5, '\\x00'
      FROM lethe.trace
      """, "lethe.event and lethe.trace chunk_id = 3"
    ),
    ("UPDATE lethe.trace SET batch = 9", "lethe.trace chunk_id = 3 AND batch = 9"),
    (
      """
      DELETE FROM lethe.trace;
      UPDATE lethe.batch AS b SET (records, sha256) = (
        SELECT records, sha256 FROM lethe.event_digest(b.chunk_id, b.number))
      """, "lethe.batch chunk_id = 3"
    ),
  ]

  @Test(arguments: tamperings)
  func tamperingWithATraceIsFound(sql: SQL, expected: String) async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      for _ in 1...2 {
        nights.answer("tweets", body: Self.protected + Self.secondProtected)
        try await nights.run(checks: false)
      }
      #expect(try await nights.rows("SELECT events FROM lethe.trace") == ["(2)"])
      try await nights.execute(sql)
      let found = try await Connection.withConnection(ConnectionString(nights.url)) {
        try await AuditLedger(connection: $0).verify()
      }
      let places = found.faults.map { "\($0.table) \($0.key)" }
      #expect(places.contains { $0.hasPrefix(expected) }, "\(places)")
    }
  }

  @Test func aPruneDropsTracesWithTheirMonth() async throws {
    try await NightlyFixture.with(Shop(restore: "former"), Self.rows) { nights in
      for _ in 1...3 {
        nights.answer("tweets", body: Self.protected + Self.secondProtected)
        try await nights.run(checks: false)
      }
      let old = "chunk_id IN (SELECT chunk_id FROM lethe.chunk WHERE run_id < 3)"
      try await nights.execute(
        """
        SELECT lethe.ensure_event_partitions(now() - interval '30 months');
        UPDATE lethe.event SET applied_at = now() - interval '30 months' WHERE \(trusted: old);
        UPDATE lethe.trace SET applied_at = now() - interval '30 months' WHERE \(trusted: old);
        UPDATE lethe.batch SET applied_at = now() - interval '30 months' WHERE \(trusted: old)
        """)
      let pruned = try await nights.lethe(
        "audit", "prune", "--older-than", "25months", "--output", "json")
      #expect(pruned.json["events"] as? Int == 4, "\(pruned.stdout)\(pruned.stderr)")
      #expect(
        try await nights.rows("SELECT run_id FROM lethe.trace JOIN lethe.chunk USING (chunk_id)")
          == ["(3)"])
      // Verification finds a trace in a month that was pruned.
      try await nights.execute(
        """
        INSERT INTO lethe.trace
        SELECT chunk_id, 7, type, reason, action, job_id, applied_at - interval '30 months', events,
               first_id, last_id, distances FROM lethe.trace
        """)
      let found = try await Connection.withConnection(ConnectionString(nights.url)) {
        try await AuditLedger(connection: $0).verify()
      }
      #expect(found.faults.contains { $0.problem.contains("in the period that was pruned") })
    }
  }
}
