import ApplyStage
public import Definitions
import Ledger
import PostgreSQL
import Vocabulary
public import Warehouse

/// The findings of `lethe check` about a definition and its database.
extension PipelineRuntime {
  /// Checks the definition against the live database.
  /// - Parameters:
  ///   - rehearses: whether changes are also tried on rows and rolled back.
  ///   - announce: called before that with the triggers that will fire.
  /// - Returns: errors, warnings, and notes on parts that were not checked.
  public static func findings(
    of pipeline: Pipeline, rehearses: Bool = true, announce: @Sendable (String) -> Void = { _ in }
  ) async throws -> [Finding] {
    try await Connection.withConnection(pipeline.warehouse) { connection in
      try await requirePrimary(on: connection, pipeline)
      // A check must not wait without a limit for a locked table.
      try await connection.execute(
        """
        SELECT pg_catalog.set_config('lock_timeout', '10s', false)
        WHERE pg_catalog.current_setting('lock_timeout') = '0'
        """)
      var findings = try await ledgerFindings(on: connection)
      let unheld = try await encodingFindings(of: pipeline.definition, on: connection)
      if !unheld.isEmpty { return findings + unheld }
      let catalog = try await Catalog(of: pipeline.definition, on: connection)
      findings += try await catalog.check(pipeline.definition, on: connection)
      if findings.contains(where: { $0.severity == .error }) {
        return findings + (rehearses ? [.notRehearsed] : [])
      }
      let known =
        try await findings
        + openRunFindings(of: pipeline, catalog, on: connection)
        + EventTriggers(connection: connection).findings(tries: rehearses, announce: announce)
        + catalog.constraintFindings(of: pipeline.definition, on: connection)
      var rehearsal = Rehearsal.Outcome()
      // Changes are not tried if errors are already known.
      if rehearses, known.contains(where: { $0.severity == .error }) {
        rehearsal.findings = [.notRehearsed]
      } else if rehearses {
        rehearsal = try await Rehearsal(
          connection: connection, catalog: catalog, definition: pipeline.definition
        ).run(announce: announce)
      }
      return try await known + rehearsal.findings
        + catalog.nearbyObjectFindings(
          of: pipeline.definition, besides: rehearsal.copying, on: connection)
        + catalog.leftOutFindings(of: pipeline.definition, on: connection)
        + holdFindings(pipeline, on: connection)
        + mistypedTombstones(of: pipeline, on: connection)
    }
  }

  /// Findings on hidden rows that no answer will release.
  private static func holdFindings(
    _ pipeline: Pipeline, on connection: Connection
  ) async throws -> [Finding] {
    var findings: [Finding] = []
    let unasked: OrphanedHolds.Counts
    do {
      unasked = try await OrphanedHolds(current: [pipeline.definition], on: connection).counts()
    } catch let error as LedgerError where error.code == .unreadable {
      unasked = .init()
      findings.append(
        Finding(
          severity: .warning, path: "datasets",
          message: """
            whose rows no dataset exports any more is not known: \(error.message)
            """, remedy: error.remedy))
    }
    if unasked.ids > 0 {
      findings.append(
        Finding(
          severity: .warning, path: "datasets",
          message: """
            \(unasked.rows) rows have holds of \(unasked.ids) IDs that no dataset exports any more: no answer \
            will open them
            """,
          remedy: """
            lethe holds list shows them; lethe holds release \(pipeline.file) --type tweets|users --unasked \
            --force --note TEXT gives them back what they had
            """))
    }
    let catalog = try await Catalog(of: pipeline.definition, on: connection)
    for table in try await HoldKeys(connection: connection, catalog: catalog).tablesOutOfReach() {
      findings.append(
        Finding(
          severity: .warning, path: "datasets",
          message: """
            rows of \(table) have holds, and they cannot be found: there is no such table, it has lost a column \
            of its key or one that was set, or row-level security may hide its rows
            """,
          remedy: """
            give the table its name, its columns or its rows back, and the next answers open them; or lethe holds \
            list --table \(table), and lethe holds release --keep-hidden to forget them
            """))
    }
    let protections = try await HoldLedger(connection: connection).counts().protections
    if protections > 0 {
      findings.append(
        Finding(
          severity: .warning, path: "datasets",
          message: """
            \(protections) IDs were protected by a version without holds: which rows they hide is not known
            """,
          remedy: """
            leave them: the next answer that releases such an ID finds its rows by set, and opens them to the \
            values of restore
            """))
    }
    return findings
  }
}
