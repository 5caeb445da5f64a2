import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing
import Warehouse

/// A hold does not depend on the current definition.
@Suite struct HoldDefinitionTests {
  static let rows = """
    INSERT INTO users VALUES (1, 'one'), (2, 'two');
    INSERT INTO posts (post_id, author_id, visibility) VALUES
      (8, 1, 'public'), (9, 1, 'internal'), (10, 2, 'internal'), (11, 3, 'friends')
    """

  struct Edit: Sendable, CustomTestStringConvertible {
    let testDescription: String
    var dataset: String?
    let old: String
    let new: String
  }

  static let edits: [Edit] = [
    Edit(
      testDescription: "another value in set", dataset: "posts",
      old: "set: {visibility: protected}", new: "set: {visibility: hidden}"),
    Edit(
      testDescription: "another column in set", dataset: "posts",
      old: "{set: {visibility: protected}, restore: {visibility: public}}",
      new: "{set: {searchable: false}, restore: {searchable: true}}"),
    Edit(
      testDescription: "other values in restore", dataset: "posts",
      old: "restore: {visibility: public}", new: "restore: {visibility: friends}"),
    Edit(
      testDescription: "former instead of values", dataset: "posts",
      old: "restore: {visibility: public}", new: "restore: former"),
    Edit(
      testDescription: "no restore any more", dataset: "posts",
      old: ", restore: {visibility: public}", new: ""),
    Edit(
      testDescription: "nothing is hidden any more", dataset: "posts",
      old: "protected: {protect: {set: {visibility: protected}, restore: {visibility: public}}}",
      new: "protected: ignore"),
    Edit(
      testDescription: "protected posts are deleted", dataset: "posts",
      old: "protected: {protect: {set: {visibility: protected}, restore: {visibility: public}}}",
      new: "protected: delete"),
    Edit(
      testDescription: "another name of the dataset", old: "  posts:\n    type",
      new: "  statuses:\n    type"),
    Edit(
      testDescription: "another name of the users' dataset", old: "  users:\n    type",
      new: "  a:\n    type"),
    Edit(testDescription: "another name of the pipeline", old: "name: shop", new: "name: store"),
    Edit(
      testDescription: "the users' posts are not a target any more", dataset: "users",
      old: """
            targets:
              - table: shop.posts
                match: author_id
                actions:
                  deleted: delete
                  protected: {protect: {set: {visibility: protected}, restore: {visibility: public}}}

        """, new: ""),
    Edit(
      testDescription: "smaller chunks", dataset: "posts", old: "    actions:",
      new: "    chunk: {ids: 1}\n    batch: 1\n    actions:"),
  ]

  /// Rows are hidden with one definition and released with the next. The rows are held by their own ID, their author,
  /// or both.
  @Test(arguments: sampled(edits, [[true, false], [false, true], [true, true]], 15))
  func rowsAreRestoredCorrectlyAfterAnEditBetweenTwoRuns(
    edit: Edit, by holders: [Bool]
  ) async throws {
    try await NightlyFixture.with(Shop(), Self.rows) { nights in
      try await nights.run(
        holders[0] ? [9: "protected", 11: "protected"] : [:],
        holders[1] ? [1: "protected"] : [:])
      try nights.edit(edit.old, to: edit.new, of: edit.dataset)
      try await nights.run()
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
    }
  }

  /// Lethe does not ask about IDs that it no longer exports. Their held rows stay hidden and are counted.
  @Test func heldRowsOutsideANarrowerWhereAreCountedUntilTheyAreExportedAgain() async throws {
    let shop = Shop(postKeys: ["where: post_id > 0"])
    try await NightlyFixture.with(shop, Self.rows) { nights in
      try await nights.run([9: "protected", 11: "protected"])
      try nights.edit("where: post_id > 0", to: "where: post_id > 9")
      try await nights.run()
      #expect(try await nights.visibility(9) == "protected")
      #expect(try await nights.visibility(11) == "friends")
      let findings = try await nights.findings().filter { $0.message.contains("hold") }
      #expect(findings.count == 1)
      let status = try await nights.lethe("status")
      #expect(status.stdout.contains("hold"), "\(status.stdout)")
      try nights.edit("where: post_id > 9", to: "where: post_id > 0")
      try await nights.run()
      #expect(try await nights.visibility(9) == "internal")
      #expect(try await nights.findings().filter { $0.message.contains("hold") } == [])
    }
  }

