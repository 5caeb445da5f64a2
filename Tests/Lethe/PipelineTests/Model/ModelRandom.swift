import Foundation
import TestSupport

/// The difficulties of a case. Each kind can be left out, to test the others alone.
enum ModelKind: String, CaseIterable {
  case protections, holds, former, kept, columns, unreadable, partly, refusals, edits, giving_up,
    late

  /// All kinds except those in `LETHE_MODEL_WITHOUT`, which is a list separated by commas.
  static let used: Set<ModelKind> = {
    let without = ProcessInfo.processInfo.environment["LETHE_MODEL_WITHOUT"] ?? ""
    return Set(allCases).subtracting(
      without.split(separator: ",").compactMap { .init(rawValue: "\($0)") })
  }()

  var isUsed: Bool { Self.used.contains(self) }
}

extension SeededGenerator {
  mutating func one<Value>(of values: [Value]) -> Value { values.randomElement(using: &self)! }

  mutating func happens(_ share: Double) -> Bool { Double.random(in: 0..<1, using: &self) < share }

  mutating func happens(_ share: Double, _ kind: ModelKind) -> Bool {
    happens(share) && kind.isUsed
  }
}

// MARK: Plans

extension ModelPlan {
  /// - Parameter base: the case's first ID.
  static func random(base: Int64, isAtomic: Bool, _ random: inout SeededGenerator) -> ModelPlan {
    let restore: Restore = ModelKind.former.isUsed && random.happens(0.5) ? .former : .values
    let posts = posts(base, restore, &random)
    let users = users(base, restore, &random)
    let reposts = Dataset(
      name: "reposts", type: "tweets", table: "reposts", id: "repost_id",
      ids: base + 500...base + 999,
      actions: actions(
        [
          "deleted": .delete, "protected": .protect(["visibility": "protected"], restore),
          "tweet_edited": .ignore, "geo_scrubbed": .ignore, "bounced": .ignore,
        ], text: "text", &random))
    return ModelPlan(
      datasets: [posts, users, reposts].shuffled(using: &random), isAtomic: isAtomic)
  }

  /// Adds the actions for the reasons `suspended` and `deactivated`.
  private static func actions(
    _ actions: [String: Action], text: String, _ random: inout SeededGenerator
  ) -> [String: Action] {
    var all = actions
    for reason in ["suspended", "deactivated"] where all[reason] == nil {
      all[reason] =
        random.happens(0.5, .kept) ? .redact([text: .to(text == "text" ? "" : null)]) : .ignore
    }
    return all
  }

  private static func posts(
    _ base: Int64, _ restore: Restore, _ random: inout SeededGenerator
  ) -> Dataset {
    var sets: [[String: Value]] = [["visibility": "protected"], ["visibility": "hidden"]]
    if ModelKind.columns.isUsed {
      sets += [
        ["visibility": "protected", "text": ""], ["visibility": "protected", "raw": ""],
        ["visibility": "protected", "latitude": null], ["searchable": "false"],
      ]
    }
    var actions = actions(
      [
        "protected": .protect(random.one(of: sets), restore),
        "deleted": random.happens(0.7) ? .delete : .redact(["text": .to("")]),
        "bounced": random.happens(0.5) ? .redact(["text": .to("gone")]) : .ignore,
        "geo_scrubbed": .scrub(["latitude": .to(null), "place_id": .to("gone"), "raw": .cut("geo")]
        ),
        "tweet_edited": .rehydrate(["stale": "true"]),
      ], text: "text", &random)
    if random.happens(0.3) { actions["suspended"] = .delete }
    // A post's media are deleted with the post. Otherwise their foreign key would prevent the deletion.
    let deletions = actions.filter { $0.value == .delete }
    var reached: [String: Action] = ["deleted": random.happens(0.5) ? .delete : .ignore]
    reached["protected"] =
      random.happens(0.8) ? .protect(["visibility": "protected"], restore) : .ignore
    reached["suspended"] = random.happens(0.5) ? .redact(["text": .to("")]) : .ignore
    return Dataset(
      name: "posts", type: "tweets", table: "posts", id: "post_id", ids: base...base + 499,
      actions: actions,
      targets: [
        Target(table: "media", match: "post_id", id: nil, actions: deletions),
        Target(table: "reposts", match: "reposted_post_id", id: "repost_id", actions: reached),
      ])
  }

