import Definitions
import PostgreSQL

/// Finds the faults of a guard in PostgreSQL's catalog: objects and settings that let rows bypass the guard, or that
/// make its function fail.
struct GuardInspection<S: Session> {
  typealias Fault = InstalledGuard.Fault

  let session: S
  let guarding: IngestGuard
  let description: GuardFunction.Description
  /// The OID of the table that the guard was installed on.
  let tableOID: Int64

  /// The CTEs `tree` and `relation`: the table, its partitions and all tables that inherit from it. `is_child` is true
  /// if the relation, or one between it and the table, inherits without being a partition.
  private var tree: SQL {
    """
    WITH RECURSIVE tree AS (
      SELECT \(tableOID)::bigint::oid AS oid, false AS is_child
      UNION
      SELECT i.inhrelid, t.is_child OR NOT c.relispartition
      FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
      JOIN pg_class AS c ON c.oid = i.inhrelid
    ), relation AS (
      SELECT c.oid, c.relkind, n.nspname || '.' || c.relname AS name, bool_or(t.is_child) AS is_child
      FROM tree AS t JOIN pg_class AS c ON c.oid = t.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
      GROUP BY c.oid, n.nspname
    )
    """
  }

  func faults() async throws -> [Fault] {
    try await tableFaults() + functionFaults() + bypasses() + otherTriggerFaults()
  }

  private var installCommand: String { "lethe guard install \(guarding.table) --id \(guarding.id)" }

  // MARK: The trigger, table by table

  private func tableFaults() async throws -> [Fault] {
    let rows = try await session.query(
      """
      \(tree)
      SELECT r.name, r.oid = \(tableOID)::bigint AS is_table, r.relkind = 'f' AS is_foreign, r.is_child,
             t.tgenabled::text
      FROM relation AS r
      LEFT JOIN pg_trigger AS t ON t.tgrelid = r.oid AND t.tgname = \(GuardFunction.trigger.name)
        AND EXISTS (
        SELECT FROM pg_proc AS p WHERE p.oid = t.tgfoid
          AND p.pronamespace = to_regnamespace('lethe') AND p.proname ~ \(GuardFunction.namePattern))
      ORDER BY r.oid = \(tableOID)::bigint DESC, r.name
      """
    ).rows
    return try rows.compactMap { row in
      try fault(
        of: row["name"], isTable: row["is_table"], isForeign: row["is_foreign"],
        isChild: row["is_child"],
        row["tgenabled"])
    }
  }

  private func fault(
    of name: String, isTable: Bool, isForeign: Bool, isChild: Bool, _ enabled: String?
  ) -> Fault? {
    let part = isTable ? name : isChild ? "the inheriting table \(name)" : "partition \(name)"
    let enabling = "ALTER TABLE \(name) ENABLE TRIGGER \(GuardFunction.trigger.name)"
    switch enabled {
    case nil where isChild:
      return Fault(
        state: .incomplete, message: "\(part) has no guard",
        remedy: "install a guard there, too: lethe guard install \(name) --id \(guarding.id)")
    case nil:
      return Fault(state: .incomplete, message: "\(part) has no guard", remedy: installCommand)
    case "D":
      return Fault(
        state: isTable ? .disabled : .incomplete,
        message: isTable ? "the trigger is disabled" : "\(part): the trigger is disabled",
        remedy: enabling)
    case "R":
      return Fault(
        state: isTable ? .disabled : .incomplete,
        message: "\(isTable ? "" : "\(part): ")the trigger fires for replicated rows only",
        remedy: enabling)
    default:
      guard isForeign else { return nil }
      return Fault(
        state: .incomplete,
        message: "\(part) is a foreign table: writes on its own server bypass the guard",
        remedy: "guard the table on that server, or detach the partition")
    }
  }

  // MARK: The function

  private func functionFaults() async throws -> [Fault] {
    let row = try await session.query(
      """
      SELECT coalesce(a.attname, '') AS name, coalesce(format_type(a.atttypid, -1), '') AS type,
             coalesce(a.attgenerated <> '', false) AS is_generated,
             \(GuardFunction.digest("p")) AS digest, pg_get_userbyid(p.proowner) AS owner,
             has_schema_privilege(p.proowner, 'lethe', 'USAGE')
               AND has_table_privilege(p.proowner, 'lethe.tombstone', 'SELECT') AS may_read
      FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
      LEFT JOIN pg_attribute AS a ON a.attrelid = t.tgrelid AND a.attnum = t.tgattr[0]
      WHERE t.tgrelid = \(tableOID)::bigint AND t.tgname = \(GuardFunction.trigger.name)
      """
    ).onlyRow()
    let (name, type, owner): (String, String, String) = try (row["name"], row["type"], row["owner"])
    var faults: [Fault] = []
    if name != description.id || type != description.column {
      faults.append(
        Fault(
          state: .outdated,
          message:
            "the column \(description.id) (\(description.column)) was changed to \(name) (\(type))",
          remedy: "install the guard again: lethe guard install \(guarding.table) --id \(name)"))
    }
    if try row["is_generated"] {
      faults.append(
        Fault(
          state: .broken,
          message: "the column \(name) is generated, so it is still empty in a BEFORE trigger",
          remedy: "guard a column that is not generated"))
    }
    if let digest = description.function, digest != (try row["digest"]) {
      faults.append(
        Fault(
          state: .broken, message: "the guard's function was changed after the installation",
          remedy: "install the guard again: \(installCommand)"))
    }
    if !(try row["may_read"]) {
      faults.append(
        Fault(
          state: .broken,
          message:
            "the function's owner \(owner) may not read lethe.tombstone, so every INSERT fails",
          remedy: """
            GRANT USAGE ON SCHEMA lethe TO \(Identifier(owner).quoted); GRANT SELECT ON lethe.tombstone TO \
            \(Identifier(owner).quoted)
            """))
    }
    return faults
  }

