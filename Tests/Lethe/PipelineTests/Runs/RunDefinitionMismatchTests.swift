import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// Tests of runs whose own copy of the definition does not match the tables any more. Other runs must continue.
@Suite struct RunDefinitionMismatchTests {
  /// A change to the tables of an open run and to the file.
  struct Kind: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let sql: SQL
    /// Replacements in the file: the old and the new text.
    let edits: [(String, String)]
    /// Parts of the message about the mismatch.
    let messageParts: [String]
    /// A replacement in the file before the run begins: the old and the new text.
    var first: (String, String)?

    func before(_ text: String) -> String {
      first.map { text.editing($0.0, to: $0.1) } ?? text
    }

    func after(_ text: String) -> String {
      edits.reduce(before(text)) { $0.editing($1.0, to: $1.1) }
    }
  }

  private static let renamePlaceID: SQL =
    "ALTER TABLE warehouse.posts RENAME COLUMN place_id TO place"

  static let kinds = [
    Kind(
      testDescription: "a column of an action is renamed", sql: renamePlaceID,
      edits: [("longitude, place_id]", "longitude, place]")],
      messageParts: [
        "warehouse.posts has no column place_id", "datasets.posts.actions.geo_scrubbed",
        "{scrub_geo: [latitude, longitude, place]}",
      ]),
    Kind(
      testDescription: "a column of an action is dropped",
      sql: "ALTER TABLE warehouse.posts DROP COLUMN place_id",
      edits: [("longitude, place_id]", "longitude]")],
      messageParts: [
        "warehouse.posts has no column place_id", "{scrub_geo: [latitude, longitude]}",
      ]),
    Kind(
      testDescription: "the column of a target is renamed",
      sql: "ALTER TABLE warehouse.post_media RENAME COLUMN post_id TO of_post",
      edits: [
        ("\n        match: post_id", "\n        match: of_post"),
        ("\n            match: post_id", "\n            match: of_post"),
      ],
      messageParts: [
        "warehouse.post_media has no column post_id", "datasets.posts.targets[0].match",
      ]),
    Kind(
      testDescription: "the IDs' column is renamed",
      sql: "ALTER TABLE warehouse.users RENAME COLUMN user_id TO account_id",
      edits: [("id: user_id", "id: account_id")],
      messageParts: ["warehouse.users has no column user_id", "datasets.users.id"]),
    Kind(
      testDescription: "a column of the condition is renamed", sql: renamePlaceID,
      edits: [
        ("longitude, place_id]", "longitude, place]"),
        ("place_id IS NULL", "\\\"place\\\"  IS NULL"),
      ], messageParts: ["datasets.posts.where"],
      first: ("id: post_id\n    chunk", "id: post_id\n    where: \"place_id IS NULL\"\n    chunk")),
  ]

  private func file(
    _ fixture: RefusalFixture, _ change: (String) -> String = { $0 }
  ) throws -> String {
    try fixture.base.definitionFile { change(RefusalFixture.definition("batch: 20", ids: 30)($0)) }
  }

  private func error(_ result: Program.Result) throws -> (message: String, remedy: String) {
    let error = try #require(
      result.json["error"] as? [String: Any], "\(result.stdout) \(result.stderr)")
    return (error["message"] as? String ?? "", error["remedy"] as? String ?? "")
  }

  @Test(arguments: sampled(kinds, 3))
  func aMismatchIsReportedAndTheCurrentFileCanBeAdopted(kind: Kind) async throws {
    try await RefusalFixture.with { fixture in
      #expect(try await fixture.lethe("export", try file(fixture, kind.before)).code == 0)
      try await fixture.base.execute(kind.sql)
      let file = try file(fixture, kind.after)
      for run in 2...3 {
        let result = try await fixture.lethe("run", file, "--output", "json")
        #expect(result.code == 1, "\(result.stderr)")
        let (message, remedy) = try error(result)
        for part in ["run 1 of night", "its copy of the definition"] + kind.messageParts {
          #expect(message.contains(part), "\(part): \(message)")
        }
        #expect(remedy.contains("lethe run \(file) --adopt-definition"))
        #expect(remedy.contains("lethe run \(file) --give-up"))
        // The new run is done.
        #expect(result.json["run_id"] as? Int == run)
        #expect(result.json["status"] as? String == "done")
        #expect(try await fixture.unfinishedPosts() == [])
      }
      let status = try await fixture.lethe("status")
      #expect(status.code == 0 && status.stdout.contains("run 1 of night cannot continue"))
      #expect(status.stdout.contains("lethe run \(file) --give-up"), "\(status.stdout)")
      let plan = try await fixture.lethe("plan", file)
      #expect(plan.code == 0 && plan.stdout.contains("run 1 of night"), "\(plan.stdout)")
      #expect(try await fixture.lethe("run", file, "--resume-only").code == 1)

      let adopted = try await fixture.lethe(
        "run", file, "--adopt-definition", "--by", "Ann", "--note", "columns have other names",
        "--resume-only", "--output", "json")
      #expect(adopted.code == 0, "\(adopted.stdout) \(adopted.stderr)")
      let adoption = try #require((adopted.json["adopted"] as? [[String: Any]])?.first)
      #expect(adoption["run_id"] as? Int == 1 && adoption["seal"] as? Int != nil)
      #expect(try await !fixture.lethe("status").stdout.contains("cannot continue"))
      #expect(try await fixture.base.ledgerFaults() == [])
      #expect(try await fixture.lethe("audit", "verify").code == 0)
      let shown = try await fixture.lethe("audit", "show", "4")
      #expect(shown.stdout.contains("by Ann: columns have other names"), "\(shown.stdout)")
    }
  }

  /// The current file does not match the tables. Earlier runs continue, and Lethe reports all mistakes in the file.
  @Test func finishedRunsAreReportedEvenIfNoNewRunCanBegin() async throws {
    try await RefusalFixture.with { fixture in
      #expect(try await fixture.lethe("export", try file(fixture)).code == 0)
      let broken = try file(fixture) {
        $0.editing("longitude, place_id]", to: "longitude, spot]")
          .editing("id: user_id", to: "id: account")
      }
      let result = try await fixture.lethe("run", broken, "--output", "json")
      #expect(result.code == 2, "\(result.stderr)")
      #expect(result.json["run_id"] as? Int == 1)
      #expect(result.json["status"] as? String == "done")
      #expect(try await fixture.unfinishedPosts() == [])
      let (message, _) = try error(result)
      #expect(message.contains("the first of 2 mistakes"), "\(message)")
      for text in ["no column spot", "no column account"] {
        #expect(result.stderr.contains(text), "\(result.stderr)")
      }
      // The output also contains the run that was given up.
      #expect(try await fixture.lethe("export", try file(fixture)).code == 0)
      let brokenAgain = try file(fixture) { $0.editing("id: user_id", to: "id: account") }
      let givenUp = try await fixture.lethe("run", brokenAgain, "--give-up", "--output", "json")
      #expect(givenUp.code == 2, "\(givenUp.stderr)")
      #expect((givenUp.json["given_up"] as? [[String: Any]])?.count == 1, "\(givenUp.stdout)")
      #expect(givenUp.json["status"] as? String == "failed")
      // Without an open run, the command does nothing and prints the object of a failure.
      let again = try await fixture.lethe("run", brokenAgain, "--output", "json")
      #expect(again.code == 2 && again.json["status"] as? String == "failed")
      let plan = try await fixture.lethe(
        "plan",
        try file(fixture) {
          $0.editing("longitude, place_id]", to: "longitude, spot]")
            .editing("id: user_id", to: "id: account")
        })
      #expect(plan.code == 2, "\(plan.stderr)")
      for text in ["no column spot", "no column account"] {
        #expect(plan.stderr.contains(text), "\(plan.stderr)")
      }
    }
  }

  /// The current file names the same missing column, so adopting the file would change nothing.
  @Test func adoptionIsNotSuggestedIfTheCurrentFileHasTheSameProblem() async throws {
    try await RefusalFixture.with { fixture in
      let file = try file(fixture)
      #expect(try await fixture.lethe("export", file).code == 0)
      try await fixture.base.execute(Self.renamePlaceID)
      let result = try await fixture.lethe("apply", file, "--output", "json")
      #expect(result.code == 1, "\(result.stderr)")
      let (message, remedy) = try error(result)
      #expect(message.contains("has no column place_id"), "\(message)")
      #expect(remedy.contains("its columns: "), "\(remedy)")
      #expect(!remedy.contains("--adopt-definition") && remedy.contains("--give-up"), "\(remedy)")
    }
  }

  @Test(arguments: sampled(kinds, 3))
  func aRunWithAMismatchCanBeGivenUp(kind: Kind) async throws {
    try await RefusalFixture.with { fixture in
      #expect(try await fixture.lethe("export", try file(fixture, kind.before)).code == 0)
      try await fixture.base.execute(kind.sql)
      let file = try file(fixture, kind.after)
      let result = try await fixture.lethe("run", file, "--give-up", "--output", "json")
      #expect(result.code == 0, "\(result.stderr)")
      #expect((result.json["given_up"] as? [[String: Any]])?.first?["run_id"] as? Int == 1)
      #expect(try await fixture.unfinishedPosts() == [])
      #expect(try await fixture.lethe("run", file).code == 0)
    }
  }

  // MARK: Changes that cannot be adopted

  /// Changes in the tables and in the file that cannot be adopted, each with the path in the message.
  static let refused: [(sql: SQL, old: String, new: String, path: String)] = [
    (
      "ALTER TABLE warehouse.post_media RENAME TO media", "table: warehouse.post_media",
      "table: warehouse.media", "datasets.posts.targets[0].table"
    ),
    (
      """
      CREATE VIEW public.v AS TABLE warehouse.posts; ALTER TABLE warehouse.posts ADD other_id bigint
      """,
      "id: post_id\n    chunk", "id: other_id\n    chunk", "datasets.posts.id"
    ),
    ("SELECT", "deleted: delete", "deleted: ignore", "datasets.posts.actions.deleted"),
    ("SELECT", "batch: 20", "atomic: chunk", "datasets.posts.batch"),
    ("SELECT", "batch: 20", "batch: 20\n    tombstones: false", "datasets.posts.tombstones"),
    ("SELECT", "batch: 20", "batch: 20\n    where: post_id > 5", "datasets.posts.where"),
    ("SELECT", "  users:\n    type", "  people:\n    type", "datasets.users"),
    (
      "SELECT", "      - table: warehouse.post_media\n        match: post_id\n",
      "      - table: warehouse.post_media\n        match: post_id\n        id: post_id\n        type: none\n",
      "datasets.posts.targets[0].id"
    ),
  ]

  /// Runs `body` after a run in which some chunks are applied and others are stopped.
  private func withStoppedRun(
    _ body: @escaping @Sendable (RefusalFixture, @Sendable (String) -> String) async throws -> Void
  ) async throws {
    try await RefusalFixture.with { fixture in
      let tight: @Sendable (String) -> String = {
        RefusalFixture.definition("batch: 20", ids: 10)($0)
          .editing("max_redacted_percent: 100", to: "max_redacted_percent: 24.5")
      }
      let file = try fixture.base.definitionFile(tight)
      #expect(try await fixture.lethe("run", file).code == 3)
      try await body(fixture, tight)
    }
  }

  private static let runAndChunks: SQL = """
    SELECT md5((SELECT string_agg(definition::text, '') FROM lethe.run)
      || (SELECT string_agg(state || coalesce(stopped_reason, '-'), ' ' ORDER BY chunk_id) FROM lethe.chunk)
      || (SELECT count(*) FROM lethe.seal) || (SELECT count(*) FROM lethe.adoption))
    """

  @Test(arguments: refused)
  func aChangeThatCannotBeAdoptedIsReportedAndRefused(
    edit: (sql: SQL, old: String, new: String, path: String)
  ) async throws {
    try await withStoppedRun { fixture, tight in
      try await fixture.base.execute(edit.sql)
      let before = try await fixture.base.value(Self.runAndChunks, as: String.self)
      let file = try fixture.base.definitionFile {
        let text = tight($0)
        #expect(text.contains(edit.old))
        let edited = text.replacing(edit.old, with: edit.new, maxReplacements: 1)
        // This table is a target of both datasets.
        return edit.sql.description.hasSuffix("TO media")
          ? edited.editing("table: warehouse.post_media", to: "table: warehouse.media") : edited
      }
      let result = try await fixture.lethe("run", file, "--adopt-definition", "--output", "json")
      #expect(result.code == 1, "\(result.stderr)")
      let (message, remedy) = try error(result)
      #expect(message.contains("run 1") && message.contains(edit.path), "\(message)")
      #expect(remedy.contains("--give-up"))
      #expect(try await fixture.base.value(Self.runAndChunks, as: String.self) == before)
    }
  }

  @Test func aStoppedChunkStaysStoppedUnderNewLimitsUntilItIsApproved() async throws {
    try await withStoppedRun { fixture, tight in
      let file = try fixture.base.definitionFile {
        tight($0).editing("max_redacted_percent: 24.5", to: "max_redacted_percent: 100")
          .editing("{scrub_geo: [latitude, longitude, place_id]}", to: "ignore")
          .editing("{ids: 10}", to: "{ids: 20}").editing("batch: 20", to: "batch: 7")
      }
      let stopped: SQL = "SELECT count(*) FROM lethe.chunk WHERE stopped_reason IS NOT NULL"
      let before = try await fixture.base.value(stopped, as: Int.self)
      #expect(before > 1)
      for arguments in [["--adopt-definition"], []] {
        let result = try await Program.run(
          "lethe", ["run", file, "--resume-only"] + arguments,
          environment: fixture.base.environment.merging(["COMPLIANCE_API_URL": fixture.url]) { $1 })
        #expect(result.code == 3, "\(result.stderr)")
        #expect(try await fixture.base.value(stopped, as: Int.self) == before)
      }
      let plan = try await fixture.lethe("plan", file)
      #expect(plan.stdout.contains("--approve"))
      let ids = try await fixture.base.database.withConnection {
        try await $0.query("SELECT chunk_id FROM lethe.chunk WHERE stopped_reason IS NOT NULL")
          .rows(as: Int64.self)
      }
      for id in ids { _ = try await fixture.lethe("apply", file, "--approve", "\(id)") }
      // The current file ignores geo_scrubbed, so post 12 keeps its location.
      #expect(try await fixture.unfinishedPosts() == [12])
      #expect(try await fixture.base.ledgerFaults() == [])
      #expect(try await fixture.lethe("audit", "verify").code == 0)
    }
  }

  @Test func tamperingWithAnAdoptionIsFound() async throws {
    try await withStoppedRun { fixture, tight in
      let file = try fixture.base.definitionFile {
        tight($0).editing("max_redacted_percent: 24.5", to: "max_redacted_percent: 25")
      }
      #expect(try await fixture.lethe("run", file, "--adopt-definition", "--resume-only").code == 3)
      #expect(try await fixture.lethe("audit", "verify").code == 0)
      for (forgery, undo) in [
        (
          "UPDATE lethe.adoption SET adopted_by = adopted_by || 'x'",
          "UPDATE lethe.adoption SET adopted_by = rtrim(adopted_by, 'x')"
        ),
        (
          """
          UPDATE lethe.run SET definition = jsonb_set(definition, '{limits,maxRedactedPercent}', '99')
          """,
          """
          UPDATE lethe.run SET definition = jsonb_set(definition, '{limits,maxRedactedPercent}', '25')
          """
        ),
        (
          "CREATE TABLE kept AS TABLE lethe.adoption; DELETE FROM lethe.adoption",
          "INSERT INTO lethe.adoption OVERRIDING SYSTEM VALUE TABLE kept"
        ),
      ] {
        try await fixture.base.execute(SQL(trusted: forgery))
        #expect(try await fixture.lethe("audit", "verify").code == 1, "\(forgery)")
        try await fixture.base.execute(SQL(trusted: undo))
        #expect(try await fixture.lethe("audit", "verify").code == 0, "\(undo)")
      }
    }
  }

  // MARK: Copies that cannot be read

  static let broken = [
    "jsonb_set(definition, '{datasets,0,actions,deleted}', '{\"erase\":{}}')",
    "jsonb_set(definition, '{datasets,0,actions,deleted}', '{}')",
    "jsonb_set(definition, '{datasets,0,actions,deleted}', '7')",
    "jsonb_set(definition, '{datasets,0,actions,withheld}', '{\"delete\":{}}')",
    "definition - 'limits'", "definition - 'datasets'", "definition #- '{datasets,0,id}'",
    "definition #- '{datasets,1,targets,0,match}'",
    "jsonb_set(definition, '{datasets,0,tombstones}', '\"yes\"')",
    "jsonb_set(definition, '{datasets,0,type}', '\"lists\"')",
    "jsonb_set(definition, '{datasets}', '{}')", "jsonb_set(definition, '{datasets}', '\"x\"')",
    "'{}'", "'[]'", "'[1]'", "'\"x\"'", "'17'", "'null'",
  ]

  /// In half of the cases, the run is only exported. In the other cases, its results are collected.
  @Test(arguments: sampled(Array(zip(broken, broken.indices.map { $0.isMultiple(of: 2) })), 5))
  func anUnreadableCopyDoesNotStopOtherRuns(definition: String, isCollected: Bool) async throws {
    try await RefusalFixture.with { fixture in
      let file = try file(fixture)
      for stage in ["export", "submit", "await", "collect"] where isCollected || stage == "export" {
        #expect(try await fixture.lethe(stage, file).code == 0)
      }
      try await fixture.base.execute("UPDATE lethe.run SET definition = \(trusted: definition)")
      for arguments in [
        ["status"], ["holds", "list"], ["quarantine", "list"], ["check", file], ["plan", file],
      ] {
        let result = try await Program.run(
          "lethe", arguments,
          environment: fixture.base.environment.merging(["COMPLIANCE_API_URL": fixture.url]) { $1 })
        #expect(result.code == 0, "\(arguments): \(result.stdout) \(result.stderr)")
      }
      let adoption = try await fixture.lethe("run", file, "--adopt-definition", "--output", "json")
      #expect(adoption.code == 1)
      #expect(try error(adoption).message.contains("nothing was changed"))
      let result = try await fixture.lethe("run", file, "--output", "json")
      #expect(result.code == 1, "\(result.stderr)")
      let (message, remedy) = try error(result)
      #expect(message.contains("run 1 of night") && message.contains("cannot read"), "\(message)")
      #expect(remedy.contains("lethe run \(file) --give-up"))
      #expect(try await fixture.unfinishedPosts() == [])
      let givenUp = try await fixture.lethe("run", file, "--give-up")
      #expect(givenUp.code == 0, "\(givenUp.stderr)")
      #expect(try await fixture.lethe("run", file).code == 0)
      #expect(try await fixture.lethe("audit", "verify").code == 0)
    }
  }

  @Test func unaskedRowsAreNotReleasedIfARunsCopyIsUnreadable() async throws {
    try await RefusalFixture.with { fixture in
      let file = try file(fixture)
      #expect(try await fixture.lethe("run", file).code == 0)
      try await fixture.base.execute("UPDATE lethe.run SET definition = definition - 'limits'")
      let other = try fixture.base.definitionFile {
        RefusalFixture.definition("batch: 20", ids: 30)($0).editing(
          "name: night", to: "name: day"
        )
        .editing(
          "id: post_id\n    chunk", to: "id: post_id\n    where: post_id < 0\n    chunk")
      }
      let release = try await fixture.lethe(
        "holds", "release", other, "--type", "tweets", "--unasked", "--force", "--note", "x")
      #expect(release.code == 1, "\(release.stdout)")
      #expect(release.stderr.contains("run 1"))
      let check = try await fixture.lethe("check", other)
      #expect(check.code == 0 && check.stdout.contains("run 1"), "\(check.stdout)")
      #expect(try await fixture.lethe("status").code == 0)
    }
  }
}
