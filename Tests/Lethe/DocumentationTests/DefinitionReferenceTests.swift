import DefinitionFiles
import FaultPlans
import Foundation
import TestSupport
import Testing
import Vocabulary

@testable import Definitions

/// Compares the documented keys of definitions and fault plans with the parsers. The error for an unknown key lists the
/// known keys.
@Suite struct DefinitionReferenceTests {
  private static let page = "docs/reference/definition.md"

  @Test func thePageHasEachKeyOfADefinitionAndNoOther() throws {
    let known = KeysOfAParser.all {
      _ = try Pipeline.parse(yaml: $0, file: "x.yaml", environment: [:])
    }
    #expect(known.count > 10)
    try Self.expect(try Page(Self.page), has: known)
  }

  @Test func thePageHasEachKeyOfAFaultPlanAndNoOther() throws {
    let known = KeysOfAParser.all { _ = try FaultPlan(yaml: $0, file: "x.yaml") }
    #expect(known.count == 4)
    try Self.expect(try Page("docs/reference/service.md"), has: known)
  }

  private static func expect(_ page: Page, has known: [String: [String]]) throws {
    var documented: [String: [String]] = [:]
    for section in page.sections {
      let keys = section.rows.compactMap { quoted($0[0]).first }
      guard !keys.isEmpty, let path = Self.path(of: section.heading),
        known[path] != nil || !path.hasPrefix("/") && !path.contains(" ")
      else { continue }
      documented[path, default: []] += keys
    }
    for path in Set(known.keys).union(documented.keys).sorted() {
      #expect(
        documented[path]?.sorted() == known[path]?.sorted(), "\(page.path): the keys of '\(path)'")
    }
  }

  /// Returns the path of the mapping that a heading names. The mapping contains the keys in the heading's section.
  private static func path(of heading: String) -> String? {
    ["The top level", "The plan"].contains(heading) ? "" : quoted(heading).first
  }

  // MARK: Defaults

  private static let small = """
    name: small
    warehouse: dbname=x
    api: {bearer_token: t}
    datasets:
      users:
        type: users
        table: t
        id: id
        actions: {deleted: delete, suspended: ignore, deactivated: ignore, protected: {protect: {set: {a: b}}}}
    """

  @Test func thePageHasTheDefaultsOfTheProgram() throws {
    let pipeline = try Pipeline.parse(yaml: Self.small, file: "x.yaml", environment: [:])
    let (api, limits) = (pipeline.api, pipeline.definition.limits)
    let dataset = try #require(pipeline.definition.datasets.first)
    let expected: [(path: String, key: String, value: String)] = [
      ("api", "base_url", api.baseURL), ("api", "poll_seconds", number(api.pollSeconds)),
      ("api", "poll_seconds_max", number(api.pollSecondsMax)),
      ("api", "job_attempts", "\(api.jobAttemptsMax)"),
      ("api", "job_hours_max", number(api.jobHoursMax)),
      ("api", "slot_hours_max", number(api.slotHoursMax)), ("api", "profile", api.profile.rawValue),
      ("api", "connect_seconds", number(api.network.connectSeconds)),
      ("api", "stall_seconds", number(api.network.stallSeconds)),
      ("api", "answer_seconds", number(api.network.answerSeconds)),
      ("limits", "max_redacted_percent", number(limits.maxRedactedPercent)),
      ("limits", "max_redacted_rows", "\(limits.maxRedactedRows)"),
      ("limits", "max_restored_percent", number(limits.maxRestoredPercent)),
      ("limits", "max_restored_rows", "\(limits.maxRestoredRows)"),
      ("limits", "allow_whole_chunks", "\(limits.allowsWholeChunks)"),
      ("datasets.<name>.chunk", "ids", "\(dataset.chunkIDsMax)"),
      ("datasets.<name>.chunk", "bytes", "\(dataset.chunkBytesMax)"),
      ("datasets.<name>", "tombstones", "\(dataset.tombstones)"),
      ("datasets.<name>", "batch", "\(dataset.batch?.events ?? 0)"),
      ("datasets.<name>", "batch_rows", "\(dataset.batch?.rows ?? 0)"),
    ]
    #expect(
      dataset.actions[.protected] == .protect(set: [.init(column: "a", value: "b")], restore: .none)
    )
    let sections = try Page(Self.page).sections
    for (path, key, value) in expected {
      let section = sections.first { Self.path(of: $0.heading) == path }
      let row = section?.rows.first { quoted($0[0]).first == key }
      #expect(row?[2] == "`\(value)`", "the default of \(path) \(key)")
    }
  }

  private func number(_ value: Double) -> String {
    value == value.rounded() ? "\(Int(value))" : "\(value)"
  }

  // MARK: Examples

  /// Each example is a fault plan, a definition, or a part of a definition. The test adds the missing parts of a
  /// definition.
  @Test(arguments: try Page.all())
  func eachExampleCanBeRead(page: Page) throws {
    for block in page.codeBlocks where block.language == "yaml" {
      do {
        if block.text.contains(/(?m)^faults:/) {
          _ = try FaultPlan(yaml: block.text, file: page.path)
        } else {
          let yaml = try #require(
            Self.whole(block.text), "\(page.path):\(block.line) is not a part of a definition")
          _ = try Pipeline.parse(
            yaml: yaml, file: page.path,
            environment: [
              "DATABASE_URL": "dbname=x", "X_BEARER_TOKEN": "t", "HOME": "/home/ada",
              "COMPLIANCE_API_URL": "http://127.0.0.1:1",
            ], readingToken: false)
        }
      } catch let error as DefinitionError {
        Issue.record("\(page.path):\(block.line): \(error)")
      }
    }
  }

  private static let top = [
    "name": "name: small", "warehouse": "warehouse: dbname=x", "api": "api: {bearer_token: t}",
  ]
  private static let dataset = ["type": "type: tweets", "table": "table: t", "id": "id: id"]
  private static let reasons = [
    "deleted", "bounced", "suspended", "deactivated", "protected", "geo_scrubbed", "tweet_edited",
  ]

  /// Returns a complete definition that contains the example. The example is a definition, a dataset or its actions.
  private static func whole(_ example: String) -> String? {
    let keys = Set(example.matches(of: /(?m)^([a-z_-]+):/).map { String($0.1) })
    let topKeys: Set = ["name", "warehouse", "api", "limits", "timeouts", "apply", "datasets"]
    func rest(_ parts: [String: String]) -> String {
      parts.filter { !keys.contains($0.key) }.sorted { $0.key < $1.key }
        .map { $0.value + "\n" }.joined()
    }
    if keys.allSatisfy({ topKeys.contains($0) || $0.hasPrefix("x-") }) {
      let datasets = keys.contains("datasets") ? "" : datasets(rest(dataset) + actions(""))
      return rest(top) + example + datasets
    }
    let isOfActions = keys.isSubset(of: reasons)
    let own =
      isOfActions ? actions(example) : example + (keys.contains("actions") ? "" : actions(""))
    return rest(top) + datasets(rest(dataset) + own)
  }

  private static func datasets(_ dataset: String) -> String {
    "datasets:\n  one:\n\(indented(dataset, by: 4))"
  }

  private static func actions(_ given: String) -> String {
    let others = reasons.filter { !given.contains(try! Regex("(?m)^\($0):")) }
    return "actions:\n" + indented(given + others.map { "\($0): ignore\n" }.joined(), by: 2)
  }

  private static func indented(_ text: String, by count: Int) -> String {
    text.split(separator: "\n").map { String(repeating: " ", count: count) + $0 + "\n" }.joined()
  }
}

