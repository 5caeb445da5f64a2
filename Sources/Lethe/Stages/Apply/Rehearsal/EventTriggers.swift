import Ledger
public import PostgreSQL
public import Warehouse

/// The event triggers that fire during a run. Each batch creates temporary tables, and the first batch of a
/// month creates new partitions of the ledger.
public struct EventTriggers: Sendable {
  private let connection: Connection

  /// The commands that a run executes, by their tags.
  private static let runTags = ["CREATE TABLE", "CREATE INDEX", "ALTER TABLE"]
  private static let guardTags = [
    "CREATE FUNCTION", "CREATE TRIGGER", "ALTER TRIGGER", "DROP TRIGGER",
  ]

  private struct Known {
    let name: String
    let function: String
    /// The tags for which the trigger fires. Empty means all.
    let tags: [String]

    func fires(on others: [String]) -> [String] {
      tags.isEmpty ? others : tags.filter(others.contains)
    }
  }

  private struct RolledBack: Error {}

  public init(connection: Connection) {
    self.connection = connection
  }

  /// Executes the commands of a run, in a transaction that is rolled back.
  /// - Returns: an error for the first command that is refused. Otherwise a note for each event trigger that
  ///   fires.
  /// - Parameters:
  ///   - tries: whether the commands are executed and rolled back. If false, there are only notes.
  ///   - announce: called with the event triggers that will fire, before they fire.
  public func findings(
    tries: Bool = true, announce: (String) -> Void = { _ in }
  ) async throws -> [Finding] {
    let known = try await known()
    let firing = known.filter { !$0.fires(on: Self.runTags).isEmpty }.map(\.name)
    if tries, !firing.isEmpty {
      announce(
        """
        the check fires event triggers; their effects outside of the database are not rolled back: \
        \(firing.joined(separator: ", "))
        """)
      if let refused = try await refusedCommand(among: known) { return [refused] }
    }
    return notes(of: known)
  }

  private func refusedCommand(among known: [Known]) async throws -> Finding? {
    for (tag, script) in [
      ("CREATE TABLE", ScratchTables.ofBatches),
      // A month without a partition.
      (
        "CREATE TABLE or ALTER TABLE",
        "SELECT lethe.ensure_event_partitions(now() + interval '100 years')"
      ),
    ] {
      if let error = try await refusal(of: script) {
        return finding(error, tag: tag, among: known)
      }
    }
    return nil
  }

  private func notes(of known: [Known]) -> [Finding] {
    known.compactMap { trigger in
      let tags = trigger.fires(on: Self.runTags + Self.guardTags)
      guard !tags.isEmpty else { return nil }
      return Finding(
        severity: .note, path: "warehouse",
        message: """
          the event trigger \(trigger.name) fires on Lethe's \(tags.joined(separator: ", ")), for its temporary \
          tables, the ledger's partitions and guards
          """, remedy: "check that its actions and the data that it stores are intended")
    }
  }

  private func known() async throws -> [Known] {
    try await connection.query(
      """
      SELECT e.evtname, n.nspname || '.' || p.proname, coalesce(pg_catalog.array_to_string(e.evttags, E'\\n'), '')
      FROM pg_event_trigger AS e JOIN pg_proc AS p ON p.oid = e.evtfoid
      JOIN pg_namespace AS n ON n.oid = p.pronamespace
      WHERE e.evtenabled IN ('O', 'A') AND e.evtevent IN ('ddl_command_start', 'ddl_command_end')
      ORDER BY 1
      """
    ).rows(as: String.self, String.self, String.self).map {
      Known(name: $0.0, function: $0.1, tags: $0.2.split(separator: "\n").map(String.init))
    }
  }

  private func refusal(of script: SQL) async throws -> PostgreSQLError? {
    do {
      try await connection.withTransaction { transaction in
        try await transaction.runScript("SET LOCAL lock_timeout = '1s'; \(script)")
        throw RolledBack()
      }
    } catch let error as PostgreSQLError where error.isRefusal {
      return error
    } catch let error as PostgreSQLError where error.isRetryableTransaction {
      // Another session has locks, so the result is unknown.
    } catch is RolledBack {
    }
    return nil
  }

  private func finding(
    _ error: PostgreSQLError, tag: String, among known: [Known]
  ) -> Finding {
    let named = known.filter { trigger in
      error.function.map { trigger.function == $0 || trigger.function.hasSuffix(".\($0)") } ?? false
    }
    let suspects = named.isEmpty ? known.filter { !$0.fires(on: Self.runTags).isEmpty } : named
    let names = suspects.map(\.name).joined(separator: ", ")
    let culprit = suspects.isEmpty ? "" : " (event trigger \(names))"
    return Finding(
      severity: .error, path: "warehouse",
      message: "Lethe's \(tag) is refused: \(error.messageWithoutValues)\(culprit)",
      remedy: """
        change the event trigger to allow what Lethe's role does to its temporary tables and in the schema lethe
        """)
  }
}
