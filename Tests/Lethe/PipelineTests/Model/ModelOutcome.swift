import PostgreSQL

/// Compares the warehouse and the ledger after a case with the model.
struct ModelOutcome {
  let connection: Connection
  /// The case's first ID.
  let base: Int64

  /// - Returns: the differences from the model.
  func differences(_ model: WarehouseModel) async throws -> [String] {
    var differences: [String] = []
    for (table, id, columns) in Self.tables {
      differences += try await compare(
        table, Self.rows(of: table, id, columns),
        (model.rows[table] ?? [:]).map { key, row in
          let values = columns.map { row.columns[$0] ?? "absent" }
          return "\(key) \(values.joined(separator: " | "))"
        })
    }
    differences += try await compare(
      "tombstone", ModelDriver.tombstones,
      model.tombstones.map { "\($0.type) \($0.id) \($1)" },
      leavingOut: { Self.isAbout(model.refused, word: 1, of: $0) })
    differences += try await compare(
      "rehydration", ModelDriver.rehydrations, model.rehydrations.map { "\($0)" })
    differences += try await compare(
      "record", ModelDriver.records, model.records.map(\.description),
      leavingOut: { text in
        // A superseded clean answer has no effect, so its record is not compared.
        Self.isAbout(model.refused, word: 2, of: text)
          || text.contains(" clean ") && text.hasSuffix(" superseded")
      })
    guard ModelKind.holds.isUsed else { return differences }
    // If another writer deleted a row, the row's hold can remain for some time. So these holds are not compared.
    let isGone: (String) -> Bool = { text in
      let words = text.split(separator: " ")
      let table = words[0] == "warehouse.post_media" ? "media" : words[0].dropFirst(10)
      return model.rows[String(table)]?[String(words[1])] == nil
    }
    differences += try await compare(
      "hold", ModelDriver.holds,
      model.holds.flatMap { key, hold in
        hold.former.map { column, former in
          "\(ModelPlan.table(key.table)) \(key.key) \(column) \(former) \(hold.setTo[column] ?? "")"
        }
      }, leavingOut: isGone)
    differences += try await compare(
      "holder", ModelDriver.holders,
      model.holds.flatMap { key, hold in
        hold.holders.flatMap { id, columns in
          columns.map { "\(ModelPlan.table(key.table)) \(key.key) \(id.type) \(id.id) \($0)" }
        }
      }, leavingOut: isGone)
    return differences
  }

  /// Whether a text is about an ID of the set, or about a change made by an event of such an ID.
  /// - Parameter word: the index of the text's word that is the ID. The word before it is the type.
  private static func isAbout(
    _ ids: Set<WarehouseModel.ID>, word: Int, of text: String
  ) -> Bool {
    let words = text.split(separator: " ").map(String.init)
    func contains(_ type: String, _ id: String) -> Bool {
      Int64(id).map { ids.contains(.init(type: type, id: $0)) } ?? false
    }
    if contains(words[word - 1], words[word]) { return true }
    guard let cause = words.firstIndex(of: "cause") else { return false }
    return contains("tweets", words[cause + 1]) || contains("users", words[cause + 1])
  }

  // MARK: The warehouse

  private static let tables: [(table: String, id: String, columns: [String])] = [
    ("users", "user_id", ["display_name", "visibility"]),
    (
      "posts", "post_id",
      [
        "author_id", "text", "latitude", "place_id", "visibility", "searchable", "stale", "raw",
      ]
    ),
    ("reposts", "repost_id", ["reposted_post_id", "author_id", "text", "visibility"]),
    ("media", "post_id", ["post_id", "media_key"]),
  ]

  private static func rows(of table: String, _ id: String, _ columns: [String]) -> String {
    let values = columns.map { column in
      column == "raw"
        ? """
        coalesce((SELECT coalesce(string_agg(k, ',' ORDER BY k), '')
                  FROM jsonb_object_keys(t.raw) AS k WHERE t.raw IS NOT NULL), '-')
        """ : "coalesce(t.\(column)::text, '-')"
    }
    let key = table == "media" ? "post_id || '/' || media_key" : "\(id)::text"
    return """
      SELECT \(id), \(key) || ' ' || \(values.joined(separator: " || ' | ' || "))
      FROM \(ModelPlan.table(table)) AS t
      """
  }

  private func compare(
    _ what: String, _ query: String, _ expected: [String],
    leavingOut isLeftOut: (String) -> Bool = { _ in false }
  ) async throws -> [String] {
    let found: [String] = try await connection.query(
      """
      SELECT row FROM (\(trusted: query)) AS q (id, row) WHERE id BETWEEN \(base) AND \(base + 999)
      """
    ).rows(as: String.self)
    let (left, right) = (found.filter { !isLeftOut($0) }, expected.filter { !isLeftOut($0) })
    return right.sorted().difference(from: left.sorted()).map { change in
      switch change {
      case .insert(_, let row, _): "\(what) missing: \(row)"
      case .remove(_, let row, _): "\(what) unexpected: \(row)"
      }
    }
  }
}