  private static func users(
    _ base: Int64, _ restore: Restore, _ random: inout SeededGenerator
  ) -> Dataset {
    var sets: [[String: Value]] = [["visibility": "protected"], ["visibility": "protected"]]
    if ModelKind.columns.isUsed {
      sets += [
        ["visibility": "protected", "searchable": "false"], ["searchable": "false"],
        ["visibility": "protected", "latitude": null, "raw": ""],
      ]
    }
    let actions = actions(
      [
        "deleted": random.happens(0.7) ? .delete : .ignore,
        "protected": .protect(["visibility": "protected"], restore),
      ], text: "display_name", &random)
    let deletesPosts = random.happens(0.7)
    return Dataset(
      name: "users", type: "users", table: "users", id: "user_id", ids: base...base + 499,
      actions: actions,
      targets: [
        Target(
          table: "posts", match: "author_id", id: "post_id",
          actions: [
            "deleted": deletesPosts ? .delete : .ignore,
            "suspended": random.happens(0.5) ? .redact(["text": .to("")]) : .ignore,
            "protected": .protect(random.one(of: sets), restore),
          ],
          targets: [
            Target(
              table: "media", match: "post_id", id: nil,
              actions: ["deleted": deletesPosts ? .delete : .ignore])
          ]),
        Target(
          table: "reposts", match: "author_id", id: "repost_id",
          actions: ["protected": .protect(["visibility": "protected"], restore)]),
      ])
  }

  /// A change that an operator makes to a definition between two runs.
  /// - Parameter isQuiet: whether no chunk is in progress, so that datasets may change their names.
  mutating func edit(isQuiet: Bool, _ random: inout SeededGenerator) {
    switch Int.random(in: 0..<4, using: &random) {
    case 0:
      let value = random.one(of: ["protected", "hidden"])
      changeProtections { table, set, restore in
        var set = set
        if table == "posts", set["visibility"] != nil { set["visibility"] = value }
        return (set, restore)
      }
    case 1 where ModelKind.former.isUsed:
      let restore = random.one(of: [Restore.former, .values])
      changeProtections { _, set, _ in (set, restore) }
    case 2 where isQuiet:
      for index in datasets.indices where random.happens(0.5) {
        datasets[index].name = "\(datasets[index].table)_\(Int.random(in: 0..<3, using: &random))"
      }
    case 3:
      // Some targets of the users' dataset are removed.
      for index in datasets.indices where datasets[index].type == "users" {
        datasets[index].targets.removeAll { $0.table == random.one(of: ["posts", "reposts"]) }
      }
    default: break
    }
  }
}

// MARK: Results

extension ModelChunk.Line {
  private static let reasons = [
    "tweets": [
      "deleted", "bounced", "suspended", "deactivated", "protected", "geo_scrubbed", "tweet_edited",
    ],
    "users": ["deleted", "suspended", "deactivated", "protected"],
  ]

  /// The lines of a chunk's result, both valid lines and lines that the API should never send.
  static func random(
    _ type: String, _ ids: Set<Int64>, foreign: Int64, _ random: inout SeededGenerator
  ) -> [Self] {
    if random.happens(0.05, .unreadable) {
      return random.one(of: [
        [.garbage], [.garbage, .blank, .garbage], [.unattributable], [.invalid("not_a_valid_id")],
        [.event(foreign, .init(reason: "deleted"))], [.unknown(foreign), .garbage],
      ])
    }
    func event(_ id: Int64) -> Self {
      // Several runs can affect the same protection, so protections are more frequent.
      var reason = random.happens(0.4) ? "protected" : random.one(of: reasons[type] ?? [])
      if !ModelKind.protections.isUsed && reason == "protected" { reason = "deactivated" }
      return .event(
        id,
        .init(
          reason: reason,
          redactedAt: random.happens(0.5) ? Int.random(in: 0..<3, using: &random) : nil)
      )
    }
    var lines: [Self] = random.happens(0.1) ? [.blank] : []
    for id in ids.sorted() {
      if random.happens(0.06, .partly) {
        lines.append(random.happens(0.5) ? .unknown(id) : .invalid("\(id)"))
      } else if random.happens(0.5) {
        let line = event(id)
        lines.append(line)
        if random.happens(0.05) { lines.append(line) }
        if random.happens(0.05, .partly) { lines.append(event(id)) }
      }
    }
    if random.happens(0.1, .partly) {
      lines.append(
        random.one(of: [
          .unattributable, .garbage, .invalid("not_a_valid_id"), .unknown(foreign),
          .event(foreign, .init(reason: "deleted")),
        ]))
    }
    return lines.shuffled(using: &random)
  }
}