/// The keys that a parser accepts, by the path of the mapping that contains them.
private struct KeysOfAParser {
  private enum Step {
    case key(String)
    case item
  }

  private let parse: (String) throws -> Void
  private var known: [String: [String]] = [:]

  static func all(_ parse: @escaping (String) throws -> Void) -> [String: [String]] {
    var keys = KeysOfAParser(parse: parse)
    keys.explore([])
    return keys.known
  }

  private init(parse: @escaping (String) throws -> Void) {
    self.parse = parse
  }

  /// The places that may contain a mapping with fixed keys: directly, in a list, or below a key that is a name or a
  /// reason.
  private static let shapes: [[Step]] = [[], [.item], [.key("deleted")]]

  /// Records the keys of the mapping at a place, and of all mappings in it.
  private mutating func explore(_ steps: [Step]) {
    for shape in Self.shapes {
      guard let keys = keys(at: steps + shape) else { continue }
      let path = Self.text(steps + shape)
      // A target's targets have the same keys as the target. Its actions have the same keys as its dataset's actions.
      let inner = path.replacing(".targets[].targets[]", with: ".targets[]")
        .replacing(".targets[].actions", with: ".actions")
      if inner != path, known[inner]?.sorted() == keys.sorted() { return }
      known[path] = keys
      for key in keys { explore(steps + shape + [.key(key)]) }
      return
    }
  }

  /// Returns the keys that the parser reports as known at a place. Nil if the parser expects no keys there.
  private func keys(at steps: [Step]) -> [String]? {
    var yaml = "{no-such-key: 1}"
    for step in steps.reversed() {
      switch step {
      case .key(let key): yaml = "{\(key): \(yaml)}"
      case .item: yaml = "[\(yaml)]"
      }
    }
    var path = ""
    for step in steps {
      switch step {
      case .key(let key): path += path.isEmpty ? key : ".\(key)"
      case .item: path += "[0]"
      }
    }
    let unknown = "unknown key \(path.isEmpty ? "" : "\(path).")no-such-key"
    do {
      try parse(yaml)
    } catch let error as DefinitionError {
      let mistake = error.all.first { $0.message == unknown }
      let list = mistake?.remedy.split(separator: "known keys here: ").last
      return list?.split(separator: ", ").map(String.init)
    } catch {}
    return nil
  }

  private static func text(_ steps: [Step]) -> String {
    steps.reduce("") { path, step in
      switch step {
      case .item: path + "[]"
      case .key("deleted"): path + (path == "datasets" ? ".<name>" : ".<reason>")
      case .key(let key): path.isEmpty ? key : "\(path).\(key)"
      }
    }
  }
}
