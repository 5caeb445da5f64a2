import DefinitionFiles
import Definitions
import Foundation
import TestFiles
import Testing
import Vocabulary

/// The settings for restores and their limits in a definition.
@Suite struct RestoreDefinitionTests {
  private static let written = "{set: {visibility: protected}, restore: {visibility: public}}"

  private static func restore(_ text: String) throws -> Restore? {
    let yaml = Samples.good.editing(written, to: text)
    let action = try Samples.parse(yaml).definition.datasets[0].actions[.protected]
    return action?.kind.hiding?.restore
  }

  private static let shown = [ColumnValue(column: "visibility", value: "public")]

  @Test(
    arguments: [
      ("{set: {visibility: protected}}", Restore.none),
      ("{set: {visibility: protected}, restore: none}", .none),
      ("{restore: former, set: {visibility: protected}}", .former(fallback: [], ifWritten: .wait)),
      (
        "{set: {visibility: protected}, restore: 'former'}", .former(fallback: [], ifWritten: .wait)
      ),
      (
        "{set: {visibility: protected}, restore: {visibility: public}}",
        .former(fallback: shown, ifWritten: .wait)
      ),
      (
        "{set: {visibility: protected}, restore: {visibility: public, if_written: ignore}}",
        .former(fallback: shown, ifWritten: .ignore)
      ),
      (
        "{set: {visibility: protected}, restore: {if_written: wait, visibility: public}}",
        .former(fallback: shown, ifWritten: .wait)
      ),
      (
        "{set: {visibility: protected}, restore: {if_written: ignore}}",
        .former(fallback: [], ifWritten: .ignore)
      ),
      (
        "{set: {a: 1, visibility: null}, restore: {visibility: null}}",
        .former(fallback: [ColumnValue(column: "visibility", value: nil)], ifWritten: .wait)
      ),
      // A column can have the same name as a setting, such as `former`.
      (
        "{set: {none: 1, former: 2}, restore: {former: 3, none: none}}",
        .former(
          fallback: [
            ColumnValue(column: "former", value: "3"), ColumnValue(column: "none", value: "none"),
          ], ifWritten: .wait)
      ),
    ] as [(String, Restore)])
  func aRestoreIsReadAsWritten(text: String, restore: Restore) throws {
    #expect(try Self.restore(text) == restore)
    #expect(restore.keepsHolds == (restore != .none))
  }

  /// A run's definition is stored as JSON. The JSON keeps the setting for restores.
  @Test(
    arguments: [
      Restore.none, .former(fallback: [], ifWritten: .wait),
      .former(fallback: [], ifWritten: .ignore), .former(fallback: shown, ifWritten: .wait),
      .former(fallback: shown, ifWritten: .ignore),
    ])
  func aStoredRestoreIsUnchanged(restore: Restore) throws {
    let data = try JSONEncoder().encode([restore])
    #expect(try JSONDecoder().decode([Restore].self, from: data) == [restore])
  }

  struct Mistake: Sendable, CustomTestStringConvertible {
    let restore: String
    let message: String
    let remedy: String

    var testDescription: String { restore }

    init(_ restore: String, _ message: String, remedy: String) {
      self.restore = restore
      self.message = message
      self.remedy = remedy
    }
  }

