public import Definitions
public import PostgreSQL
import Vocabulary

/// Finds objects that keep copies of deleted rows, and missing indexes that make deletes slow.
extension Catalog {
  /// Warns of foreign keys without an index, of materialized views over the tables that actions change, and of triggers
  /// on these tables that seem to write rows elsewhere. Only `lethe check` uses it.
  /// - Parameter known: triggers that are already known to copy rows. They are not reported again.
  public func nearbyObjectFindings(
    of definition: Definition, excluding known: Set<FiringTrigger> = [], on session: some Session
  ) async throws -> [Finding] {
    var checker = Checker(catalog: self)
    for dataset in definition.datasets {
      checker.checkReferenceIndexes(try? ApplyPlan(checking: dataset, catalog: self))
    }
    var findings = checker.findings
    for name in definition.changedTables {
      guard let table = table(name) else { continue }
      let path = definition.path(of: name)
      let views = try await materializedViews(over: table, on: session)
      if !views.isEmpty {
        findings.append(
          Finding(
            severity: .warning, path: path,
            message: """
              materialized views contain rows of \(name), and keep deleted rows until they are refreshed: \
              \(views.joined(separator: ", "))
              """, remedy: "REFRESH MATERIALIZED VIEW after each run"))
      }
      for trigger in try await copyingTriggers(of: table, on: session)
      where !known.contains(where: { $0.name == trigger.name && $0.table == trigger.table }) {
        findings.append(
          Finding(
            severity: .warning, path: path,
            message: """
              the trigger \(trigger.name) of \(trigger.table) writes rows elsewhere (function \
              \(trigger.function)), so its copies of deleted rows are kept
              """,
            remedy: """
              change the trigger so that it does not copy what Lethe deletes; or, if the table that it writes to has \
              the IDs, declare that table as a dataset
              """))
      }
    }
    return findings
  }

  private func materializedViews(
    over table: WarehouseTable, on session: some Session
  ) async throws -> [String] {
    try await session.query(
      """
      WITH RECURSIVE base AS (
        SELECT oid FROM (SELECT \(table.quoted)::regclass::oid AS oid) AS own
        UNION SELECT relid FROM pg_partition_tree(\(table.quoted)::regclass)
        UNION SELECT relid FROM pg_partition_ancestors(\(table.quoted)::regclass)
      ), view AS (
        SELECT oid FROM base
        UNION
        SELECT r.ev_class FROM view
        JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = view.oid
          AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite AS r ON r.oid = d.objid
      )
      SELECT n.nspname, c.relname FROM view JOIN pg_class AS c USING (oid)
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE c.relkind = 'm' ORDER BY 1, 2
      """
    ).rows(as: String.self, String.self).map { "\(TableName(schema: $0.0, name: $0.1))" }
  }

  private func copyingTriggers(
    of table: WarehouseTable, on session: some Session
  ) async throws -> [(name: String, table: String, function: String)] {
    // The actual effect of a function is unknown. The query only finds words such as INSERT INTO in its source.
    try await session.query(
      """
      SELECT t.tgname, n.nspname, c.relname, l.nspname || '.' || p.proname
      FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_proc AS p ON p.oid = t.tgfoid JOIN pg_namespace AS l ON l.oid = p.pronamespace
      WHERE t.tgrelid IN (SELECT \(table.quoted)::regclass UNION SELECT relid
        FROM pg_partition_tree(\(table.quoted)::regclass))
        AND \(Self.fires(on: "\(table.quoted)"))
        -- On DELETE, or on UPDATE.
        AND t.tgtype & 24 <> 0 AND l.nspname <> 'lethe'
        AND \(Self.copies)
      ORDER BY 1, 2, 3
      """
    ).rows(as: String.self, String.self, String.self, String.self).map {
      ($0.0, "\(TableName(schema: $0.1, name: $0.2))", $0.3)
    }
  }
}

extension Definition {
  /// The tables whose rows an action deletes, hides or removes data from, in the definition's order.
  fileprivate var changedTables: [TableName] {
    func names(
      _ table: TableName, _ actions: [Reason: Action], _ targets: [Target]
    ) -> [TableName] {
      let own = actions.values.contains(where: \.isRedacting) ? [table] : []
      return own + targets.flatMap { names($0.table, $0.actions, $0.targets) }
    }
    let all = datasets.flatMap { names($0.table, $0.actions, $0.targets) }
    return all.enumerated().filter { !all[..<$0.offset].contains($0.element) }.map(\.element)
  }

  /// The path where the definition first names a table.
  fileprivate func path(of name: TableName) -> String {
    func path(_ targets: [Target], _ above: String) -> String? {
      for (index, target) in targets.enumerated() {
        let here = "\(above).targets[\(index)]"
        if target.table == name { return "\(here).table" }
        if let inner = path(target.targets, here) { return inner }
      }
      return nil
    }
    for dataset in datasets {
      let here = "datasets.\(dataset.name)"
      if dataset.table == name { return "\(here).table" }
      if let inner = path(dataset.targets, here) { return inner }
    }
    return "datasets"
  }
}
