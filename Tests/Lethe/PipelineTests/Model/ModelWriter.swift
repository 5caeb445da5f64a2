import PostgreSQL
import TestSupport

/// A writer other than Lethe. It writes to the warehouse and to the model.
struct ModelWriter {
  let connection: Connection
  /// The case's first ID.
  let base: Int64

  private static let open = ["public", "internal", "friends", ModelPlan.null]

  private func id(_ range: ClosedRange<Int64>, _ random: inout SeededGenerator) -> Int64 {
    base + Int64.random(in: range, using: &random)
  }

  func write(_ model: inout WarehouseModel, _ random: inout SeededGenerator) async throws {
    model.clock += 1
    switch Int.random(in: 0..<12, using: &random) {
    case 0...3: try await insertPost(&model, &random)
    case 4: try await insertUser(&model, &random)
    case 5: try await insertMedium(&model, &random)
    case 6...7: try await insertRepost(&model, &random)
    case 8...9: try await changeVisibility(&model, &random)
    case 10: try await changeAnotherColumn(&model, &random)
    default:
      if random.happens(0.5) {
        try await delete(&model, &random)
      } else {
        try await rehydrate(&model, &random)
      }
    }
  }

  // MARK: New rows

  /// The visibility of a new row. Nil if the row must not be created. If a hidden row was deleted, the new row is not
  /// hidden, so that the new row differs from the hidden row.
  private func visibility(
    of key: WarehouseModel.RowKey, _ model: WarehouseModel, _ random: inout SeededGenerator
  ) -> String? {
    guard model.rows[key.table]?[key.key] == nil else { return nil }
    guard let hold = model.holds[key] else { return random.one(of: Self.open + ["protected"]) }
    return hold.setTo.count == 1 ? random.one(of: Self.open) : nil
  }

  private func insertPost(
    _ model: inout WarehouseModel, _ random: inout SeededGenerator
  ) async throws {
    let (post, author) = (id(100...111, &random), id(1...5, &random))
    guard
      let visibility = visibility(of: .init(table: "posts", key: "\(post)"), model, &random)
    else { return }
    try await connection.execute(
      """
      INSERT INTO warehouse.posts
        (post_id, author_id, text, latitude, place_id, visibility, created_at, raw)
      VALUES (\(literal: post), \(literal: author), 'text', 1.5, 'p', nullif(\(visibility), '-'),
        now(), '{"geo": {"x": 1}, "lang": "en"}')
      """)
    model.put(
      "posts", "\(post)",
      [
        "post_id": "\(post)", "author_id": "\(author)", "text": "text", "latitude": "1.5",
        "place_id": "p", "visibility": visibility, "searchable": "true", "stale": "false",
        "raw": "geo,lang",
      ])
  }

  private func insertUser(
    _ model: inout WarehouseModel, _ random: inout SeededGenerator
  ) async throws {
    let user = id(1...5, &random)
    guard
      let visibility = visibility(of: .init(table: "users", key: "\(user)"), model, &random)
    else { return }
    try await connection.execute(
      """
      INSERT INTO warehouse.users (user_id, username, display_name, visibility, created_at)
      VALUES (\(literal: user), 'u', 'name', nullif(\(visibility), '-'), now())
      """)
    model.put(
      "users", "\(user)",
      ["user_id": "\(user)", "display_name": "name", "visibility": visibility])
  }

  private func insertMedium(
    _ model: inout WarehouseModel, _ random: inout SeededGenerator
  ) async throws {
    let post = id(100...111, &random)
    guard model.rows["posts"]?["\(post)"] != nil else { return }
    let key = "\(model.clock)"
    try await connection.execute(
      "INSERT INTO warehouse.post_media VALUES (\(literal: post), \(trusted: key), 'u')")
    model.put("media", "\(post)/\(key)", ["post_id": "\(post)", "media_key": key])
  }

