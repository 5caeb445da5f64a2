import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing

extension PipelineFixture {
  /// Runs `body` with a database that has the table, and an API that returns the table's events.
  static func with<R: Sendable>(
    _ table: UnusualTable, _ body: @escaping @Sendable (PipelineFixture) async throws -> R
  ) async throws -> R {
    try await withTestDatabase(.ledger) { database in
      try await ScriptedAPI(.init(result: table.result)).serving { url in
        let fixture = PipelineFixture(
          database: database, service: url, gate: TestGate(),
          directory: FileManager.default.temporaryDirectory
            .appending(path: "unusual-\(database.name)").path)
        defer { try? FileManager.default.removeItem(atPath: fixture.directory) }
        try await fixture.execute("CREATE SCHEMA shop; \(trusted: table.tables)")
        return try await body(fixture)
      }
    }
  }

  /// Returns the table's rows, sorted.
  func rows(of table: UnusualTable) async throws -> [String] {
    let rows = try await database.withConnection {
      try await $0.query(SQL(trusted: table.rows)).rows(as: String.self)
    }
    return rows.sorted()
  }
}

/// Complete runs over unusual tables, with scripted answers of the API.
@Suite struct UnusualTableTests {
  @Test(arguments: UnusualTable.all)
  func theRowsMatchTheEventsAndARepeatedAnswerChangesNothing(
    table: UnusualTable
  ) async throws {
    let hasXML = table.tables.contains("xml")
    guard try await ServerFeature.xml.isAvailable(ifNeeded: hasXML) else { return }
    try await PipelineFixture.with(table) { fixture in
      let pipeline = try fixture.pipeline { _ in table.definition }
      let report = try await fixture.withRuntime(pipeline) { try await $0.run() }.last
      #expect(report?.status == .done)
      #expect(report?.quarantined == 0)
      #expect(try await fixture.rows(of: table) == table.remaining.sorted())
      #expect(try await fixture.ledgerFaults() == [])

      let again = try await fixture.withRuntime(pipeline) { try await $0.run() }.last
      #expect(again?.status == .done)
      #expect(again?.rowsChanged == 0)
      #expect(try await fixture.rows(of: table) == table.remaining.sorted())
      #expect(try await fixture.ledgerFaults() == [])
    }
  }

  @Test(arguments: UnusableTable.refused)
  func anUnusableTableIsRefusedBeforeARunBegins(unusable: UnusableTable) async throws {
    try await PipelineFixture.with(unusable.table) { fixture in
      try await Self.expectError(of: unusable, fixture)
      #expect(try await fixture.value("SELECT count(*) FROM lethe.run", as: Int.self) == 0)
    }
  }

  /// With `atomic: chunk`, a chunk is applied completely or not at all. The chunk is set aside, and the run's report
  /// names it.
  @Test(arguments: UnusableTable.rolledBack)
  func aRowThatCannotBeChangedSetsTheWholeChunkAside(
    unusable: UnusableTable
  ) async throws {
    try await PipelineFixture.with(unusable.table) { fixture in
      let pipeline = try fixture.pipeline { _ in
        unusable.table.definition.split(separator: "\n")
          .filter { !$0.trimmingCharacters(in: .whitespaces).hasPrefix("batch") }
          .map { $0.hasSuffix("type: tweets") ? "\($0)\n    atomic: chunk" : "\($0)" }
          .joined(separator: "\n")
      }
      let report = try #require(try await fixture.withRuntime(pipeline) { try await $0.run() }.last)
      #expect(report.status == .failed)
      let chunk = try #require(report.setAside.first)
      let text = "\(chunk)"
      for part in unusable.messages { #expect(text.contains(part), "\(text)") }
      #expect(try await fixture.rows(of: unusable.table) == unusable.table.remaining.sorted())
      let kept = try await fixture.value(
        """
        SELECT (SELECT count(*) FROM lethe.batch) + (SELECT count(*) FROM lethe.event)
             + (SELECT count(*) FROM lethe.tombstone) + (SELECT count(*) FROM lethe.change)
        """, as: Int.self)
      #expect(kept == 0)
    }
  }

  /// If a chunk is applied in batches, only the events that the table refuses are set aside, by their IDs. The rows of
  /// these events do not change.
  @Test(arguments: UnusableTable.rolledBack)
  func anEventWhoseRowCannotBeChangedIsSetAside(unusable: UnusableTable) async throws {
    try await PipelineFixture.with(unusable.table) { fixture in
      let pipeline = try fixture.pipeline { _ in unusable.table.definition }
      let report = try #require(try await fixture.withRuntime(pipeline) { try await $0.run() }.last)
      #expect(!report.refused.isEmpty)
      let refused = Set(report.refused.map(\.id))
      let events = try await fixture.value(
        "SELECT coalesce(string_agg(id::text, ' '), '') FROM lethe.event WHERE cause_id IS NULL",
        as: String.self)
      #expect(refused.isDisjoint(with: Set(events.split(separator: " ").map(String.init))))
      #expect(
        refused.count + events.split(separator: " ").count == unusable.table.events.count,
        "\(report.refused)")
      let tombstones = try await fixture.value(
        "SELECT coalesce(string_agg(id::text, ' '), '') FROM lethe.tombstone", as: String.self)
      #expect(refused.isDisjoint(with: Set(tombstones.split(separator: " ").map(String.init))))
      #expect(try await fixture.ledgerFaults().filter { !$0.hasPrefix("run ") } == [])
    }
  }

