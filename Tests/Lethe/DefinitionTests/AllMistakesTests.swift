import DefinitionFiles
import Definitions
import TestFiles
import Testing

/// All mistakes of a definition are reported together. Consequences of a mistake are not reported.
@Suite struct AllMistakesTests {
  /// A mistake that can be made in the good definition together with any other mistake.
  struct Slip: Sendable, CustomTestStringConvertible {
    let part: String
    let other: String
    /// The line in the good definition. No slip removes or adds a line.
    let line: Int
    let message: String

    var testDescription: String { message }

    init(_ part: String, _ other: String, _ line: Int, _ message: String) {
      (self.part, self.other, self.line, self.message) = (part, other, line, message)
    }
  }

  static let slips: [Slip] = [
    Slip("name: nightly", "name: Nightly Run", 1, "the pipeline's name is not valid"),
    Slip(
      "warehouse: ${DATABASE_URL}", "warehouse: ${NOT_SET}${NOR_THIS}", 2,
      "the environment variable NOT_SET is not set"),
    Slip(
      "warehouse: ${NOT_SET}${NOR_THIS}", "warehouse: ${NOT_SET}${NOR_THIS}", 2,
      "the environment variable NOR_THIS is not set"),
    Slip("https://api.x.com", "http://api.x.com", 4, "api.base_url would send the token"),
    Slip("bearer_token: ${X_BEARER_TOKEN}", "bearer_tokn: x", 5, "unknown key api.bearer_tokn"),
    Slip("limits:", "limit:", 6, "unknown key limit"),
    Slip("type: users\n", "type: [users]\n", 11, "datasets.users.type is not a string"),
    Slip(
      "table: warehouse.users", "tabel: warehouse.users", 12, "unknown key datasets.users.tabel"),
    Slip("id: user_id", "id: ${NO_ID}", 13, "the environment variable NO_ID is not set"),
    Slip("ids: 1000", "ids: 0", 14, "chunk.ids is not at least 1"),
    Slip("bytes: 20000", "bytes: many", 14, "datasets.users.chunk.bytes is not a whole number"),
    Slip("suspended: delete", "suspended: erase", 17, "unknown action erase"),
    Slip("deactivated: ignore", "deactivated:", 18, "actions.deactivated has no action"),
    Slip("restore: {visibility: public}", "restore: {hidden: no}", 19, "restore names the column"),
    Slip("match: author_id", "match: [author_id]", 22, "targets[0].match is not a string"),
    Slip("type: tweets", "type: posts", 24, "unknown type posts of the target"),
    Slip(
      "          deleted: delete\n", "          delted: delete\n", 26,
      "unknown reason delted in datasets.users.targets[0].actions"),
    Slip(
      "table: warehouse.post_media", "table: a.b.c", 28, "not a table's name: a.b.c"),
    Slip(
      "actions: {deleted: delete}", "actions: {deleted: rehydrate}", 30,
      "a target cannot be rehydrated"),
  ]

  private static func definition(with slips: [Slip]) -> String {
    slips.reduce(Samples.good) { $0.replacing($1.part, with: $1.other) }
  }

  private static func mistakes(_ yaml: String) throws -> [DefinitionError] {
    try #require(throws: DefinitionError.self) { try Samples.parse(yaml) }.all
  }

