import DefinitionFiles
import Definitions
import TestFiles
import Testing
import Vocabulary

/// Anchors, aliases, merges, and the keys that begin with `x-`. Lethe ignores such a key, so its value can contain
/// anchors.
@Suite struct AnchorTests {
  private static let yaml = """
    x-removals: &removals
      deleted: delete
      suspended: delete
      deactivated: delete
    x-hiding: &hiding {protected: {protect: {set: &hidden {visibility: protected}, restore: former}}}
    name: &name nightly
    warehouse: *name
    api: {bearer_token: t, x-note: nobody reads it}
    x-defaults: &defaults
      id: &id post_id
      batch: 7
      chunk: &chunk {ids: 10}
    datasets:
      posts:
        <<: *defaults
        type: tweets
        table: posts
        x-why: {anything: [goes, here]}
        actions:
          <<: [*removals, *hiding]
          x-more: 1
          bounced: ignore
          suspended: ignore
          geo_scrubbed: ignore
          tweet_edited: {rehydrate: {set: *hidden}}
        targets:
          - &media {table: media, match: *id, actions: {<<: *removals}}
          - {<<: *media, table: reposts}
      users:
        <<: [{batch: 9, id: user_id}, *defaults]
        type: users
        table: users
        actions: {<<: [*hiding, *removals], deleted: ignore}
        chunk: {<<: *chunk, ids: 20}
    """

  @Test func anchorsAndMergesAreReadAsYAMLDefines() throws {
    let pipeline = try Samples.parse(Self.yaml)
    let datasets = pipeline.definition.datasets
    #expect(datasets.map(\.name) == ["posts", "users"])
    let hidden = [ColumnValue(column: "visibility", value: "protected")]
    let protect = Action.protect(set: hidden, restore: .former(fallback: [], ifWritten: .wait))
    #expect(
      datasets[0].actions == [
        .deleted: .delete, .suspended: .ignore, .deactivated: .delete, .protected: protect,
        .bounced: .ignore, .geoScrubbed: .ignore, .tweetEdited: .rehydrate(mark: hidden),
      ])
    #expect(datasets[0].id == "post_id")
    #expect(datasets[0].batch?.events == 7)
    #expect(datasets[0].chunkIDsMax == 10)
    #expect(datasets[0].targets.map(\.table.name) == ["media", "reposts"])
    #expect(datasets[0].targets.map(\.match) == ["post_id", "post_id"])
    #expect(
      datasets[0].targets[1].actions
        == [.deleted: .delete, .suspended: .delete, .deactivated: .delete])
    #expect(
      datasets[1].actions == [
        .deleted: .ignore, .suspended: .delete, .deactivated: .delete, .protected: protect,
      ])
    #expect(datasets[1].id == "user_id")
    #expect(datasets[1].batch?.events == 9)
    #expect(datasets[1].chunkIDsMax == 20)
  }

  /// A finding about the database has the line on which the key is written.
  @Test func findingsHaveTheLinesOnWhichTheKeysAreWritten() throws {
    let pipeline = try Samples.parse(Self.yaml)
    let expected = [
      "datasets.posts.id": 10, "datasets.posts.table": 17, "datasets.posts.actions.deleted": 2,
      "datasets.posts.actions.protected": 5, "datasets.posts.actions.bounced": 22,
      "datasets.posts.actions.suspended": 23, "datasets.users.id": 30,
      "datasets.users.actions.suspended": 3, "datasets.users.actions.deleted": 33,
      "datasets.posts.targets[1].table": 28, "datasets.posts.targets[1].match": 27,
      "datasets.posts.targets[1].actions.deactivated": 4, "datasets.users.chunk.ids": 34,
    ]
    for (path, line) in expected { #expect(pipeline.line(of: path) == line, "\(path)") }
  }

  /// Each argument is a mistake, and the line on which it must be fixed.
  @Test(arguments: [
    ("suspended: delete", "suspended: erase", 3, "unknown action erase"),
    ("deactivated: delete", "deactivatd: delete", 4, "unknown reason deactivatd"),
    ("batch: 7", "batch: none", 11, "datasets.posts.batch is not a whole number"),
    ("batch: 7", "btch: 7", 11, "unknown key datasets.posts.btch"),
    ("batch: 9,", "btach: 9,", 30, "unknown key datasets.users.btach"),
    ("<<: *defaults", "<<: *name", 15, "<< merges a value that is not a mapping"),
    ("<<: *defaults", "<<: [*defaults, x]", 15, "<< merges a value that is not a mapping"),
    ("match: *id", "match: *removals", 2, "unknown key datasets.posts.targets[0].match."),
    ("<<: *defaults", "\"<<\": *defaults", 15, "unknown key datasets.posts.<<"),
    ("set: *hidden", "set: *hiding", 5, "set.protected is not a single value"),
    ("<<: *defaults", "<<: *defaults\n    <<: *chunk", 16, "the key << appears twice"),
    ("*defaults]", "*nothing]", 30, "not YAML: found undefined alias"),
  ])
  func aMistakeIsReportedOnTheLineOnWhichItIsWritten(
    part: String, other: String, line: Int, message: String
  ) throws {
    try #require(Self.yaml.contains(part))
    let yaml = Self.yaml.editing(part, to: other)
    let found = try #require(throws: DefinitionError.self) { try Samples.parse(yaml) }.all
    #expect(found.contains { $0.line == line && $0.message.contains(message) }, "\(found)")
  }

  /// If the keys of a mapping are names, such as names of columns, a key that begins with `x-` is a name, too. It is
  /// not ignored.
  @Test func aColumnNameMayBeginWithXAndAHyphen() throws {
    let yaml = Self.yaml.editing(
      "&hidden {visibility: protected}", to: "&hidden {x-hidden: true}")
    let action = try Samples.parse(yaml).definition.datasets[1].actions[.protected]
    #expect(
      action
        == .protect(
          set: [ColumnValue(column: "x-hidden", value: "true")],
          restore: .former(fallback: [], ifWritten: .wait)))
  }

  /// Each line repeats the line before it ten times.
  @Test func aFileOfAliasesOfAliasesIsRefused() throws {
    var yaml = "x-0: &a0 [1]\n"
    for level in 1...12 {
      let aliases = Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ", ")
      yaml += "x-\(level): &a\(level) [\(aliases)]\n"
    }
    let error = try #require(throws: DefinitionError.self) { try Samples.parse(yaml + Self.yaml) }
    #expect(error.message.contains("aliases expand to more than"))
  }
}
