import Foundation
import Ledger
import PostgreSQL
import TestSupport
import Testing
import Vocabulary

/// Compares docs/reference/ledger.md with a migrated database.
@Suite struct LedgerReferenceTests {
  private static let path = "docs/reference/ledger.md"

  @Test func thePageHasEachTableAndColumn() async throws {
    let columns = try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection in
        try await connection.query(
          """
          SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
          JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          WHERE n.nspname = 'lethe' AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
          ORDER BY c.relname, a.attnum
          """
        ).rows(as: String.self, String.self, String.self, Bool.self)
      }
    }
    let known = Dictionary(grouping: columns, by: \.0).mapValues { rows in
      rows.map { "\($0.1) \(Self.short($0.2))\($0.3 ? "" : " or null")" }
    }
    #expect(known.count > 20)
    var documented: [String: [String]] = [:]
    for section in try Page(Self.path).sections {
      guard let name = quoted(section.heading).first, name.hasPrefix("lethe.") else { continue }
      documented[String(name.dropFirst("lethe.".count))] = section.rows.map {
        "\(quoted($0[0]).first ?? "") \($0[1])"
      }
    }
    for table in Set(known.keys).union(documented.keys).sorted() {
      #expect(documented[table] == known[table], "the columns of lethe.\(table)")
    }
  }

  private static func short(_ type: String) -> String {
    type.replacing("timestamp with time zone", with: "timestamptz").replacing("lethe.", with: "")
  }

  @Test func thePageHasEachEnumAndItsLabels() async throws {
    let labels = try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection in
        try await connection.query(
          """
          SELECT t.typname, string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder)
          FROM pg_type AS t JOIN pg_enum AS e ON e.enumtypid = t.oid
          JOIN pg_namespace AS n ON n.oid = t.typnamespace
          WHERE n.nspname = 'lethe' GROUP BY 1 ORDER BY 1
          """
        ).rows(as: String.self, String.self)
      }
    }
    let rows = try Page(Self.path).section("Types").rows
    #expect(rows.map { quoted($0[0]).first } == labels.map(\.0))
    for (row, label) in zip(rows, labels) {
      #expect(quoted(row[1]).joined(separator: ", ") == label.1, "\(label.0)")
    }
    let states = RunState.allCases.map(\.rawValue).joined(separator: ", ")
    #expect(labels.contains { $0 == ("run_status", states) })
  }

  /// The diagram's arrows are exactly the transitions between the states of a chunk.
  @Test func theDiagramHasEachTransitionOfAChunk() throws {
    let diagram = try #require(
      try Page(Self.path).codeBlocks.first { $0.language == "mermaid" }?.text)
    let arrows = diagram.matches(of: /(?m)^ *([a-z\[\]*]+) --> ([a-z\[\]*]+)/)
      .map { "\($0.1) \($0.2)" }.filter { !$0.contains("[*]") }
    #expect(arrows.count == Set(arrows).count)
    #expect(
      Set(arrows)
        == Set(ChunkTransition.all.flatMap { move in move.from.map { "\($0) \(move.to)" } }))
    let states = arrows.flatMap { $0.split(separator: " ").map(String.init) }
    #expect(Set(states) == Set(ChunkState.allCases.map(\.rawValue)))
  }

  @Test func thePageShowsTheColumnsAndTheCallerOfEachTransition() throws {
    let rows = try Page(Self.path).section("The states of a chunk").rows
    let known = ChunkTransition.all.map { move in
      func list(_ names: [String]) -> String { names.map { "`\($0)`" }.joined(separator: ", ") }
      return [
        list(move.from.map(\.rawValue)), list([move.to.rawValue]),
        move.timeSet.map { "sets `\($0)`" } ?? "clears \(list(move.timesCleared))",
        move.by.map(\.rawValue).joined(separator: ", "),
      ]
    }
    #expect(rows == known)
  }

  /// The queries on the metrics page work on the ledger.
  @Test func theQueriesForMetricsWork() async throws {
    let queries = try Page("docs/reference/metrics.md").codeBlocks.filter { $0.language == "sql" }
    #expect(queries.count == 5)
    try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection in
        for query in queries {
          _ = try await connection.query(
            SQL(trusted: query.text.trimmingCharacters(in: ["\n", ";"])))
        }
      }
    }
  }
}
