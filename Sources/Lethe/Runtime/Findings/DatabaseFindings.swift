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
  ///   - announce: called before changes are tried, with messages that name the triggers that will fire.
  /// - Returns: errors, warnings, and notes, for example on parts that were not checked.
  public static func findings(
    of pipeline: Pipeline, rehearses: Bool = true, announce: @Sendable (String) -> Void = { _ in }
  ) async throws -> [Finding] {
    try await Connection.withConnection(pipeline.warehouse, refusingPoolers: true) { connection in
      try await requirePrimary(on: connection, pipeline)
      // Without a lock timeout, the check would wait for a locked table without a limit.
      try await connection.execute(
        """
        SELECT pg_catalog.set_config('lock_timeout', '10s', false)
        WHERE pg_catalog.current_setting('lock_timeout') = '0'
        """)
      var findings = try await ledgerFindings(on: connection)
      let encoding = try await encodingFindings(of: pipeline.definition, on: connection)
      if !encoding.isEmpty { return findings + encoding }
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
          of: pipeline.definition, excluding: rehearsal.copying, on: connection)
        + catalog.leftOutFindings(of: pipeline.definition, on: connection)
        + holdFindings(pipeline, on: connection)
        + wrongTypeTombstones(of: pipeline, on: connection)
        + paceFindings(pipeline.pace, on: connection)
    }
  }

  /// Findings on bounds for the pace of apply that have no effect.
  private static func paceFindings(
    _ pace: ApplyPace, on connection: Connection
  ) async throws -> [Finding] {
    try await pace.warnings(on: connection).map {
      Finding(severity: .warning, path: $0.path, message: $0.message, remedy: $0.remedy)
    }
  }

  /// Findings on hidden rows that no answer will release, that cannot be found, or that are not known.
  private static func holdFindings(
    _ pipeline: Pipeline, on connection: Connection
  ) async throws -> [Finding] {
    var findings: [Finding] = []
    let unasked: OrphanedHolds.Counts
    do {
      unasked = try await OrphanedHolds(current: [pipeline.definition], on: connection).counts()
    } catch let error as LedgerError where error.code == .unreadable {
      unasked = .init(ids: 0, rows: 0)
      findings.append(
        Finding(
          severity: .warning, path: "datasets",
          message: """
            it is unknown which IDs with holds are no longer exported: \(error.message)
            """, remedy: error.remedy))
    }
    if unasked.ids > 0 {
      findings.append(
        Finding(
          severity: .warning, path: "datasets",
          message: """
            \(unasked.rows) rows have holds of \(unasked.ids) IDs that no dataset exports any more: no answer \
            will release them
            """,
          remedy: """
            run lethe holds list to see them; run lethe holds release \(shellWord(pipeline.file)) --type tweets|users \
            --unasked --force --note TEXT to restore their former values
            """))
    }
    let catalog = try await Catalog(of: pipeline.definition, on: connection)
    for table in try await HoldKeys(connection: connection, catalog: catalog)
      .tablesWithUnreachableRows()
    {
      findings.append(
        Finding(
          severity: .warning, path: "datasets",
          message: """
            rows of \(table) have holds but cannot be found: the table does not exist, or it has lost a key column \
            or a column that was set, or row-level security might hide the rows
            """,
          remedy: """
            restore the table's name, its columns or its rows, and the next answers can restore the values; or run lethe \
            holds list --table \(table), and lethe holds release --keep-hidden to delete the holds
            """))
    }
    let protections = try await HoldLedger(connection: connection).counts().protections
    if protections > 0 {
      findings.append(
        Finding(
          severity: .warning, path: "datasets",
          message: """
            \(protections) IDs were protected by an earlier version of Lethe, which had no holds: it is unknown which \
            rows they hide
            """,
          remedy: """
            do nothing: the next answer that releases such an ID finds its rows by the values of set, and changes \
            them to the values of restore
            """))
    }
    return findings
  }
}