  private static func expectError(of unusable: UnusableTable, _ fixture: PipelineFixture)
    async throws
  {
    let pipeline = try fixture.pipeline { _ in unusable.table.definition }
    do {
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      Issue.record("the run was not refused")
    } catch {
      let text = "\(error)"
      for part in unusable.messages { #expect(text.contains(part), "\(text)") }
      #expect(text.contains("remedy: "))
    }
    #expect(try await fixture.rows(of: unusable.table) == unusable.table.remaining.sorted())
  }
}

/// Row-level security. The role of the run does not own the tables, so the policies apply to it.
@Suite struct RowSecurityTests {
  private static let table = UnusualTable(
    "rows that policies may hide",
    tables: """
      CREATE TABLE shop.posts (id bigint PRIMARY KEY, tenant text, body text);
      ALTER TABLE shop.posts ENABLE ROW LEVEL SECURITY;
      INSERT INTO shop.posts VALUES (1, 'a', 'one'), (2, 'b', 'two')
      """,
    events: [(2, "deleted")], remaining: ["one"])

  /// The privileges that the role needs.
  private static let grants = """
    GRANT USAGE ON SCHEMA shop, lethe TO reader;
    GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA shop TO reader;
    GRANT ALL ON ALL TABLES IN SCHEMA lethe TO reader;
    """

  @Test(arguments: [
    ("CREATE POLICY own ON shop.posts USING (tenant = 'a')", false),
    ("CREATE POLICY open ON shop.posts FOR SELECT USING (true)", false),
    (
      """
      CREATE POLICY open ON shop.posts USING (true);
      CREATE POLICY own ON shop.posts AS RESTRICTIVE FOR DELETE USING (tenant = 'a')
      """, false
    ),
    ("CREATE POLICY open ON shop.posts TO reader USING (true)", true),
    (
      """
      CREATE POLICY own ON shop.posts USING (tenant = 'a');
      CREATE POLICY seen ON shop.posts FOR SELECT TO reader USING (true);
      CREATE POLICY gone ON shop.posts FOR DELETE TO reader USING (true)
      """, true
    ),
  ])
  func policiesMustAllowTheRoleToUseEveryRow(policies: String, isAllowed: Bool) async throws {
    try await PipelineFixture.with(Self.table) { fixture in
      // A role belongs to the whole server and not to one database, so each test creates a role with its own name.
      let role = "\(fixture.database.name)_role"
      try await fixture.execute("CREATE ROLE \(trusted: role)")
      do {
        try await fixture.execute(
          SQL(trusted: (Self.grants + policies).replacing("reader", with: role)))
        try await Self.run(fixture, as: role, isAllowed: isAllowed)
      } catch {
        try? await fixture.execute("DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)")
        throw error
      }
      try await fixture.execute("DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)")
    }
  }

  private static func run(
    _ fixture: PipelineFixture, as role: String, isAllowed: Bool
  ) async throws {
    let pipeline = try fixture.pipeline { _ in
      table.definition.editing(
        "${DATABASE_URL}", to: "${DATABASE_URL}?options=-crole%3D\(role)")
    }
    do {
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      #expect(isAllowed)
    } catch {
      #expect(!isAllowed)
      let text = "\(error)"
      #expect(text.contains("row-level security may hide rows of shop.posts"), "\(text)")
      #expect(text.contains("BYPASSRLS, or create a policy for this role with USING (true)"))
    }
    #expect(try await fixture.rows(of: table) == (isAllowed ? ["one"] : ["one", "two"]))
    if isAllowed { #expect(try await fixture.ledgerFaults() == []) }
  }
}
