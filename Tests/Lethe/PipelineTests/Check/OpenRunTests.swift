import Definitions
import PostgreSQL
import Runtime
import TestSupport
import Testing
import Warehouse

/// The findings of `lethe check` about runs that are not finished.
@Suite struct OpenRunTests {
  /// An edit of the definition file after a run has started, and the difference that the check reports.
  struct Edit: Sendable, CustomTestStringConvertible {
    let old: String
    let new: String
    let part: String
    var testDescription: String { part }
  }

  private static let edits = [
    Edit(
      old: "max_redacted_percent: 100", new: "max_redacted_percent: 90",
      part: "limits.max_redacted_percent: 100 became 90"),
    Edit(
      old: "deactivated: delete\n      deleted: delete\n      geo",
      new: "deactivated: ignore\n      deleted: delete\n      geo",
      part: "datasets.posts.actions.deactivated"),
    Edit(
      old: "    table: shop.users\n    id: user_id",
      new: "    table: shop.posts\n    id: author_id", part: "datasets.users.table"),
    Edit(old: "    id: post_id", new: "    id: author_id", part: "datasets.posts.id"),
    Edit(
      old: "    id: post_id", new: "    id: post_id\n    where: post_id > 1",
      part: "datasets.posts.where"),
    Edit(
      old: "    id: post_id", new: "    id: post_id\n    batch: 7", part: "datasets.posts.batch"),
    Edit(
      old: "    id: post_id", new: "    id: post_id\n    chunk: {ids: 70}",
      part: "datasets.posts.chunk"),
    Edit(
      old: "    id: post_id", new: "    id: post_id\n    tombstones: false",
      part: "datasets.posts.tombstones"),
    Edit(
      old: "      - table: shop.posts\n        match: author_id",
      new: "      - table: shop.reposts\n        match: author_id",
      part: "datasets.users.targets[0].table"),
    Edit(
      old: "match: author_id", new: "match: post_id", part: "datasets.users.targets[0].match"
    ),
    Edit(
      old: "  posts:\n    type", new: "  articles:\n    type",
      part: "datasets.posts: a dataset of type tweets was removed"),
    Edit(
      old: "  posts:\n    type", new: "  articles:\n    type",
      part: "datasets.articles: a dataset of type tweets was added"),
  ]

  private static func withOpenRun(
    _ body: @escaping @Sendable (NightlyFixture) async throws -> Void
  ) async throws {
    try await NightlyFixture.with(
      Shop(), "INSERT INTO posts (post_id, author_id) VALUES (1, 1), (2, 1)"
    ) {
      nights in
      _ = try await nights.withRuntime { try await $0.export() }
      try await body(nights)
    }
  }

  private static func openRunFindings(_ nights: NightlyFixture) async throws -> [String] {
    try await nights.findings().filter { $0.path == "name" }.map { "\($0.message); \($0.remedy)" }
  }

  @Test func anOpenRunOfTheSameDefinitionIsReported() async throws {
    try await Self.withOpenRun { nights in
      let findings = try await Self.openRunFindings(nights)
      #expect(findings.count == 1)
      for text in [
        "run 1 has been open since 20", "running, 1 chunks: 1 exported",
        "its definition is the same as the file", "lethe run shop.yaml",
      ] { #expect(findings.first?.contains(text) == true, "\(findings)") }
      _ = try await nights.withRuntime { try await $0.run(resumeOnly: true) }
      #expect(try await Self.openRunFindings(nights) == [])
    }
  }

  /// A limit has stopped a chunk of the run. The run continues only after an operator approves the chunk.
  @Test func theCommandThatApprovesAStoppedChunkIsReported() async throws {
    try await Self.withOpenRun { nights in
      try await nights.execute(
        """
        UPDATE lethe.chunk
        SET state = 'collected', created_at = now(), uploaded_at = now(), completed_at = now(),
            collected_at = now(), events = 0, quarantined = 0, applied_through = first_id - 1,
            stopped_reason = 'too many'
        WHERE dataset = 'posts'
        """)
      let chunk = try await nights.rows(
        "SELECT chunk_id FROM lethe.chunk WHERE dataset = 'posts'")
      let findings = try await Self.openRunFindings(nights)
      let number = chunk.first?.filter(\.isNumber) ?? ""
      #expect(
        findings.first?.contains("lethe apply shop.yaml --approve \(number)") == true, "\(findings)"
      )
      #expect(findings.first?.contains("it finishes this run first") == false)
    }
  }

  @Test(arguments: edits)
  func differencesBetweenTheFileAndTheRunAreReported(edit: Edit) async throws {
    try await Self.withOpenRun { nights in
      try nights.edit(edit.old, to: edit.new)
      let findings = try await Self.openRunFindings(nights)
      #expect(findings.count == 1)
      for text in ["it continues with its copy of the definition", edit.part, "--give-up"] {
        #expect(findings.first?.contains(text) == true, "\(findings)")
      }
    }
  }

  @Test func anOpenRunWithAnUnreadableDefinitionIsReported() async throws {
    try await Self.withOpenRun { nights in
      try await nights.execute("UPDATE lethe.run SET definition = '{\"of\": \"another time\"}'")
      let findings = try await Self.openRunFindings(nights)
      #expect(findings.count == 1)
      #expect(findings.first?.contains("cannot be read by this version") == true, "\(findings)")
    }
  }

  @Test(arguments: [false, true])
  func aPipelineThatWasProbablyRenamedIsReported(fileMoved: Bool) async throws {
    try await Self.withOpenRun { nights in
      if fileMoved {
        try await nights.execute("UPDATE lethe.run SET definition_file = '/elsewhere/old.yaml'")
      } else {
        try await nights.execute("UPDATE lethe.run SET definition = definition #- '{datasets,1}'")
      }
      try nights.edit("name: shop", to: "name: store")
      let findings = try await Self.openRunFindings(nights)
      #expect(findings.count == 1)
      for text in [
        "no run of store yet", "run 1 of the pipeline shop", "seems that the pipeline was renamed",
        fileMoved ? "the same datasets and tables" : "the same file", "--give-up",
      ] { #expect(findings.first?.contains(text) == true, "\(findings)") }
    }
  }

  @Test func runsOfAnotherPipelineAreNotReported() async throws {
    try await Self.withOpenRun { nights in
      try await nights.execute(
        """
        UPDATE lethe.run SET definition_file = '/elsewhere/old.yaml',
          definition = jsonb_set(definition, '{datasets,0,table,name}', '"others"')
        """)
      try nights.edit("name: shop", to: "name: store")
      #expect(try await Self.openRunFindings(nights) == [])
    }
  }
}
