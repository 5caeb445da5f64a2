import Foundation
import Ledger
import PostgreSQL
import Runtime
import SQLText
import TestSupport
import Testing

/// `lethe plan --sql` prints the statements of apply. PostgreSQL accepts each of them.
@Suite struct PlannedStatementTests {
  @Test func postgreSQLAcceptsEachPlannedStatement() async throws {
    try await PipelineFixture.with { fixture in
      let report = try await fixture.withRuntime(try fixture.pipeline()) {
        try await $0.statements()
      }
      #expect(
        Set(report.statements.map { "\($0.dataset) \($0.phase)" })
          == [
            "posts releases", "posts restores", "posts children", "posts own_table",
            "posts records", "users releases", "users restores", "users children",
            "users own_table", "users records",
          ])
      #expect(
        report.statements.filter { $0.phase == "releases" && $0.dataset == "users" }
          .map { "\($0.purpose) \($0.change ?? "")" } == [
            "find ", "find ", "change restore warehouse.posts", "record restore warehouse.posts",
            "change restore warehouse.users", "record restore warehouse.users", "record ",
            "record ", "record ",
          ])
      #expect(report.statements.contains { $0.purpose == "erase" && $0.dataset == "posts" })
      #expect(
        report.statements.filter {
          $0.dataset == "users" && $0.purpose == "change" && $0.phase != "releases"
        }
        .map { $0.change ?? "" } == [
          "restore warehouse.posts", "restore warehouse.users", "delete warehouse.post_media",
          "delete warehouse.reposts", "delete warehouse.posts", "protect warehouse.posts",
          "delete warehouse.users", "protect warehouse.users",
        ])
      // The statements need the temporary tables that apply creates in its session.
      try await fixture.database.withConnection { connection in
        try await connection.runScript(ScratchTables.ofBatches)
        for (index, statement) in report.statements.enumerated() {
          try await connection.execute(
            "PREPARE statement_\(literal: index) AS \(trusted: statement.sql)")
        }
      }
    }
  }

  @Test func planPrintsTheStatementsAsText() async throws {
    try await PipelineFixture.with { fixture in
      let file = try fixture.definitionFile()
      let printed = try await Program.run(
        "lethe", ["plan", file, "--sql"], environment: fixture.environment)
      #expect(printed.code == 0, "\(printed)")
      let heads = printed.stdout.split(separator: "\n").filter { $0.hasPrefix("-- ") }
      #expect(heads.first == "-- posts · releases · find")
      #expect(
        heads.contains("-- users · own_table · verify · protect warehouse.users for protected"))
      #expect(!printed.stdout.contains("'protected'::text"))
      #expect(
        try await fixture.value("SELECT count(*) FROM lethe.run", as: Int.self) == 0)
    }
  }
}
