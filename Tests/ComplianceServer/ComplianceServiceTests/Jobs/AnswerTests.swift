import ComplianceService
import Foundation
import PostgreSQL
import TestSupport
import Testing

/// Tests with random data and submissions. Each result is compared with SQL that computes the result in another way.
@Suite(.endedIfItHangs) struct AnswerTests {
  struct Strategy: Sendable, CustomTestStringConvertible {
    let profile: WireProfile
    var vocabulary = ResultVocabulary.overview
    let lookUpsMax: Int
    let idsInMemoryMax: Int

    var testDescription: String {
      "\(profile.rawValue), \(vocabulary.rawValue), look-ups up to \(lookUpsMax), \(idsInMemoryMax) IDs in memory"
    }
  }

  @Test(arguments: [
    Strategy(profile: .native, lookUpsMax: 50_000, idsInMemoryMax: 1000),
    Strategy(profile: .native, lookUpsMax: 0, idsInMemoryMax: 1000),
    Strategy(profile: .native, vocabulary: .guide, lookUpsMax: 0, idsInMemoryMax: 7),
    Strategy(profile: .gcs, vocabulary: .guide, lookUpsMax: 50_000, idsInMemoryMax: 1000),
    Strategy(profile: .gcs, lookUpsMax: 0, idsInMemoryMax: 7),
  ])
  func resultsMatchTheState(_ strategy: Strategy) async throws {
    let seed = SeededGenerator.seedOfTest()
    var random = SeededGenerator(seed: seed)
    try await LocalService.run {
      $0.profile = strategy.profile
      $0.vocabulary = strategy.vocabulary
      $0.lookUpsMax = strategy.lookUpsMax
      $0.idsInMemoryMax = strategy.idsInMemoryMax
      $0.rateLimit = nil
    } _: { service in
      for round in 0..<12 {
        // Small IDs, or IDs from the full 63-bit range.
        let step = Bool.random(using: &random) ? 1 : 70_000_000_000_000_003
        try await service.execute(Self.platformState(step, &random))
        for type in ["tweets", "users"] {
          let text = Self.submission(strategy.profile, step, &random)
          let result = try await service.resultLines(type, text)
          let expected = try await Self.expected(type, strategy, text, service)
          #expect(
            Self.inOrder(result, strategy.profile) == Self.inOrder(expected, strategy.profile),
            "seed \(seed), round \(round), \(type): \(text.debugDescription)")
          if strategy.profile == .native {
            #expect(!result.contains(""))
          } else {
            #expect(result.contains("") == (expected.count > 1))
          }
        }
      }
    }
  }

  /// IDs from the full 63-bit range. The submission and the result are both larger than one block of a stream.
  @Test(arguments: [
    Strategy(profile: .native, lookUpsMax: 50_000, idsInMemoryMax: 100_000),
    Strategy(profile: .native, lookUpsMax: 0, idsInMemoryMax: 100_000),
    Strategy(profile: .native, lookUpsMax: 0, idsInMemoryMax: 20_000),
    Strategy(profile: .gcs, lookUpsMax: 0, idsInMemoryMax: 20_000),
  ])
  func largeResultsMatchTheState(_ strategy: Strategy) async throws {
    let seed = SeededGenerator.seedOfTest()
    var random = SeededGenerator(seed: seed)
    try await LocalService.run {
      $0.profile = strategy.profile
      $0.lookUpsMax = strategy.lookUpsMax
      $0.idsInMemoryMax = strategy.idsInMemoryMax
    } _: { service in
      try await service.execute(Self.largePlatform(&random))
      for type in ["tweets", "users"] {
        let stored = try await service.database.withConnection {
          try await $0.query(
            type == "tweets"
              ? "SELECT post_id FROM platform.posts" : "SELECT account_id FROM platform.accounts"
          ).rows(as: Int64.self)
        }
        // Half of the stored IDs, some of them twice, and as many unknown IDs.
        var ids = stored.filter { _ in Bool.random(using: &random) }
        ids += ids.prefix(1000) + ids.map { _ in Int64.random(in: 0...Int64.max, using: &random) }
        if Bool.random(using: &random) { ids.sort() } else { ids.shuffle(using: &random) }
        let text = ids.map { "\($0)\n" }.joined()
        let result = try await service.resultLines(type, text)
        let expected = try await Self.expected(type, strategy, text, service)
        #expect(expected.count > 500, "seed \(seed)")
        #expect(
          Self.inOrder(result, strategy.profile) == Self.inOrder(expected, strategy.profile),
          "seed \(seed), \(type)")
        if strategy.profile == .gcs {
          // The lines are in random order, so about half of the IDs are larger than the previous ID.
          let ids = result.compactMap { $0.firstMatch(of: /"id":"(\d+)"/).flatMap { Int64($0.1) } }
          let increases = zip(ids, ids.dropFirst()).count(where: { $0.0 < $0.1 })
          #expect((ids.count / 3...ids.count * 2 / 3).contains(increases), "seed \(seed), \(type)")
        }
      }
    }
  }

  /// The lines of the gcs profile have no order, so they are sorted.
  private static func inOrder(_ lines: [String], _ profile: WireProfile) -> [String] {
    let lines = lines.filter { !$0.isEmpty }
    return profile == .gcs ? lines.sorted() : lines
  }

  @Test func anAccountThatIsActiveAgainHasNoResultLine() async throws {
    try await LocalService.run { service in
      try await service.execute(
        """
        INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
        VALUES (1, 'a', '2015-01-01', 'protected', now()), (2, 'b', '2015-01-01', 'suspended', now());
        INSERT INTO platform.posts (post_id, author_id, created_at)
        VALUES (10, 1, '2016-01-01'), (20, 2, '2016-01-01')
        """)
      #expect(try await service.lines("users", "1\n2\n").count == 2)
      #expect(try await service.lines("tweets", "10\n20\n").count == 2)
      try await service.execute(
        "UPDATE platform.accounts SET state = 'active', state_changed_at = now()")
      #expect(try await service.lines("users", "1\n2\n") == [])
      #expect(try await service.lines("tweets", "10\n20\n") == [])
    }
  }

  @Test func aGCSJobFailsOnAnInvalidLine() async throws {
    try await LocalService.run({ $0.profile = .gcs }) { service in
      for (text, line) in [("1\n2\nx\n4\n", 3), ("1\n\n2\n", 2), ("1\r\n", 1), ("1\n-2", 2)] {
        let job = try await service.uploaded("tweets", text)
        #expect(job.status == "failed")
        #expect(job.error?.hasPrefix("Line \(line) of the submission") == true, "\(job)")
      }
    }
  }

  // MARK: Random data

  /// - Parameter step: the distance between two IDs.
  private static func platformState(_ step: Int, _ random: inout SeededGenerator) -> String {
    let states = ["active", "active", "protected", "suspended", "deactivated", "deleted"]
    var accounts: [String] = []
    for id in 1...12 {
      let state = states.randomElement(using: &random) ?? ""
      // Some active accounts had another state before.
      let changed = state == "active" && Bool.random(using: &random) ? "NULL" : time(&random)
      accounts.append("(\(id * step), 'u\(id)', \(time(&random)), '\(state)', \(changed))")
    }
    var posts: [String] = []
    for id in Set((0..<60).map { _ in Int.random(in: 1...120, using: &random) }) {
      let happened = (0..<4).map { _ in
        Int.random(in: 0..<4, using: &random) == 0 ? time(&random) : "NULL"
      }
      posts.append(
        "(\(id * step), \(Int.random(in: 1...12, using: &random) * step), \(time(&random)), "
          + happened.joined(separator: ", ") + ")")
    }
    return """
      TRUNCATE platform.posts, platform.accounts;
      INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
      VALUES \(accounts.joined(separator: ", "));
      INSERT INTO platform.posts
        (post_id, author_id, created_at, deleted_at, bounced_at, edited_at, geo_removed_at)
      VALUES \(posts.joined(separator: ", "))
      """
  }

  /// 8,000 accounts and 60,000 posts.
  private static func largePlatform(_ random: inout SeededGenerator) -> String {
    let seed = Double.random(in: -1...1, using: &random)
    let id = "floor(random() * 9e18)::bigint + 1"
    let time = "to_timestamp(1.3e9 + floor(random() * 4e11) / 1000)"
    func maybe(_ probability: Double) -> String {
      "CASE WHEN random() < \(probability) THEN \(time) END"
    }
    return """
      SELECT setseed(\(seed));
      INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
      SELECT DISTINCT ON (1) \(id), 'u' || n, \(time),
        (ARRAY['active', 'active', 'active', 'protected', 'suspended', 'deactivated', 'deleted'])
          [1 + floor(random() * 7)::int]::platform.account_state, \(time)
      FROM generate_series(1, 8000) AS n;
      INSERT INTO platform.posts
        (post_id, author_id, created_at, deleted_at, bounced_at, edited_at, geo_removed_at)
      SELECT DISTINCT ON (1) \(id), author, \(time), \(maybe(0.05)), \(maybe(0.02)), \(maybe(0.1)),
        \(maybe(0.1))
      FROM (SELECT account_id AS author FROM platform.accounts, generate_series(1, 8)
            ORDER BY random() LIMIT 60000) AS authors;
      """
  }

  /// A random time from 1971 to 2070, with milliseconds.
  private static func time(_ random: inout SeededGenerator) -> String {
    "to_timestamp(\(Int.random(in: 31_536_000_000...3_155_760_000_000, using: &random)) / 1000.0)"
  }

  private static func submission(
    _ profile: WireProfile, _ step: Int, _ random: inout SeededGenerator
  ) -> String {
    var ids = (0..<Int.random(in: 0...90, using: &random)).map { _ in
      String(Int.random(in: 1...130, using: &random) * step)
    }
    if Bool.random(using: &random) { ids.sort { Int($0)! < Int($1)! } }
    if profile == .native {
      let junk = [
        "", "x", "12x", "-5", "007", #"a"b\c"#, "9223372036854775807", "9223372036854775808",
        "99999999999999999999", " 3", "é",
      ]
      for _ in 0..<Int.random(in: 0...4, using: &random) {
        ids.insert(
          junk.randomElement(using: &random) ?? "",
          at: Int.random(in: 0...ids.count, using: &random))
      }
    }
    // A single line feed would be an empty line, and a gcs job fails on an empty line.
    let mayEndWithLineFeed = profile == .native || !ids.isEmpty
    let lineEnd = mayEndWithLineFeed && Bool.random(using: &random) ? "\n" : ""
    return ids.joined(separator: "\n") + lineEnd
  }

  // MARK: The independent computation

  private static func expected(
    _ type: String, _ strategy: Strategy, _ text: String, _ service: LocalService
  ) async throws -> [String] {
    let (profile, isGuide) = (strategy.profile, strategy.vocabulary == .guide)
    let bounced = isGuide ? "deleted" : "bounced"
    let geo =
      isGuide
      ? "'scrub_geo', 'geo_scrubbed'"
      : profile == .native ? "'scrub_geo', 'scrub_geo'" : "'delete', 'scrub_geo'"
    let milliseconds = #"'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'"#
    let offset = #"'YYYY-MM-DD"T"HH24:MI:SS"+00:00"'"#
    let created =
      "to_char(created_at AT TIME ZONE 'UTC', \(profile == .gcs && type == "users" ? offset : milliseconds))"
    let since = "to_char(since AT TIME ZONE 'UTC', \(milliseconds))"
    let redacted =
      profile == .native
      ? #"'","redacted_at":"' || \#(since)"#
      : """
      CASE WHEN rank IN (2, 5) OR reason = 'suspended' THEN ''
           ELSE '","redacted_at":"' || to_char(since AT TIME ZONE 'UTC', \(offset)) END
      """
    let events =
      type == "users"
      ? "SELECT account_id AS id, 1 AS rank, 'delete' AS action, state::text AS reason, created_at, state_changed_at AS since FROM platform.accounts WHERE state <> 'active'"
      : """
      SELECT post_id AS id, 1 AS rank, 'delete' AS action, 'deleted' AS reason, created_at, deleted_at AS since
      FROM platform.posts WHERE deleted_at IS NOT NULL
      UNION ALL SELECT post_id, 2, 'delete', '\(bounced)', created_at, bounced_at
      FROM platform.posts WHERE bounced_at IS NOT NULL
      UNION ALL SELECT post_id, 3, 'delete', state::text, p.created_at, state_changed_at
      FROM platform.posts p JOIN platform.accounts ON account_id = author_id WHERE state <> 'active'
      UNION ALL SELECT post_id, 4, 'rehydrate', 'tweet_edited', created_at, edited_at
      FROM platform.posts WHERE edited_at IS NOT NULL AND \(isGuide || profile == .native)
      UNION ALL SELECT post_id, 5, \(geo), created_at, geo_removed_at
      FROM platform.posts WHERE geo_removed_at IS NOT NULL
      """
    return try await service.database.withConnection { connection in
      try await connection.query(
        """
        WITH line AS (
          SELECT * FROM regexp_split_to_table(\(text), E'\\n') WITH ORDINALITY AS t (text, number)
        ), whole AS (
          SELECT * FROM line WHERE text <> '' OR number < (SELECT max(number) FROM line)
        ), parsed AS (
          SELECT text, number,
                 CASE WHEN text ~ '^[0-9]{1,19}$' THEN text::numeric <= 9223372036854775807 ELSE false END AS is_id
          FROM whole
        ), event AS (\(trusted: events))
        SELECT result_line FROM (
          SELECT 0 AS part, number::numeric AS sort_key,
                 '{"id":' || to_json(text) || ',"error":"invalid_id"}' AS result_line
          FROM parsed WHERE NOT is_id
          UNION ALL
          SELECT 1, id, '{"id":"' || id || '","action":"' || action || '","reason":"' || reason
                 || '","created_at":"' || \(trusted: created) || \(trusted: redacted) || '"}'
          FROM event WHERE id IN (SELECT text::numeric FROM parsed WHERE is_id)
            AND NOT EXISTS (SELECT FROM event AS other WHERE other.id = event.id AND other.rank < event.rank)
        ) AS result_lines ORDER BY part, sort_key
        """
      ).rows(as: String.self)
    }
  }
}
