import Definitions
import Foundation
import PostgreSQL
import SystemPackage
import TestSupport
import Testing

/// Random warehouses, random answers over several nights, some of them collected or applied late, and
/// writers in between; each outcome held against a model in memory.
@Suite struct ModelTests {
  private static let casesPerDatabase = 500

  @Test(arguments: 0..<4)
  func everyOutcomeIsTheModels(part: Int) async throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    var dice = SeededGenerator(seed: seed)
    try await withTestDatabase(.ledger, .warehouse) { database in
      try await withTemporaryDirectory { directory in
        try await database.withConnection { connection in
          try await database.withConnection { copying in
            try await connection.runScript(
              "ALTER TABLE warehouse.posts ADD stale boolean NOT NULL DEFAULT false")
            for number in 1...Self.casesPerDatabase {
              let differences = try await ModelCase(
                number: number, connection: connection, copying: copying, directory: directory
              ).run(&dice)
              try #require(
                differences == [], "seed \(seed), case \(number) of \(Self.casesPerDatabase)")
            }
          }
        }
      }
    }
  }
}

/// One warehouse of a dozen posts, in a range of IDs of its own, through two to four nights.
private struct ModelCase {
  let number: Int
  let connection: Connection
  let copying: Connection
  let directory: FilePath

  private var base: Int64 { Int64(number) * 1000 }
  private var userIDs: ClosedRange<Int64> { base + 1...base + 5 }
  private var postIDs: ClosedRange<Int64> { base + 100...base + 111 }
  private var repostIDs: ClosedRange<Int64> { base + 500...base + 505 }

  private static let reasons = [
    "tweets": [
      "deleted", "bounced", "suspended", "deactivated", "protected", "geo_scrubbed", "tweet_edited",
    ],
    "users": ["deleted", "suspended", "deactivated", "protected"],
  ]

  /// - Returns: what is not as the model has it.
  func run(_ dice: inout SeededGenerator) async throws -> [String] {
    let batch = [
      "atomic: chunk", "batch: 1", "batch: 2\n    batch_rows: 1", "batch: 3\n    batch_rows: 2",
      "batch: 100",
    ].randomElement(using: &dice)!
    var driver = try await ModelDriver(
      ModelDriver.definition(
        name: "m\(number)", where: "BETWEEN \(base) AND \(base + 499)", batch: batch,
        chunk: Int.random(in: 2...20, using: &dice)),
      on: connection, copying: copying, directory: directory)
    var model = WarehouseModel()
    for _ in 0..<14 { try await write(&model, &dice) }
    var uncollected: [Int] = []
    var unapplied: [Int] = []
    for _ in 0..<Int.random(in: 2...4, using: &dice) {
      let first = model.chunks.count
      for exported in try await driver.export() {
        model.chunks.append(
          .init(
            type: exported.type, ids: exported.ids, range: exported.range,
            exportedAt: model.clock, askedAt: model.chunks.count + 1,
            answer: Self.answer(exported, &dice)))
      }
      for index in first..<model.chunks.count {
        try await driver.ask(index, askedAt: model.chunks[index].askedAt)
        uncollected.append(index)
      }
      for _ in 0..<Int.random(in: 0...4, using: &dice) { try await write(&model, &dice) }
      try await work(&driver, &model, &uncollected, &unapplied, share: 0.75, &dice)
    }
    try await work(&driver, &model, &uncollected, &unapplied, share: 1, &dice)
    return try await differences(model)
  }

  /// Collects and applies a share of what waits, in any order, with writers in between.
  private func work(
    _ driver: inout ModelDriver, _ model: inout WarehouseModel, _ uncollected: inout [Int],
    _ unapplied: inout [Int], share: Double, _ dice: inout SeededGenerator
  ) async throws {
    if Bool.random(using: &dice) { uncollected.shuffle(using: &dice) }
    for index in uncollected where Double.random(in: 0..<1, using: &dice) < share {
      try await driver.collect(index, model.chunks[index].answer)
      model.collect(index)
      uncollected.removeAll { $0 == index }
      unapplied.append(index)
    }
    if Bool.random(using: &dice) { unapplied.shuffle(using: &dice) }
    for index in unapplied where Double.random(in: 0..<1, using: &dice) < share {
      if Bool.random(using: &dice) { try await write(&model, &dice) }
      try await driver.apply(index)
      model.apply(index)
      unapplied.removeAll { $0 == index }
    }
  }

  private static func answer(
    _ exported: ModelDriver.Exported, _ dice: inout SeededGenerator
  ) -> [Int64: WarehouseModel.Answer] {
    var answer: [Int64: WarehouseModel.Answer] = [:]
    for id in exported.ids.sorted() where Int.random(in: 0..<2, using: &dice) == 0 {
      // Protections are what nights have in common, so they come more often.
      let reason =
        Int.random(in: 0..<3, using: &dice) == 0
        ? "protected" : reasons[exported.type]!.randomElement(using: &dice)!
      answer[id] = .init(
        reason: reason,
        redactedAt: Bool.random(using: &dice) ? Int.random(in: 0..<3, using: &dice) : nil)
    }
    return answer
  }

  // MARK: Writers beside Lethe