  @Test func allMistakesAreReportedTogether() throws {
    let found = try Self.mistakes(Self.definition(with: Self.slips))
    for slip in Self.slips {
      #expect(
        found.contains { $0.line == slip.line && $0.message.contains(slip.message) },
        "\(slip.message) is not among \(found)")
    }
    #expect(found.count == Self.slips.count, "\(found)")
    #expect(found.map { $0.line ?? 0 } == found.map { $0.line ?? 0 }.sorted())
    #expect(found.allSatisfy { $0.file == "p.yaml" && !$0.remedy.isEmpty && $0.others.isEmpty })
  }

  @Test func theErrorPrintsEachMistake() throws {
    let error = try #require(throws: DefinitionError.self) {
      try Samples.parse(Self.definition(with: Self.slips))
    }
    let lines = "\(error)".split(separator: "\n")
    #expect(lines.count { $0.hasPrefix("p.yaml:") } == Self.slips.count)
    #expect(lines.count { $0.hasPrefix("  remedy: ") } == Self.slips.count)
    #expect(!"\(error)".contains("hunter2"))
  }

  /// The consequences of a slip are not reported.
  @Test(arguments: slips.filter { $0.part != $0.other && !$0.other.contains("NOR_THIS") })
  func oneMistakeHasOneMessage(slip: Slip) throws {
    #expect(try Self.mistakes(Self.definition(with: [slip])).count == 1)
  }

  /// Every subset of the slips is reported completely: no slip hides another.
  @Test func everySubsetOfMistakesIsReported() throws {
    let seed = SeededGenerator.seedOfTest()
    var random = SeededGenerator(seed: seed)
    let slips = Self.slips.filter { $0.part != $0.other && !$0.other.contains("NOR_THIS") }
    for _ in 1...200 {
      let chosen = slips.filter { _ in Bool.random(using: &random) }
      guard !chosen.isEmpty else { continue }
      let found = try Self.mistakes(Self.definition(with: chosen))
      #expect(
        found.count == chosen.count && zip(found, chosen).allSatisfy { $0.line == $1.line },
        "seed \(seed): \(chosen.map(\.message)) and \(found)")
    }
  }

  // MARK: Missing and repeated keys

  @Test func everyMissingKeyIsReported() throws {
    let found = try Self.mistakes(
      """
      limits: {}
      datasets:
        posts: {where: a > 1}
        users:
          targets: [{id: x, type: none}, {}]
      """)
    #expect(
      found.map { "\($0.line ?? 0) \($0.message)" } == [
        "1 name is missing", "1 warehouse is missing", "1 api is missing",
        "3 datasets.posts.type is missing", "3 datasets.posts.table is missing",
        "3 datasets.posts.id is missing", "3 datasets.posts.actions is missing",
        "5 datasets.users.type is missing", "5 datasets.users.table is missing",
        "5 datasets.users.id is missing", "5 datasets.users.actions is missing",
        "5 datasets.users.targets[0].table is missing",
        "5 datasets.users.targets[0].match is missing",
        "5 datasets.users.targets[0].actions is missing",
        "5 datasets.users.targets[1].table is missing",
        "5 datasets.users.targets[1].match is missing",
        "5 datasets.users.targets[1].actions is missing",
      ])
  }

  @Test func everyReasonWithoutAnActionIsReported() throws {
    let yaml = try Samples.good(
      replacing: "      suspended: delete\n      deactivated: ignore\n", with: "")
    #expect(
      try Self.mistakes(yaml).map(\.message) == [
        "datasets.users.actions has no action for the reason suspended",
        "datasets.users.actions has no action for the reason deactivated",
      ])
  }

  /// The parser stops at the first repeated key. Nevertheless, all repeated keys and all other mistakes are reported.
  @Test func everyRepeatedKeyIsReported() throws {
    let found = try Self.mistakes(
      Samples.good
        .replacing("name: nightly\n", with: "name: nightly\n'name': x\nname: y\n")
        .replacing("  users:\n", with: "  posts: {}\n  users:\n")
        .replacing("    id: user_id\n", with: "    id: user_id\n    \"table\": y\n")
        .replacing("deactivated: ignore", with: "deactivated: {redact: {a: , \"a\": }}")
        .replacing("id: post_id\n", with: "id: post_id\n        typ: z\n"))
    #expect(
      found.filter { $0.message.contains("appears twice") }.map { "\($0.line ?? 0) \($0.message)" }
        == [
          "3 the key name appears twice: also on line 1",
          "3 the key name appears twice: also on line 2",
          "17 the key table appears twice: also on line 15",
          "22 the key a appears twice: also on line 22",
        ])
    #expect(found.contains { $0.message == "unknown key datasets.users.targets[0].typ" })
    #expect(found.contains { $0.message == "datasets.posts.type is missing" })
  }

  @Test(arguments: ["\n", "\r\n"])
  func linesAreCountedInAnyFile(end: String) throws {
    let yaml = "# é 𝕏 😀\nname: x\nwarehouse: 'é😀' # ü\nname: y\nwhat: 1\n"
    let found = try Self.mistakes(yaml.replacing("\n", with: end))
    #expect(found.contains { $0.line == 4 && $0.message.contains("name appears twice") })
    #expect(found.contains { $0.line == 5 && $0.message == "unknown key what" })
  }
}
