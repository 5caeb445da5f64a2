import Definitions
import PostgreSQL

/// Replaces an installed guard, and restores the former guard if the new guard does not stop rows.
extension IngestGuards {
  /// The guard that a table had before.
  struct Former: Sendable {
    /// The statement that creates the guard's trigger.
    let trigger: String
    /// `pg_trigger.tgenabled`.
    let enabled: String
    let description: GuardFunction.Description?
  }

  func former(of table: WarehouseTable, on session: some Session) async throws -> Former? {
    try await session.query(
      """
      SELECT pg_get_triggerdef(t.oid), t.tgenabled::text, coalesce(obj_description(t.tgfoid, 'pg_proc'), '')
      FROM pg_trigger AS t WHERE t.tgrelid = \(table.quoted)::regclass
        AND t.tgname = \(GuardFunction.trigger.name)
      """
    ).firstRow(as: String.self, String.self, String.self).map {
      Former(trigger: $0.0, enabled: $0.1, description: try? Self.read($0.2, of: table.name).0)
    }
  }

  /// Sets the comment of the new function, with the triggers that the operator has acknowledged.
  func describe(
    _ function: GuardFunction, _ table: WarehouseTable, _ names: [String]?, _ former: Former?,
    on transaction: Transaction
  ) async throws {
    let (oid, digest) = try await transaction.query(
      """
      SELECT \(table.quoted)::regclass::oid::bigint, \(GuardFunction.digest("p")) FROM pg_proc AS p
      WHERE p.proname = \(function.name.name) AND p.pronamespace = to_regnamespace('lethe')
      """
    ).onlyRow(as: Int64.self, String.self)
    let description = GuardFunction.Description(
      id: function.guarding.id, column: function.column.type, type: "", onReturn: "")
    let others = try await GuardInspection(
      session: transaction, guarding: function.guarding, description: description, tableOID: oid
    ).otherTriggers()
    let acknowledged = others.filter { trigger in
      if let names { return names.contains(trigger.name) }
      return former?.description?.acknowledged?[trigger.name] == trigger.digest
    }
    if let unknown = names?.first(where: { name in !others.contains { $0.name == name } }) {
      throw GuardError(
        "\(table.name) and its partitions have no trigger \(unknown) that fires before each new row",
        remedy: others.isEmpty
          ? "leave --acknowledge-triggers out: no other trigger fires there"
          : "use these names: \(others.map(\.name).joined(separator: ", "))")
    }
    try await transaction.runScript(
      function.comment(
        digest: digest,
        acknowledged: Dictionary(uniqueKeysWithValues: acknowledged.map { ($0.name, $0.digest) })))
  }

  private static func restoring(_ former: Former?, _ table: WarehouseTable) -> SQL {
    let trigger: SQL = "\(identifier: GuardFunction.trigger)"
    guard let former else { return "DROP TRIGGER \(trigger) ON \(table.sql)" }
    let create = former.trigger.replacing(
      "CREATE TRIGGER", with: "CREATE OR REPLACE TRIGGER", maxReplacements: 1)
    let change: SQL? =
      switch former.enabled {
      case "D": "DISABLE"
      case "R": "ENABLE REPLICA"
      case "A": "ENABLE ALWAYS"
      default: nil
      }
    guard let change else { return SQL(trusted: create) }
    return "\(trusted: create); ALTER TABLE \(table.sql) \(change) TRIGGER \(trigger)"
  }

  /// Restores the former guard, because the new guard did not stop rows. If there was no former guard, removes the new
  /// one. If the table cannot be locked or a privilege is missing, the new guard stays.
  /// - Returns: the error for the operator, with the cause and the outcome.
  func restoreFormerGuard(
    _ table: WarehouseTable, _ former: Former?, _ proof: GuardProof
  ) async throws -> GuardError {
    // The former guard is restored even if the guard of another table cannot be read.
    let faults =
      (try? await all())?.first { $0.guarding.table == table.resolvedName }?.faults ?? []
    let leaks = proof.leaks.prefix(3).joined(separator: "; ")
    let why = faults.map(\.message).joined(separator: "; ")
    var outcome = former == nil ? "the guard was removed" : "the former guard was restored"
    do {
      try await changing(table) { transaction in
        try await lock(table, "ACCESS EXCLUSIVE", on: transaction)
        try await transaction.runScript(Self.restoring(former, table))
        try await dropUnusedFunctions(on: transaction)
      }
    } catch let error as GuardError {
      outcome = "the new guard could not be removed, and does not keep rows out (\(error.message))"
    }
    return GuardError(
      """
      a guard on \(table.name) does not keep rows out: it did not stop a row with the ID of a tombstone \(leaks); \
      \(why.isEmpty ? "nothing in the catalog shows why" : why). \(outcome)
      """,
      remedy: """
        change the named objects so that they keep new rows and their IDs unchanged, or guard the tables that receive \
        the rows; then install the guard again
        """)
  }
}
