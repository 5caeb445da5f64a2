import DefinitionFiles
import Definitions
import Foundation
import TestFiles
import Testing
import Vocabulary

/// The type of the IDs in a target's `id` column: tweets, users or none.
@Suite struct RowTypeTests {
  private static func yaml(_ target: String, posts: String = "tweets") -> String {
    let reasons =
      posts == "users"
      ? "deleted: delete, suspended: delete, deactivated: delete, protected: ignore"
      : """
      deleted: delete, bounced: delete, suspended: delete, deactivated: delete,
          protected: ignore, geo_scrubbed: ignore, tweet_edited: ignore
      """
    return """
      name: typed
      warehouse: x
      api: {bearer_token: t}
      datasets:
        users:
          type: users
          table: shop.users
          id: user_id
          actions: {deleted: delete, suspended: delete, deactivated: delete, protected: ignore}
          targets:
            - table: shop.lists
              match: owner_id
              targets:
                - {table: shop.members, match: list_id, actions: {deleted: delete}}
      \(target)
              actions: {deleted: delete}
        posts:
          type: \(posts)
          table: shop.posts
          id: post_id
          actions: {\(reasons)}
      """
  }

  private static func target(_ lines: String...) -> String {
    lines.map { "        \($0)" }.joined(separator: "\n")
  }

  @Test(
    arguments: [
      ("list_id", "tweets", RowType.tweets), ("list_id", "users", .users),
      ("list_id", "none", .none), ("'${NOT_SET:-list_id}'", "'${NOT_SET:-users}'", .users),
    ] as [(String, String, RowType)])
  func anIDTypeIsReadAsWritten(id: String, word: String, type: RowType) throws {
    let definition = try Samples.parse(
      Self.yaml(Self.target("id: \(id)", "type: \(word)"))
    ).definition
    let target = definition.datasets[0].targets[0]
    #expect(target.type == type)
    #expect(target.id == "list_id")
    #expect(target.targets[0].type == nil)
    #expect(type.jobType?.rawValue == (type == .none ? nil : type.rawValue))
    let data = try JSONEncoder().encode(definition)
    #expect(try JSONDecoder().decode(Definition.self, from: data) == definition)
  }

  /// A target without a type gets the type of the dataset with the same table and the same ID column. Without such a
  /// dataset, the definition is refused.
  @Test(
    arguments: [
      ("shop.posts", "post_id", "tweets", RowType.tweets),
      ("shop.posts", "post_id", "users", .users),
      ("shop.users", "user_id", "tweets", .users),
      ("shop.posts", "list_id", "tweets", nil), ("posts", "post_id", "tweets", nil),
      ("shop.Posts", "post_id", "tweets", nil), ("shop.users", "post_id", "tweets", nil),
    ] as [(String, String, String, RowType?)])
  func aTargetGetsTheTypeOfTheDatasetWithTheSameTableAndColumn(
    table: String, id: String, posts: String, type: RowType?
  ) throws {
    let yaml = Self.yaml(Self.target("id: \(id)"), posts: posts)
      .editing("table: shop.lists", to: "table: \(table)")
    if let type {
      let target = try Samples.parse(yaml).definition.datasets[0].targets[0]
      #expect(target.type == type)
      return
    }
    do {
      _ = try Samples.parse(yaml)
      Issue.record("the definition was accepted")
    } catch let error as DefinitionError {
      #expect(error.line == 15, "\(error)")
      #expect(error.message == "the target \(table) has no type for its \(id)")
      #expect(error.remedy.contains("type: none"))
    }
  }

  @Test(arguments: [
    ("type: tweets", 15, "type is the type of a target's id, but this target has no id", "id:"),
    ("id: list_id;type: tweet", 16, "unknown type tweet of the target", "did you mean tweets?"),
    ("id: list_id;type: lists", 16, "unknown type lists of the target", "tweets, users or none"),
    ("id: list_id;type: [users]", 16, "type is not a string", "write a string"),
    ("id: list_id;typ: users", 16, "unknown key datasets.users.targets[0].typ", "mean type?"),
  ])
  func anInvalidIDTypeIsRefusedWithItsLine(
    lines: String, line: Int, message: String, remedy: String
  ) throws {
    var yaml = Self.yaml(
      lines.split(separator: ";").map { "        \($0)" }.joined(separator: "\n"))
    if !lines.contains("id:") {
      // A target without an id cannot have targets of its own. Comments replace them and keep the number of lines.
      yaml = yaml.editing("targets:\n          - {table: shop.members", to: "#\n#")
    }
    do {
      _ = try Samples.parse(yaml)
      Issue.record("the definition was accepted")
    } catch let error as DefinitionError {
      #expect(error.line == line, "\(error)")
      #expect(error.message.contains(message), "\(error)")
      #expect(error.remedy.contains(remedy), "\(error)")
    }
  }

  @Test(
    arguments: [("users", "tweets", false), ("tweets", "users", false), ("none", "tweets", true)])
  func aTypeThatContradictsADatasetIsRefused(type: String, posts: String, isAccepted: Bool) throws {
    let yaml = Self.yaml(Self.target("id: post_id", "type: \(type)"), posts: posts)
      .editing("table: shop.lists", to: "table: shop.posts")
    do {
      _ = try Samples.parse(yaml)
      #expect(isAccepted)
    } catch let error as DefinitionError {
      #expect(!isAccepted)
      #expect(error.line == 16)
      #expect(
        error.message
          == "shop.posts.post_id is of type \(type) here, but of type \(posts) in the dataset posts"
      )
    }
  }

  // MARK: Stored definitions

  /// An earlier version had no ID types, and treated every ID of a target as a post's ID. In its definitions, an ID is
  /// still a post's ID if a dataset of posts has the same table and the same ID column.
  @Test(
    arguments: [
      ("tweets", "t", "i", RowType.tweets), ("users", "t", "i", .none),
      ("tweets", "t", "j", .none), ("tweets", "u", "i", .none),
    ] as [(String, String, String, RowType)])
  func aTargetOfAnEarlierVersionHasPostIDsOnlyIfADatasetOfPostsConfirmsIt(
    type: String, table: String, id: String, expected: RowType
  ) throws {
    let json = """
      {"name": "n", "limits": {"maxRedactedPercent": 20, "maxRedactedRows": 5}, "datasets": [
        {"name": "a", "type": "users", "table": {"name": "x"}, "id": "x", "chunkIDsMax": 10,
         "chunkBytesMax": 200, "tombstones": true, "actions": {}, "targets": [
           {"table": {"schema": "s", "name": "between"}, "match": "m", "id": "k", "actions": {},
            "targets": [
             {"table": {"schema": "s", "name": "\(table)"}, "match": "m", "id": "\(id)",
              "actions": {}, "targets": []},
             {"table": {"schema": "s", "name": "t"}, "match": "m", "actions": {}, "targets": []}]}]},
        {"name": "b", "type": "\(type)", "table": {"schema": "s", "name": "t"}, "id": "i",
         "chunkIDsMax": 10, "chunkBytesMax": 200, "targets": [], "tombstones": true,
         "actions": {}}]}
      """
    let definition = try JSONDecoder().decode(Definition.self, from: Data(json.utf8))
    let between = definition.datasets[0].targets[0]
    #expect(between.type == RowType.none)
    #expect(between.targets.map(\.type) == [expected, nil])
    let again = try JSONDecoder().decode(
      Definition.self, from: JSONEncoder().encode(definition))
    #expect(again == definition)
  }
}