  private static let mistakes: [Mistake] = [
    Mistake("fromer", "unknown restore: fromer", remedy: "did you mean former?"),
    Mistake("None", "unknown restore: None", remedy: "did you mean none?"),
    Mistake("public", "unknown restore: public", remedy: "write none, former or {column: value"),
    Mistake("true", "unknown restore: true", remedy: "write none, former or {column: value"),
    Mistake("", "protect.restore is not none, former", remedy: "write none, former or {column"),
    Mistake("~", "protect.restore is not none, former", remedy: "write none, former or {column"),
    Mistake("''", "protect.restore is not a string", remedy: "write a string"),
    Mistake("[visibility]", "protect.restore is not none, former", remedy: "{column: value"),
    Mistake("{}", "protect.restore is not none, former", remedy: "{column: value"),
    Mistake(
      "{visibility: [public]}", "protect.restore.visibility is not a single value",
      remedy: "write a single value"),
    Mistake(
      "{hidden: no}", "restore names the column hidden, but set does not name it", remedy: "set"),
    Mistake(
      "{visibility: public, if_writen: ignore}", "restore names the column if_writen",
      remedy: "did you mean if_written?"),
    Mistake("{if_written: ignored}", "unknown if_written: ignored", remedy: "did you mean ignore?"),
    Mistake("{if_written: open}", "unknown if_written: open", remedy: "write wait, or ignore"),
    Mistake("{if_written: }", "protect.restore.if_written is not a string", remedy: "write"),
    Mistake("{if_written: [wait]}", "protect.restore.if_written is not a string", remedy: "write"),
  ]

  @Test(arguments: mistakes)
  func anInvalidRestoreIsRefusedWithItsLine(mistake: Mistake) throws {
    let yaml = Samples.good.editing(
      "restore: {visibility: public}", to: "\n        restore: \(mistake.restore)")
    do {
      _ = try Samples.parse(yaml)
      Issue.record("the definition was accepted")
    } catch let error as DefinitionError {
      #expect(error.line == 20, "\(error)")
      #expect(error.message.contains(mistake.message), "\(error)")
      #expect(error.remedy.contains(mistake.remedy), "\(error)")
    }
  }

  // MARK: Limits

  @Test func theLimitsOfRestoresAreReadAndHaveDefaults() throws {
    let limits = try Samples.parse(Samples.good).definition.limits
    #expect(limits.maxRestoredPercent == 20 && limits.maxRestoredRows == 1_000_000)
    let yaml = Samples.good.editing(
      "limits:\n",
      to: "limits:\n  max_restored_percent: 0.5\n  max_restored_rows: 2_000\n")
    let other = try Samples.parse(yaml).definition.limits
    #expect(other.maxRestoredPercent == 0.5 && other.maxRestoredRows == 2000)
    #expect(other.maxRedactedPercent == 20 && other.maxRedactedRows == 1000)
    let data = try JSONEncoder().encode(other)
    #expect(try JSONDecoder().decode(RedactionLimits.self, from: data) == other)
  }

  @Test(arguments: [
    (
      "max_restored_percent: 101", "limits.max_restored_percent is not between 0 and 100", "percent"
    ),
    ("max_restored_percent: -1", "limits.max_restored_percent is not between 0 and 100", "percent"),
    ("max_restored_percent: few", "limits.max_restored_percent is not a number", "write"),
    ("max_restored_rows: -1", "limits.max_restored_rows is negative", "rows"),
    ("max_restored_rows: 1.5", "limits.max_restored_rows is not a whole number", "write"),
    (
      "max_restored_row: 1", "unknown key limits.max_restored_row",
      "did you mean max_restored_rows?"
    ),
    (
      "reasons: {deleted: {max_restored_rows: 1}}",
      "limits.reasons.deleted.max_restored_rows: restores have no limit for a single reason",
      "write max_restored_rows: below limits:"
    ),
    (
      "reasons: {protected: {max_restored_percent: 1}}",
      "limits.reasons.protected.max_restored_percent", "below limits:"
    ),
  ])
  func anInvalidLimitIsRefusedWithItsLine(text: String, message: String, remedy: String) throws {
    let yaml = Samples.good.editing("limits:\n", to: "limits:\n  \(text)\n")
    do {
      _ = try Samples.parse(yaml)
      Issue.record("the definition was accepted")
    } catch let error as DefinitionError {
      #expect(error.line == 7, "\(error)")
      #expect(error.message.contains(message), "\(error)")
      #expect(error.remedy.contains(remedy), "\(error)")
    }
  }
}