  /// One pipeline asks about posts, the other about users. Both share the holds of the warehouse.
  @Test(arguments: [["posts", "users"], ["users", "posts"]])
  func aPipelineDoesNotRestoreRowsThatAnotherPipelineHolds(order: [String]) async throws {
    try await NightlyFixture.with(Shop(), Self.rows) { nights in
      let whole = nights.definition
      let texts = try ["posts", "users"].reduce(into: [String: String]()) { texts, name in
        texts[name] = try Self.singleDataset(name, whole)
      }
      var last = whole
      func run(_ name: String, _ posts: [Int64: String], _ users: [Int64: String]) async throws {
        let text = try #require(texts[name])
        try nights.edit(last, to: text)
        last = text
        try await nights.run(posts, users)
      }
      for name in order { try await run(name, [9: "protected"], [1: "protected"]) }
      try await run("posts", [:], [1: "protected"])
      #expect(try await nights.visibility(9) == "protected")
      try await run("posts", [9: "protected"], [:])
      try await run("users", [9: "protected"], [:])
      #expect(try await nights.visibility(9) == "protected")
      #expect(try await nights.visibility(8) == "public")
      try await run("posts", [:], [:])
      #expect(try await nights.visibility(9) == "internal")
    }
  }

  /// Both pipelines ask about the same posts. The newest answer counts. It does not matter which pipeline received that
  /// answer.
  @Test func theNewestAnswerAboutAnIDCountsAcrossPipelines() async throws {
    try await NightlyFixture.with(Shop(), Self.rows) { nights in
      try await nights.run([9: "protected"])
      try nights.edit("name: shop", to: "name: store")
      try await nights.run()
      #expect(try await nights.visibility(9) == "internal")
      try await nights.run([9: "protected"])
      try nights.edit("name: store", to: "name: shop")
      try await nights.run([9: "protected"])
      try await nights.run()
      #expect(try await nights.visibility(9) == "internal")
    }
  }

  /// A dataset with another name asks about a part of the same IDs.
  @Test func theNewestAnswerAboutAnIDCountsAcrossDatasets() async throws {
    try await NightlyFixture.with(Shop(order: .postsFirst), Self.rows) { nights in
      try await nights.run([9: "protected", 11: "protected"])
      let whole = nights.definition
      // Another dataset replaces the posts' dataset. It asks about the same table by the same IDs.
      let posts = try Self.part("posts", whole)
      try nights.edit(
        posts,
        to: posts.editing("  posts:\n", to: "  recent:\n")
          .editing("    actions:", to: "    where: post_id > 9\n    actions:"))
      try await nights.run()
      #expect(try await nights.visibility(11) == "friends")
      #expect(try await nights.visibility(9) == "protected")
    }
  }

  private static func part(_ dataset: String, _ definition: String) throws -> String {
    let datasets = try #require(definition.range(of: "datasets:\n")).upperBound
    let texts = definition[datasets...].components(separatedBy: "\n  users:")
    return dataset == "posts" ? texts[0] + "\n" : "  users:" + texts[1]
  }

  /// The same definition with one dataset only, as a pipeline with the dataset's name.
  static func singleDataset(_ dataset: String, _ definition: String) throws -> String {
    let datasets = try #require(definition.range(of: "datasets:\n")).upperBound
    return String(definition[..<datasets]).editing("name: shop", to: "name: \(dataset)")
      + (try part(dataset, definition))
  }
}