  private func insertRepost(
    _ model: inout WarehouseModel, _ random: inout SeededGenerator
  ) async throws {
    let repost = id(500...507, &random)
    guard
      let visibility = visibility(of: .init(table: "reposts", key: "\(repost)"), model, &random)
    else { return }
    let (post, author) = (id(100...111, &random), id(1...5, &random))
    try await connection.execute(
      """
      INSERT INTO warehouse.reposts VALUES (\(literal: repost), \(literal: post), \(literal: author),
      'copy', now(), nullif(\(visibility), '-'))
      """
    )
    model.put(
      "reposts", "\(repost)",
      [
        "repost_id": "\(repost)", "reposted_post_id": "\(post)", "author_id": "\(author)",
        "text": "copy", "visibility": visibility,
      ])
  }

  // MARK: Changes

  /// An existing row that may be written, and the name of its ID column.
  private func row(
    _ model: WarehouseModel, _ random: inout SeededGenerator
  ) -> (table: String, id: String, key: Int64)? {
    let (table, id) = random.one(of: [
      ("posts", "post_id"), ("posts", "post_id"), ("users", "user_id"), ("reposts", "repost_id"),
    ])
    guard let key = (model.rows[table] ?? [:]).keys.sorted().randomElement(using: &random),
      !model.unwritable.contains(key), let number = Int64(key)
    else { return nil }
    return (table, id, number)
  }

  /// Changes the visibility of a row. A held row gets a value that does not hide it. A row with another held column
  /// is not changed.
  private func changeVisibility(
    _ model: inout WarehouseModel, _ random: inout SeededGenerator
  ) async throws {
    guard let (table, id, key) = row(model, &random) else { return }
    let hold = model.holds[.init(table: table, key: "\(key)")]
    if let hold, Array(hold.setTo.keys) != ["visibility"] { return }
    let visibility = random.one(of: hold == nil ? Self.open + ["protected"] : Self.open)
    try await connection.execute(
      """
      UPDATE warehouse.\(trusted: table) SET visibility = nullif(\(visibility), '-')
      WHERE \(trusted: id) = \(literal: key)
      """
    )
    model.put(table, "\(key)", ["visibility": visibility])
  }

  private func changeAnotherColumn(
    _ model: inout WarehouseModel, _ random: inout SeededGenerator
  ) async throws {
    guard let (table, id, key) = row(model, &random) else { return }
    try await connection.execute(
      """
      UPDATE warehouse.\(trusted: table) SET likes = likes + 1 WHERE \(trusted: id) = \(literal: key)
      """
    )
    model.put(table, "\(key)", [:])
  }

  private func delete(
    _ model: inout WarehouseModel, _ random: inout SeededGenerator
  ) async throws {
    guard let (table, id, key) = row(model, &random) else { return }
    let hold = model.holds[.init(table: table, key: "\(key)")]
    let hasMedia = model.rows["media"]?.values.contains { $0.columns["post_id"] == "\(key)" }
    guard hold?.setTo.count ?? 1 == 1, table != "posts" || hasMedia != true else { return }
    try await connection.execute(
      "DELETE FROM warehouse.\(trusted: table) WHERE \(trusted: id) = \(literal: key)")
    model.rows[table]?["\(key)"] = nil
  }

  private func rehydrate(
    _ model: inout WarehouseModel, _ random: inout SeededGenerator
  ) async throws {
    guard let post = model.rehydrations.sorted().randomElement(using: &random),
      !model.unwritable.contains("\(post)")
    else { return }
    try await connection.execute("DELETE FROM lethe.rehydration WHERE id = \(literal: post)")
    model.rehydrations.remove(post)
    let isThere = model.rows["posts"]?["\(post)"] != nil
    try await connection.execute(
      "UPDATE warehouse.posts SET stale = false WHERE post_id = \(literal: post)")
    if isThere { model.put("posts", "\(post)", ["stale": "false"]) }
  }
}
