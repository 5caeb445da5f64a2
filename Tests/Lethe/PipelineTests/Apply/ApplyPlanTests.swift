import Definitions
import Ledger
import PostgreSQL
import Runtime
import TestSupport
import Testing
import Vocabulary
import Warehouse

@testable import ApplyStage

/// How PostgreSQL plans the statements that apply runs, with the values that apply binds.
@Suite struct ApplyPlanTests {
  /// Collects the table's events, and explains the statements of a batch of these events.
  /// - Returns: the plans of three statements: the change, the verification of the change, and the count of its rows.
  private static func plans(of table: UnusualTable, events: Int) async throws -> [String] {
    try await PipelineFixture.with(table) { fixture in
      try await fixture.execute("ANALYZE")
      let pipeline = try fixture.pipeline { _ in table.definition }
      try await fixture.withRuntime(pipeline) { runtime in
        _ = try await runtime.export()
        while try await runtime.submit().chunks > 0 { _ = try await runtime.awaitJobs() }
        _ = try await runtime.collect()
      }
      return try await fixture.database.withConnection {
        try await explain(pipeline.definition, events: events, on: $0)
      }
    }
  }

  private static func explain(
    _ definition: Definition, events: Int, on connection: Connection
  ) async throws -> [String] {
    let (chunk, through) = try await connection.query(
      """
      SELECT chunk_id, max(id) FROM (
        SELECT chunk_id, id FROM lethe.collected ORDER BY id LIMIT \(events)) AS batch
      GROUP BY chunk_id
      """
    ).onlyRow(as: Int64.self, Int64.self)
    let after = try await connection.query("SELECT min(id) - 1 FROM lethe.collected")
      .onlyRow(as: Int64.self)
    let range = EventRange(chunkID: chunk, after: after, through: through)
    let catalog = try await Catalog(of: definition, on: connection)
    let dataset = try #require(definition.datasets.first)
    let plan = try ApplyPlan(dataset, of: definition, catalog: catalog)
    let change = try #require(plan.changes.last)
    let context = BatchContext(
      BatchOrigin(
        pipeline: "p", dataset: "posts", type: .tweets, chunkID: chunk, jobID: 1,
        askedAt: "2026-01-01T00:00:00Z", number: 1, cluster: nil),
      plan, versions: RowVersions(exportedSnapshot: nil, exportedCluster: nil, cluster: nil))
    try await connection.runScript(ScratchTables.ofBatches)
    var plans: [String] = []
    for sql in [
      change.statement(for: range, in: context),
      change.unchangedRows(of: range, in: context, rowsMax: 5),
      change.matches(of: range, in: context),
    ] {
      plans.append(
        try await connection.run("EXPLAIN \(sql)").rows(as: String.self)
          .joined(separator: "\n"))
    }
    return plans
  }

  @Test(arguments: ["timestamptz", "timestamp", "date"])
  func aBatchReadsOnlyThePartitionsOfItsMonths(type: String) async throws {
    // The times are in the middle of each month of 2023.
    let seconds = (0..<12).map { 1_673_740_800 + Int64($0) * 2_629_800 }
    let partitions = (1...12).map { month in
      """
      CREATE TABLE shop.posts_\(month) PARTITION OF shop.posts
      FOR VALUES FROM ('2023-\(month)-01') TO ('\(2023 + month / 12)-\(month % 12 + 1)-01');
      """
    }
    let rows = seconds.map { "(\(UnusualTable.postID(of: $0)), to_timestamp(\($0)), 'text')" }
    let table = UnusualTable(
      "by month",
      tables: """
        CREATE TABLE shop.posts (id bigint, created_at \(type), body text) PARTITION BY RANGE (created_at);
        \(partitions.joined(separator: "\n"))
        INSERT INTO shop.posts VALUES \(rows.joined(separator: ", "));
        CREATE INDEX ON shop.posts (id)
        """,
      dataset: "table: shop.posts\nid: id\nid_time: created_at",
      events: seconds[5...].map { (UnusualTable.postID(of: $0), "deleted") }, remaining: [])
    for plan in try await Self.plans(of: table, events: 2) {
      let named = Set(plan.matches(of: /posts_\d+/).map { String($0.output) })
      #expect(named == ["posts_6", "posts_7"], "\(plan)")
      #expect(!plan.contains("Subplans Removed"), "\(plan)")
    }
  }

  @Test(arguments: ["bigint", "numeric", "text", "varchar(19)"])
  func aSmallBatchFindsItsRowsByTheIndex(type: String) async throws {
    let table = UnusualTable(
      "50,000 posts",
      tables: """
        CREATE TABLE shop.posts (id \(type) PRIMARY KEY, body text);
        INSERT INTO shop.posts SELECT p * 1000, repeat('text ', 20) FROM generate_series(1, 50000) AS p
        """,
      events: stride(from: 1000, through: 50_000_000, by: 50_000).map { ($0, "deleted") },
      remaining: [])
    for plan in try await Self.plans(of: table, events: 100) {
      #expect(plan.contains("posts_pkey"), "\(plan)")
      #expect(!plan.contains("Seq Scan on posts"), "\(plan)")
    }
  }
}