  private func write(_ model: inout WarehouseModel, _ dice: inout SeededGenerator) async throws {
    model.clock += 1
    let post = postIDs.randomElement(using: &dice)!
    let user = userIDs.randomElement(using: &dice)!
    let visibility = Int.random(in: 0..<4, using: &dice) == 0 ? "protected" : "public"
    switch Int.random(in: 0..<8, using: &dice) {
    case 0 where model.users[user] == nil:
      try await connection.execute(
        """
        INSERT INTO warehouse.users (user_id, username, display_name, visibility, created_at)
        VALUES ($1, 'u', 'name', $2, now())
        """, .integer(user), .text(visibility))
      model.users[user] = .init(
        displayName: "name", visibility: visibility, writtenAt: model.clock)
    case 1 where model.posts[post] != nil:
      try await connection.execute(
        "INSERT INTO warehouse.post_media VALUES ($1, $2, 'u')", .integer(post),
        .text("\(model.clock)"))
      model.media[post, default: 0] += 1
    case 2:
      let repost = repostIDs.randomElement(using: &dice)!
      guard model.reposts[repost] == nil else { return }
      try await connection.execute(
        "INSERT INTO warehouse.reposts VALUES ($1, $2, $3, 'copy', now())", .integer(repost),
        .integer(post), .integer(user))
      model.reposts[repost] = .init(original: post, text: "copy")
    case 3 where model.posts[post] != nil:
      try await connection.execute(
        "UPDATE warehouse.posts SET visibility = $2 WHERE post_id = $1", .integer(post),
        .text(visibility))
      model.posts[post]?.visibility = visibility
      model.posts[post]?.writtenAt = model.clock
    case 4 where model.users[user] != nil:
      try await connection.execute(
        "UPDATE warehouse.users SET location = 'here' WHERE user_id = $1", .integer(user))
      model.users[user]?.writtenAt = model.clock
    case 5 where model.rehydrations.contains(post):
      try await connection.execute("DELETE FROM lethe.rehydration WHERE id = $1", .integer(post))
      try await connection.execute(
        "UPDATE warehouse.posts SET stale = false WHERE post_id = $1", .integer(post))
      model.rehydrations.remove(post)
      model.posts[post]?.isStale = false
      model.posts[post]?.writtenAt = model.clock
    default:
      guard model.posts[post] == nil else { return }
      try await connection.execute(
        """
        INSERT INTO warehouse.posts
          (post_id, author_id, text, latitude, place_id, visibility, created_at, raw)
        VALUES ($1, $2, 'text', 1.5, 'p', $3, now(), '{"geo": {"x": 1}, "lang": "en"}')
        """, .integer(post), .integer(user), .text(visibility))
      model.posts[post] = .init(
        author: user, text: "text", latitude: 1.5, place: "p", visibility: visibility,
        isStale: false, keys: ["geo", "lang"], writtenAt: model.clock)
    }
  }

  // MARK: The outcome

  private func differences(_ model: WarehouseModel) async throws -> [String] {
    var differences: [String] = []
    func compare(_ what: String, _ query: String, _ expected: [String]) async throws {
      let found: [String] = try await connection.query(
        "SELECT row FROM (\(query)) AS q (id, row) WHERE id BETWEEN $1 AND $2", .integer(base),
        .integer(base + 999)
      ).rows(as: String.self)
      for row in expected.sorted().difference(from: found.sorted()) {
        switch row {
        case .insert(_, let row, _): differences.append("\(what) missing: \(row)")
        case .remove(_, let row, _): differences.append("\(what) too many: \(row)")
        }
      }
    }
    func text(_ value: Any?) -> String { value.map { "\($0)" } ?? "-" }
    try await compare(
      "post",
      """
      SELECT post_id, concat_ws(' ', post_id, author_id, text, coalesce(latitude::text, '-'),
                                place_id, visibility, stale, raw ? 'geo', raw ? 'lang')
      FROM warehouse.posts
      """,
      model.posts.map { id, post in
        let flags = [post.isStale, post.keys.contains("geo"), post.keys.contains("lang")]
          .map { $0 ? "t" : "f" }
        return "\(id) \(post.author) \(post.text) \(text(post.latitude)) \(text(post.place)) "
          + "\(post.visibility) \(flags.joined(separator: " "))"
      })
    try await compare(
      "user",
      "SELECT user_id, concat_ws(' ', user_id, coalesce(display_name, '-'), visibility) FROM warehouse.users",
      model.users.map { "\($0) \(text($1.displayName)) \($1.visibility)" })
    try await compare(
      "media",
      "SELECT post_id, post_id || ' ' || count(*) FROM warehouse.post_media GROUP BY post_id",
      model.media.map { "\($0) \($1)" })
    try await compare(
      "repost",
      "SELECT repost_id, concat_ws(' ', repost_id, reposted_post_id, text) FROM warehouse.reposts",
      model.reposts.map { "\($0) \($1.original) \($1.text)" })
    try await compare(
      "tombstone", "SELECT id, concat_ws(' ', type, id, reason) FROM lethe.tombstone",
      model.tombstones.map { "\($0.type) \($0.id) \($1)" })
    try await compare(
      "protection",
      """
      SELECT id, concat_ws(' ', CASE dataset WHEN 'posts' THEN 'tweets' ELSE 'users' END, id,
                                extract(epoch FROM asked_at - timestamptz '2000-01-01Z')::bigint)
      FROM lethe.protection
      """, model.protections.map { "\($0.type) \($0.id) \($1)" })
    try await compare(
      "rehydration", "SELECT id, id::text FROM lethe.rehydration",
      model.rehydrations.map { "\($0)" })
    try await compare(
      "record",
      """
      SELECT id, action || ' ' || type || ' ' || id || ' ' || reason || ' cause '
                 || coalesce(cause_id, 0)
                 || CASE WHEN superseded_by IS NULL THEN '' ELSE ' superseded' END
      FROM lethe.event
      """, model.records.map(\.description))
    return differences
  }
}
