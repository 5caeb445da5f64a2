import Ledger
public import PostgreSQL
public import Warehouse

/// The event triggers that fire for Lethe's DDL commands. In a run, collect and apply create temporary tables, and the
/// first batch of a month creates new partitions of the ledger.
public struct EventTriggers: Sendable {
  private let connection: Connection

  /// The command tags of the DDL commands that a run executes.
  private static let runTags = ["CREATE TABLE", "CREATE TABLE AS", "ALTER TABLE"]
  /// The command tags of the other DDL commands that install, change or remove a guard, or prune the ledger.
  private static let otherTags = [
    "CREATE FUNCTION", "DROP FUNCTION", "REVOKE", "COMMENT", "CREATE TRIGGER", "DROP TRIGGER",
    "DROP TABLE",
  ]

  private struct EventTrigger {
    let name: String
    let function: String
    /// The command tags for which the trigger fires. Empty if it fires for every command.
    let tags: [String]
    /// Whether the trigger fires only for commands that drop an object.
    let isForDrops: Bool

    /// The tags in `commands` for which the trigger fires.
    func firingTags(among commands: [String]) -> [String] {
      let commands = isForDrops ? commands.filter { $0.hasPrefix("DROP ") } : commands
      return tags.isEmpty ? commands : tags.filter(commands.contains)
    }
  }

  private struct RolledBack: Error {}

  public init(connection: Connection) {
    self.connection = connection
  }

  /// Executes the DDL commands of a run, if event triggers fire for them, and rolls them back.
  /// - Parameters:
  ///   - tries: whether the commands are executed and rolled back. If false, there are only notes.
  ///   - announce: called with a message that names the event triggers that will fire, before they fire. Not called if
  ///     no event trigger fires.
  /// - Returns: an error for the first command that is refused. Otherwise a note for each event trigger that fires for
  ///   a run, a guard or a pruning of the ledger.
  public func findings(
    tries: Bool = true, announce: (String) -> Void = { _ in }
  ) async throws -> [Finding] {
    let triggers = try await eventTriggers()
    let firing = triggers.filter { !$0.firingTags(among: Self.runTags).isEmpty }.map(\.name)
    if tries, !firing.isEmpty {
      announce(
        """
        the check fires event triggers; their effects outside of the database are not rolled back: \
        \(firing.joined(separator: ", "))
        """)
      if let refused = try await refusedCommand(among: triggers) { return [refused] }
    }
    return notes(on: triggers)
  }

  private func refusedCommand(among triggers: [EventTrigger]) async throws -> Finding? {
    for (tag, script) in [
      ("CREATE TABLE", ScratchTables.ofBatches),
      ("CREATE TABLE AS", "CREATE TEMP TABLE lethe_kept ON COMMIT DROP AS SELECT 1 AS line"),
      // The ledger has no partition for a date 100 years from now, so this call creates one.
      (
        "CREATE TABLE or ALTER TABLE",
        "SELECT lethe.ensure_event_partitions(now() + interval '100 years')"
      ),
    ] {
      if let error = try await refusal(of: script) {
        return finding(error, tag: tag, among: triggers)
      }
    }
    return nil
  }

  private func notes(on triggers: [EventTrigger]) -> [Finding] {
    triggers.compactMap { trigger in
      let tags = trigger.firingTags(among: Self.runTags + Self.otherTags)
      guard !tags.isEmpty else { return nil }
      return Finding(
        severity: .note, path: "warehouse",
        message: """
          the event trigger \(trigger.name) fires on \(tags.joined(separator: ", ")); Lethe executes such commands \
          for its temporary tables, the ledger's partitions and guards
          """, remedy: "check that its actions and the data that it stores are intended")
    }
  }

  private func eventTriggers() async throws -> [EventTrigger] {
    try await connection.query(
      """
      SELECT e.evtname, n.nspname || '.' || p.proname, coalesce(pg_catalog.array_to_string(e.evttags, E'\\n'), ''),
             e.evtevent = 'sql_drop'
      FROM pg_event_trigger AS e JOIN pg_proc AS p ON p.oid = e.evtfoid
      JOIN pg_namespace AS n ON n.oid = p.pronamespace
      WHERE e.evtenabled IN ('O', 'A') AND e.evtevent IN ('ddl_command_start', 'ddl_command_end', 'sql_drop')
      ORDER BY 1
      """
    ).rows(as: String.self, String.self, String.self, Bool.self).map {
      EventTrigger(
        name: $0.0, function: $0.1, tags: $0.2.split(separator: "\n").map(String.init),
        isForDrops: $0.3)
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
      // Another session has a lock, so it is unknown whether the event trigger would refuse the command.
    } catch is RolledBack {
    }
    return nil
  }

  private func finding(
    _ error: PostgreSQLError, tag: String, among triggers: [EventTrigger]
  ) -> Finding {
    let named = triggers.filter { trigger in
      error.function.map { trigger.function == $0 || trigger.function.hasSuffix(".\($0)") } ?? false
    }
    let suspects =
      named.isEmpty ? triggers.filter { !$0.firingTags(among: Self.runTags).isEmpty } : named
    let names = suspects.map(\.name).joined(separator: ", ")
    let culprit = suspects.isEmpty ? "" : " (event trigger \(names))"
    return Finding(
      severity: .error, path: "warehouse",
      message: "Lethe's \(tag) is refused: \(error.messageWithoutValues)\(culprit)",
      remedy: """
        change the event trigger so that it allows Lethe's role to create temporary tables, and to create and alter \
        tables in the schema lethe
        """)
  }
}