  // MARK: Bypasses

  private func bypasses() async throws -> [Fault] {
    let rules = try await session.query(
      """
      \(tree)
      SELECT r.name, w.rulename FROM relation AS r JOIN pg_rewrite AS w ON w.ev_class = r.oid
      WHERE w.ev_type = '3' AND w.ev_enabled IN ('O', 'A') ORDER BY 1, 2
      """
    ).rows(as: String.self, String.self).map { table, rule in
      Fault(
        state: .unsure, message: "the rule \(rule) of \(table) changes what INSERT does",
        remedy: "find out where the rule inserts the rows, and guard that table")
    }
    let subscribed = try await session.query(
      """
      \(tree)
      SELECT r.name FROM relation AS r
      JOIN pg_trigger AS t ON t.tgrelid = r.oid AND t.tgname = \(GuardFunction.trigger.name)
        AND t.tgenabled <> 'A'
      WHERE EXISTS (SELECT FROM pg_subscription_rel AS s WHERE s.srrelid = r.oid) ORDER BY 1
      """
    ).rows(as: String.self).map { table in
      Fault(
        state: .incomplete,
        message: "the rows that \(table) receives through a subscription bypass the guard",
        remedy: "ALTER TABLE \(table) ENABLE ALWAYS TRIGGER \(GuardFunction.trigger.name)")
    }
    let replicas = try await session.query(
      """
      SELECT pg_catalog.concat_ws(' in ', 'the role ' || r.rolname, 'the database ' || d.datname)
      FROM pg_db_role_setting AS s LEFT JOIN pg_roles AS r ON r.oid = s.setrole
      LEFT JOIN pg_database AS d ON d.oid = s.setdatabase
      WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
        AND 'session_replication_role=replica' = ANY (s.setconfig)
        AND EXISTS (SELECT FROM pg_trigger AS t
                    WHERE t.tgrelid = \(tableOID)::bigint
                      AND t.tgname = \(GuardFunction.trigger.name) AND t.tgenabled <> 'A')
      ORDER BY 1
      """
    ).rows(as: String.self).map { scope in
      Fault(
        state: .unsure,
        message: """
          session_replication_role is replica for \(scope): rows of such sessions bypass the guard
          """,
        remedy: """
          ALTER TABLE \(guarding.table.quoted) ENABLE ALWAYS TRIGGER \(GuardFunction.trigger.name), or \
          reset the setting
          """)
    }
    return rules + subscribed + replicas
  }

  // MARK: Other triggers

  /// Another trigger that sees new rows and may change or redirect them.
  struct OtherTrigger {
    let name: String
    let function: String
    let table: String
    /// The digest of all functions that triggers of this name have in the tree.
    let digest: String
  }

  /// The other BEFORE INSERT row triggers. PostgreSQL's own trigger functions are left out, because they do not change
  /// IDs.
  func otherTriggers() async throws -> [OtherTrigger] {
    try await session.query(
      """
      \(tree)
      SELECT t.tgname, min(l.nspname || '.' || p.proname),
             coalesce(min(r.name) FILTER (WHERE t.tgparentid = 0), min(r.name)),
             md5(pg_catalog.string_agg(DISTINCT l.nspname || '.' || p.proname || E'\\n' || p.prosrc, ''
                            ORDER BY l.nspname || '.' || p.proname || E'\\n' || p.prosrc))
      FROM relation AS r JOIN pg_trigger AS t ON t.tgrelid = r.oid
      JOIN pg_proc AS p ON p.oid = t.tgfoid JOIN pg_namespace AS l ON l.oid = p.pronamespace
      WHERE (t.tgtype & 71) = 7 AND t.tgenabled IN ('O', 'A') AND t.tgname <> \(GuardFunction.trigger.name)
        AND l.nspname <> 'pg_catalog'
      GROUP BY t.tgname ORDER BY t.tgname
      """
    ).rows(as: String.self, String.self, String.self, String.self)
      .map { OtherTrigger(name: $0.0, function: $0.1, table: $0.2, digest: $0.3) }
  }

  private func otherTriggerFaults() async throws -> [Fault] {
    let known = description.acknowledged ?? [:]
    return try await otherTriggers().compactMap { trigger in
      guard known[trigger.name] != trigger.digest else { return nil }
      let fires =
        trigger.name.utf8.lexicographicallyPrecedes(GuardFunction.trigger.name.utf8)
        ? "before the guard, and may send rows elsewhere" : "after the guard, and may change the ID"
      let names = (known.keys.filter { $0 != trigger.name } + [trigger.name]).sorted()
      return Fault(
        state: .unsure,
        message: """
          the trigger \(trigger.name) of \(trigger.table) (\(trigger.function)) \
          \(known[trigger.name] == nil ? "" : "was changed, ")fires \(fires)
          """,
        remedy: """
          check that it does not, then run: \(installCommand) --acknowledge-triggers \(names.joined(separator: ","))
          """)
    }
  }
}
