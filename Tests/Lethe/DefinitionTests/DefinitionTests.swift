import DefinitionFiles
import Definitions
import Foundation
import SystemPackage
import TestFiles
import Testing
import Vocabulary

@Suite struct GoodDefinitionTests {
  @Test func aDefinitionIsReadAsWritten() throws {
    let pipeline = try Samples.parse(Samples.good)
    let media = Target(
      table: TableName(schema: "warehouse", name: "post_media"), match: "post_id", id: nil,
      actions: [.deleted: .delete], targets: [])
    let posts = Target(
      table: TableName(schema: "warehouse", name: "posts"), match: "author_id", id: "post_id",
      type: .tweets, actions: [.deleted: .delete], targets: [media])
    let users = Dataset(
      name: "users", type: .users, table: TableName(schema: "warehouse", name: "users"),
      id: "user_id", condition: nil, chunkIDsMax: 1000, chunkBytesMax: 20_000,
      actions: [
        .deleted: .delete, .suspended: .delete, .deactivated: .ignore,
        .protected: .protect(
          set: [ColumnValue(column: "visibility", value: "protected")],
          restore: .former(
            fallback: [ColumnValue(column: "visibility", value: "public")], ifWritten: .wait)),
      ], targets: [posts], tombstones: true, batch: BatchLimits(events: 10_000, rows: 20_000))
    #expect(
      pipeline.definition
        == Definition(
          name: "nightly", limits: RedactionLimits(maxRedactedPercent: 20, maxRedactedRows: 1000),
          datasets: [users]))
    #expect(pipeline.file == "p.yaml")
    #expect(pipeline.api.baseURL == "https://api.x.com")
    #expect(pipeline.api.token.exposed == "hunter2-token")
    #expect(pipeline.api.allowedHosts == ["api.x.com"])
    #expect(pipeline.definition.dataset(named: "users") == users)
    #expect(pipeline.definition.dataset(named: "posts") == nil)
  }

  private static let minimal = #"""
    name: minimal
    warehouse: ""
    api: {bearer_token: t}
    datasets:
      zebras:
        type: users
        table: users
        id: id
        actions: {deleted: delete, suspended: ignore, deactivated: delete, protected: delete}
      antelopes:
        type: users
        table: '"My Schema"."my ""table"""'
        id: id
        where: "a < now() - interval '1 hour'"
        atomic: chunk
        tombstones: false
        chunk: {ids: 6_000_000}
        actions:
          protected: {protect: {set: {a: null, b: "null", c: 5, d: 'x'}}}
          deactivated: {scrub_geo: [b, a]}
          suspended: rehydrate
          deleted: delete
    """#

  @Test func anOmittedKeyHasItsDefault() throws {
    // If the connection string is empty, libpq uses the PG* variables. The key is required nevertheless.
    let yaml = Self.minimal.editing("warehouse: \"\"", to: "warehouse: ${EMPTY}")
    let pipeline = try Samples.parse(yaml)
    #expect(pipeline.api.baseURL == "https://api.x.com")
    #expect(pipeline.api.pollSeconds == 30)
    #expect(pipeline.api.pollSecondsMax == 60)
    #expect(pipeline.api.jobAttemptsMax == 3)
    #expect(pipeline.api.jobHoursMax == 24)
    #expect(
      pipeline.definition.limits
        == RedactionLimits(maxRedactedPercent: 20, maxRedactedRows: 1_000_000))
    // The datasets are in the order of the file, not in alphabetical order.
    #expect(pipeline.definition.datasets.map(\.name) == ["zebras", "antelopes"])
    let first = pipeline.definition.datasets[0]
    #expect(first.chunkIDsMax == 6_000_000 && first.chunkBytesMax == 120_000_000)
    #expect(
      first.batch == BatchLimits(events: 10_000, rows: 20_000) && first.tombstones
        && first.condition == nil)
    #expect(first.table == TableName(schema: nil, name: "users"))
    let second = pipeline.definition.datasets[1]
    #expect(second.table == TableName(schema: "My Schema", name: "my \"table\""))
    #expect(second.batch == nil && !second.tombstones)
    #expect(second.condition == "a < now() - interval '1 hour'")
    #expect(
      second.actions == [
        .deleted: .delete, .suspended: .rehydrate(mark: []),
        .deactivated: .scrubGeo(
          Erasure(set: [
            ColumnValue(column: "b", value: nil), ColumnValue(column: "a", value: nil),
          ])),
        .protected: .protect(
          set: [
            ColumnValue(column: "a", value: nil), ColumnValue(column: "b", value: "null"),
            ColumnValue(column: "c", value: "5"), ColumnValue(column: "d", value: "x"),
          ], restore: .none),
      ])
  }

  @Test(arguments: [
    ("${TABLE}", "warehouse.posts"), ("${NOT_SET:-a.b}", "a.b"), ("${EMPTY:-a.b}", "a.b"),
    ("${TABLE:-a.b}", "warehouse.posts"), ("x${EMPTY}y", "xy"),
    ("${NOT_SET:-a}.${NOT_SET:-b}", "a.b"),
    ("a$$b", "a$b"), ("$${TABLE}", "${TABLE}"), ("a$b", "a$b"), ("a$", "a$"), ("$$$$", "$$"),
    ("${NOT_SET:-a:-b}", "a:-b"), ("$$${TABLE}", "$warehouse.posts"),
  ])
  func variablesAreReplacedByTheirValues(text: String, value: String) throws {
    let yaml = Samples.good.editing("id: user_id", to: "id: '\(text)'")
    #expect(try Samples.parse(yaml).definition.datasets[0].id.column == value)
  }

  /// The content of a variable is a value, never YAML.
  @Test func aVariablesValueMayContainAnyText() throws {
    let value = "a: {b}\n- 'c' \"d\" # ${TABLE} $$"
    let yaml = Samples.good.editing("id: user_id", to: "id: ${ODD}")
    let pipeline = try Pipeline.parse(
      yaml: yaml, file: "p.yaml",
      environment: Samples.environment.merging(["ODD": value]) { $1 })
    #expect(pipeline.definition.datasets[0].id.column == value)
  }

  @Test(arguments: [
    ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1:8080"),
    ("http://localhost:8080/", "http://localhost:8080", "localhost:8080"),
    ("https://api.x.com/", "https://api.x.com", "api.x.com"),
    ("https://api.x.com:8443", "https://api.x.com:8443", "api.x.com:8443"),
    ("http://127.9.8.7:80", "http://127.9.8.7:80", "127.9.8.7:80"),
    ("http://LOCALHOST", "http://LOCALHOST", "LOCALHOST"),
  ])
  func theAPIsOwnHostIsAlwaysAllowed(url: String, base: String, host: String) throws {
    let yaml = Samples.good.editing(
      "https://api.x.com", to: "\(url)\n  allowed_hosts: [storage.googleapis.com]")
    let api = try Samples.parse(yaml).api
    #expect(api.baseURL == base)
    #expect(api.allowedHosts == ["storage.googleapis.com", host])
  }

  @Test func theLongestPollIntervalIsNotShorterThanTheFirst() throws {
    let yaml = Samples.good.editing(
      "https://api.x.com", to: "https://api.x.com\n  poll_seconds: 90")
    let api = try Samples.parse(yaml).api
    #expect(api.pollSeconds == 90 && api.pollSecondsMax == 90)
  }

  @Test func networkSettingsAreNotReadIfTheTokenIsNotRead() throws {
    var environment = Samples.environment
    environment["HTTPS_PROXY"] = "ftp://nowhere"
    environment["SSL_CERT_FILE"] = "/nowhere"
    let yaml = Samples.good.editing(
      "https://api.x.com", to: "https://api.x.com\n  ca_file: none.pem")
    func load(_ readingToken: Bool) throws -> Pipeline {
      try Pipeline.parse(
        yaml: yaml, file: "p.yaml", environment: environment, readingToken: readingToken)
    }
    #expect(try load(false).api.network.certificates == [])
    let error = #expect(throws: DefinitionError.self) { try load(true) }
    #expect(error?.all.count == 2)
  }

  @Test func theCertificateFilesPathIsRelativeToTheDefinitionsFolder() throws {
    try withTemporaryDirectory { directory in
      let file = directory.appending("ca.pem").string
      try Data("-----BEGIN CERTIFICATE-----".utf8).write(to: URL(fileURLWithPath: file))
      let yaml = Samples.good.editing(
        "https://api.x.com", to: "https://api.x.com\n  ca_file: ./ca.pem")
      var environment = Samples.environment
      environment["SSL_CERT_DIR"] = "/a:/b"
      let pipeline = try Pipeline.parse(
        yaml: yaml, file: directory.appending("p.yaml").string, environment: environment)
      #expect(
        pipeline.api.network.certificates == [
          .init(path: "/a", origin: "SSL_CERT_DIR"), .init(path: "/b", origin: "SSL_CERT_DIR"),
          .init(path: file, origin: "api.ca_file"),
        ])
    }
  }

  @Test func aTokenMayComeFromAFile() throws {
    try withTemporaryDirectory { directory in
      let file = directory.appending("token").string
      try Data("  hunter2-file\n".utf8).write(to: URL(fileURLWithPath: file))
      let yaml = Samples.good.editing(
        "bearer_token: ${X_BEARER_TOKEN}", to: "bearer_token_file: \(file)")
      #expect(try Samples.parse(yaml).api.token == BearerToken("hunter2-file"))
      try Data("two\nlines".utf8).write(to: URL(fileURLWithPath: file))
      #expect {
        try Samples.parse(yaml)
      } throws: { error in
        (error as? DefinitionError)?.line == 5 && !"\(error)".contains("two")
      }
    }
  }

  // MARK: The project's own definitions

  @Test(arguments: ["demo", "nightly"])
  func theProjectsOwnDefinitionsLoad(name: String) throws {
    let file = "\(repositoryRootPath)/pipelines/\(name).yaml"
    let pipeline = try Pipeline.load(file: file, environment: Samples.environment)
    #expect(pipeline.definition.name == name)
    #expect(pipeline.definition.datasets.map(\.name) == ["posts", "users"])
    for dataset in pipeline.definition.datasets {
      #expect(Set(dataset.actions.keys) == Set(Reason.documented(for: dataset.type)))
    }
    #expect(pipeline.definition.datasets[1].targets.map(\.table.name) == ["reposts", "posts"])
    #expect(
      pipeline.definition.datasets[1].targets[1].targets.map(\.table.name) == [
        "post_media", "reposts",
      ])
    #expect {
      try Pipeline.load(file: file, environment: ["X_BEARER_TOKEN": "t"])
    } throws: { error in
      (error as? DefinitionError)?.message == "the environment variable DATABASE_URL is not set"
    }
  }

  @Test func aFileThatCannotBeReadIsReported() throws {
    func error(_ file: String) -> DefinitionError? {
      do {
        _ = try Pipeline.load(file: file, environment: [:])
        return nil
      } catch {
        return error as? DefinitionError
      }
    }
    #expect(error("/nowhere/p.yaml")?.file == "/nowhere/p.yaml")
    #expect(error("/nowhere/p.yaml")?.message == "cannot read the file")
    try withTemporaryDirectory { directory in
      let file = directory.appending("p.yaml").string
      try Data([0x6E, 0xFF]).write(to: URL(fileURLWithPath: file))
      #expect(error(file)?.message == "the file is not UTF-8")
    }
  }

  // MARK: Secrets and the stored copy

  @Test(arguments: ["demo", "nightly"])
  func theStoredCopyIsEqualAndContainsNoSecret(name: String) throws {
    let pipeline = try Pipeline.load(
      file: "\(repositoryRootPath)/pipelines/\(name).yaml", environment: Samples.environment)
    let data = try JSONEncoder().encode(pipeline.definition)
    #expect(try JSONDecoder().decode(Definition.self, from: data) == pipeline.definition)
    #expect(!String(decoding: data, as: UTF8.self).contains("hunter2"))
  }

  @Test func aPipelinesDescriptionContainsNoSecret() throws {
    let pipeline = try Samples.parse(Samples.good)
    var dumped = ""
    dump(pipeline, to: &dumped)
    for text in ["\(pipeline)", String(reflecting: pipeline), "\(pipeline.api)", dumped] {
      #expect(!text.contains("hunter2"))
      #expect(text.contains("api.x.com"))
    }
  }

  // MARK: Lines

  @Test(
    arguments: [
      ("name", 1), ("api.bearer_token", 5), ("datasets", 9), ("datasets.users", 10),
      ("datasets.users.table", 12), ("datasets.users.actions.deactivated", 18),
      ("datasets.users.actions.protected.protect.set.visibility", 19),
      ("datasets.users.targets[0]", 21), ("datasets.users.targets[0].match", 22),
      ("datasets.users.targets[0].targets[0].table", 28),
      ("datasets.users.targets[0].targets[0].match", 29),
      // The line of a missing key is the line of the nearest key that contains it.
      ("datasets.users.where", 10), ("datasets.users.targets[0].actions.suspended", 25),
      ("datasets.users.targets[7].table", 20), ("nothing.at.all", nil),
    ] as [(String, Int?)])
  func everyKeyIsReportedWithItsLine(path: String, line: Int?) throws {
    #expect(try Samples.parse(Samples.good).line(of: path) == line)
  }

  @Test(arguments: ["scrub_geo", "geo_scrubbed"])
  func bothNamesOfTheGeoReasonHaveTheirLine(word: String) throws {
    let yaml = """
      name: posts
      warehouse: x
      api: {bearer_token: t}
      datasets:
        posts: {type: tweets, table: posts, id: id, actions: {
          deleted: delete, bounced: delete, suspended: delete, deactivated: delete,
          protected: ignore, tweet_edited: ignore,
          \(word): {scrub_geo: [latitude]}}}
      """
    let pipeline = try Samples.parse(yaml)
    #expect(pipeline.line(of: "datasets.posts.actions.geo_scrubbed") == 8)
    #expect(
      pipeline.definition.datasets[0].actions[.geoScrubbed]
        == .scrubGeo(
          Erasure(set: [ColumnValue(column: "latitude", value: nil)])))
  }

  /// A run's definition is stored as JSON. After an upgrade, the new version must read the JSON of the earlier version.
  @Test func aStoredDefinitionOfAnEarlierVersionIsRead() throws {
    let json = """
      {"name": "n", "limits": {"maxRedactedPercent": 20, "maxRedactedRows": 5}, "datasets": [
        {"name": "posts", "type": "tweets", "table": {"schema": "s", "name": "t"}, "id": "i",
         "chunkIDsMax": 10, "chunkBytesMax": 200, "targets": [], "tombstones": true, "batchEvents": 7,
         "actions": {"deleted": {"delete": {}}, "geo_scrubbed": {"scrubGeo": {"_0": ["a", "b"]}},
                     "tweet_edited": {"rehydrate": {}}}}]}
      """
    let definition = try JSONDecoder().decode(Definition.self, from: Data(json.utf8))
    #expect(
      definition.limits == RedactionLimits(maxRedactedPercent: 20, maxRedactedRows: 5))
    let dataset = try #require(definition.datasets.first)
    #expect(dataset.batch == BatchLimits(events: 7, rows: 14))
    #expect(
      dataset.actions == [
        .deleted: .delete, .tweetEdited: .rehydrate(mark: []),
        .geoScrubbed: .scrubGeo(
          Erasure(set: [
            ColumnValue(column: "a", value: nil), ColumnValue(column: "b", value: nil),
          ])),
      ])
    let again = try JSONDecoder().decode(
      Definition.self, from: JSONEncoder().encode(definition))
    #expect(again == definition)
  }
}

@Suite struct TableNameTests {
  @Test(
    arguments: [
      ("posts", nil, "posts"), ("a.b", "a", "b"), ("A.bÉ", "A", "bÉ"), ("\"a.b\".c", "a.b", "c"),
      ("a.\"b c\"", "a", "b c"), ("\"\"\"\"", nil, "\""), ("\"a\".\"b\"", "a", "b"),
    ] as [(String, String?, String)])
  func aTableNameIsReadAsWritten(text: String, schema: String?, name: String) {
    #expect(TableName(text) == TableName(schema: schema, name: name))
  }

  @Test(arguments: [
    "", ".", "a.", ".a", "a..b", "a.b.c", "a b", "a\"b", "\"a", "\"a\"b", "\"\"", "\"a\".", "a;\tb",
  ])
  func anInvalidTableNameIsRefused(text: String) {
    #expect(TableName(text) == nil)
  }
}
