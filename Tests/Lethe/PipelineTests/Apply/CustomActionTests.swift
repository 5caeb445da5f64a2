import Definitions
import Ledger
import PostgreSQL
import Runtime
import SQLText
import TestSupport
import Testing
import Vocabulary
import Warehouse

@testable import DefinitionFiles

/// An example of an action that is not part of Lethe. It replaces each character of a text with an asterisk. A new
/// action needs only such a type, an entry in the vocabulary, and a label of the enum `lethe.action`.
private struct MaskAction: RowAction {
  static let word = "mask"
  static let isRedacting = true

  let names: [String]

  static func read(_ map: YAMLMap) -> MaskAction? {
    map.strings(word).map { MaskAction(names: $0.value) }
  }

  var written: String { "{mask: [\(columns.joined(separator: ", "))]}" }
  var columns: [String] { names }

  func renamingColumns(_ name: (String) -> String) -> MaskAction {
    MaskAction(names: names.map(name))
  }

  init(names: [String]) { self.names = names }

  init(stored container: KeyedDecodingContainer<StoredKey>) throws {
    names = try container.decode([String].self, forKey: "columns")
  }

  func encode(into container: inout KeyedEncodingContainer<StoredKey>) throws {
    try container.encode(names, forKey: "columns")
  }

  var requirements: [ActionRequirement] {
    [.update(names)] + names.map { .value(ColumnValue(column: $0, value: "*")) }
  }

  var operation: RowOperation? { .update }
  var columnsSet: [String] { names }

  func assignments(_ row: some RowSQL) -> [SQL] {
    names.map { "\(identifier: $0) = \(Self.mask(row.column($0)))" }
  }

  func needsChange(_ row: some RowSQL) -> SQL? {
    .any(names.map { "\(row.column($0)) IS DISTINCT FROM \(Self.mask(row.column($0)))" })
  }

  private static func mask(_ column: SQL) -> SQL { "repeat('*', length(\(column)))" }
}

@Suite struct CustomActionTests {
  private static let table = UnusualTable(
    "masked",
    tables: """
      CREATE TABLE shop.posts (id bigint PRIMARY KEY, body text);
      INSERT INTO shop.posts VALUES (1, 'one'), (2, 'second'), (3, NULL), (4, 'four');
      """,
    actions: ["deleted": "{mask: [body]}", "bounced": "delete"],
    events: [(2, "deleted"), (3, "deleted"), (4, "bounced")], remaining: ["one", "******"])

  private static func withMask<R>(
    _ body: () async throws -> R
  ) async throws -> R {
    let vocabulary = ActionVocabulary(ActionVocabulary.standard.kinds + [MaskAction.self])
    return try await ActionVocabulary.$current.withValue(vocabulary) { try await body() }
  }

  @Test func aNewActionNeedsATypeAnEntryAndALabel() async throws {
    try await Self.withMask {
      try await PipelineFixture.with(Self.table) { fixture in
        try await fixture.execute("ALTER TYPE lethe.action ADD VALUE 'mask'")
        let pipeline = try fixture.pipeline { _ in Self.table.definition }
        let report = try await fixture.withRuntime(pipeline) { runtime in
          _ = try await runtime.export()
          while try await runtime.submit().chunks > 0 { _ = try await runtime.awaitJobs() }
          _ = try await runtime.collect()
          return try await runtime.plan()
        }
        // The plan contains the action, so the run's copy of the definition contains it, too.
        #expect(
          report.chunks.flatMap(\.rows).map { "\($0.action) \($0.table) \($0.reason) \($0.rows)" }
            == ["mask shop.posts deleted 1", "delete shop.posts bounced 1"])
        for _ in 1...2 {
          _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
          #expect(
            try await fixture.database.withConnection {
              try await $0.query("SELECT coalesce(body, 'NULL') FROM shop.posts ORDER BY id")
                .rows(as: String.self)
            } == ["one", "******", "NULL"])
        }
        #expect(
          try await fixture.database.withConnection {
            try await $0.query(
              """
              SELECT id::text || ' ' || action || ' ' || coalesce(changed::text, '')
              FROM lethe.event ORDER BY id
              """
            ).rows(as: String.self)
          } == [
            #"2 mask {"mask shop.posts": 1}"#, "3 mask ", #"4 delete {"delete shop.posts": 1}"#,
          ])
      }
    }
  }

  @Test func theColumnsOfANewActionAreChecked() async throws {
    try await Self.withMask {
      try await PipelineFixture.with(Self.table) { fixture in
        let wrong = Self.table.definition.editing("[body]", to: "[boddy]")
        let pipeline = try fixture.pipeline { _ in wrong }
        let findings = try await fixture.database.withConnection {
          try await Catalog(of: pipeline.definition, on: $0).check(pipeline.definition, on: $0)
        }
        #expect(findings.contains { $0.message.contains("has no column boddy") }, "\(findings)")
      }
    }
  }

  @Test func anActionThatIsNotRegisteredIsUnknown() throws {
    #expect {
      try Pipeline.parse(
        yaml: Self.table.definition, file: "f.yaml",
        environment: ["DATABASE_URL": "", "COMPLIANCE_API_URL": "http://127.0.0.1:1"])
    } throws: {
      "\($0)".contains("unknown key datasets.posts.actions.deleted.mask")
    }
  }
}
