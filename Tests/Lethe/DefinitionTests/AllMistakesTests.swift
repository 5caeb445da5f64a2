import DefinitionFiles
import Definitions
import TestFiles
import Testing

/// All mistakes of a definition are reported together. Consequences of a mistake are not reported.
@Suite struct AllMistakesTests {
  /// A mistake that can be made in the good definition together with any other mistake.
  struct Mistake: Sendable, CustomTestStringConvertible {
    let part: String
    let other: String
    /// The line in the good definition. No mistake removes or adds a line.
    let line: Int
    let message: String

    var testDescription: String { message }

    init(_ part: String, _ other: String, _ line: Int, _ message: String) {
      (self.part, self.other, self.line, self.message) = (part, other, line, message)
    }
  }

  static let mistakes: [Mistake] = [
    Mistake("name: nightly", "name: Nightly Run", 1, "the pipeline's name is not valid"),
    Mistake(
      "warehouse: ${DATABASE_URL}", "warehouse: ${NOT_SET}${NOR_THIS}", 2,
      "the environment variable NOT_SET is not set"),
    // The second error of the mistake above. This entry changes nothing.
    Mistake(
      "warehouse: ${NOT_SET}${NOR_THIS}", "warehouse: ${NOT_SET}${NOR_THIS}", 2,
      "the environment variable NOR_THIS is not set"),
    Mistake("https://api.x.com", "http://api.x.com", 4, "api.base_url would send the token"),
    Mistake("bearer_token: ${X_BEARER_TOKEN}", "bearer_tokn: x", 5, "unknown key api.bearer_tokn"),
    Mistake("limits:", "limit:", 6, "unknown key limit"),
    Mistake("type: users\n", "type: [users]\n", 11, "datasets.users.type is not a string"),
    Mistake(
      "table: warehouse.users", "tabel: warehouse.users", 12, "unknown key datasets.users.tabel"),
    Mistake("id: user_id", "id: ${NO_ID}", 13, "the environment variable NO_ID is not set"),
    Mistake("ids: 1000", "ids: 0", 14, "chunk.ids is not at least 1"),
    Mistake("bytes: 20000", "bytes: many", 14, "datasets.users.chunk.bytes is not a whole number"),
    Mistake("suspended: delete", "suspended: erase", 17, "unknown action erase"),
    Mistake("deactivated: ignore", "deactivated:", 18, "actions.deactivated has no action"),
    Mistake(
      "restore: {visibility: public}", "restore: {hidden: no}", 19, "restore names the column"),
    Mistake("match: author_id", "match: [author_id]", 22, "targets[0].match is not a string"),
    Mistake("type: tweets", "type: posts", 24, "unknown type posts of the target"),
    Mistake(
      "          deleted: delete\n", "          delted: delete\n", 26,
      "unknown reason delted in datasets.users.targets[0].actions"),
    Mistake(
      "table: warehouse.post_media", "table: a.b.c", 28, "not a table's name: a.b.c"),
    Mistake(
      "actions: {deleted: delete}", "actions: {deleted: rehydrate}", 30,
      "a target cannot be rehydrated"),
  ]

  private static func definition(with mistakes: [Mistake]) -> String {
    mistakes.reduce(Samples.good) { $0.editing($1.part, to: $1.other) }
  }

  private static func errors(_ yaml: String) throws -> [DefinitionError] {
    try #require(throws: DefinitionError.self) { try Samples.parse(yaml) }.all
  }

  @Test func allMistakesAreReportedTogether() throws {
    let found = try Self.errors(Self.definition(with: Self.mistakes))
    for mistake in Self.mistakes {
      #expect(
        found.contains { $0.line == mistake.line && $0.message.contains(mistake.message) },
        "\(mistake.message) is not among \(found)")
    }
    #expect(found.count == Self.mistakes.count, "\(found)")
    #expect(found.map { $0.line ?? 0 } == found.map { $0.line ?? 0 }.sorted())
    #expect(found.allSatisfy { $0.file == "p.yaml" && !$0.remedy.isEmpty && $0.others.isEmpty })
  }

  @Test func theErrorPrintsEachMistake() throws {
    let error = try #require(throws: DefinitionError.self) {
      try Samples.parse(Self.definition(with: Self.mistakes))
    }
    let lines = "\(error)".split(separator: "\n")
    #expect(lines.count { $0.hasPrefix("p.yaml:") } == Self.mistakes.count)
    #expect(lines.count { $0.hasPrefix("  remedy: ") } == Self.mistakes.count)
    #expect(!"\(error)".contains("hunter2"))
  }

  /// The consequences of a mistake are not reported.
  @Test(arguments: mistakes.filter { $0.part != $0.other && !$0.other.contains("NOR_THIS") })
  func oneMistakeHasOneMessage(mistake: Mistake) throws {
    #expect(try Self.errors(Self.definition(with: [mistake])).count == 1)
  }

  /// Tests random subsets of the mistakes.
  @Test func noMistakeHidesAnotherMistake() throws {
    let seed = SeededGenerator.seedOfTest()
    var random = SeededGenerator(seed: seed)
    let mistakes = Self.mistakes.filter { $0.part != $0.other && !$0.other.contains("NOR_THIS") }
    for _ in 1...200 {
      let chosen = mistakes.filter { _ in Bool.random(using: &random) }
      guard !chosen.isEmpty else { continue }
      let found = try Self.errors(Self.definition(with: chosen))
      #expect(
        found.count == chosen.count && zip(found, chosen).allSatisfy { $0.line == $1.line },
        "seed \(seed): \(chosen.map(\.message)) and \(found)")
    }
  }

  // MARK: Missing and repeated keys

  @Test func everyMissingKeyIsReported() throws {
    let found = try Self.errors(
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
    let yaml = Samples.good.editing(
      "      suspended: delete\n      deactivated: ignore\n", to: "")
    #expect(
      try Self.errors(yaml).map(\.message) == [
        "datasets.users.actions has no action for the reason suspended",
        "datasets.users.actions has no action for the reason deactivated",
      ])
  }

  /// The parser stops at the first repeated key. Nevertheless, all repeated keys and all other mistakes are reported.
  @Test func everyRepeatedKeyIsReported() throws {
    let found = try Self.errors(
      Samples.good
        .editing("name: nightly\n", to: "name: nightly\n'name': x\nname: y\n")
        .editing("  users:\n", to: "  posts: {}\n  users:\n")
        .editing("    id: user_id\n", to: "    id: user_id\n    \"table\": y\n")
        .editing("deactivated: ignore", to: "deactivated: {redact: {a: , \"a\": }}")
        .editing("id: post_id\n", to: "id: post_id\n        typ: z\n"))
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
  func linesAreCountedWithAnyLineEnd(end: String) throws {
    let yaml = "# é 𝕏 😀\nname: x\nwarehouse: 'é😀' # ü\nname: y\nwhat: 1\n"
    let found = try Self.errors(yaml.replacing("\n", with: end))
    #expect(found.contains { $0.line == 4 && $0.message.contains("name appears twice") })
    #expect(found.contains { $0.line == 5 && $0.message == "unknown key what" })
  }
}
