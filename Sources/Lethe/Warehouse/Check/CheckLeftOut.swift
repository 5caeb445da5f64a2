public import Definitions
public import PostgreSQL
import Vocabulary

/// A normalized ID column of a table. It needs an index over the ID expression, not over the column.
struct CheckedID {
  let path: String
  let table: WarehouseTable
  let id: IDExpression
}

extension Catalog {
  /// Finds rows that no answer can reach: rows of datasets that cannot be exported, and rows of targets with an ID in
  /// another form in `match`. This reads whole text columns, so the checks at the start of a run do not include it.
  public func leftOutFindings(
    of definition: Definition, on session: some Session
  ) async throws -> [Finding] {
    var findings: [Finding] = []
    for dataset in definition.datasets {
      let path = "datasets.\(dataset.name)"
      guard let table = table(dataset.table), let id = table.id(dataset.id) else { continue }
      let leftOut = try await table.leftOut(of: id, where: dataset.condition, on: session)
      if leftOut.rows > 0 {
        let reason = leftOut.reasonToStop(percentMax: definition.limits.maxSkippedPercent)
        findings.append(
          Finding(
            severity: reason == nil ? .warning : .error, path: "\(path).id",
            message: "\(dataset.name): "
              + (reason
                ?? "\(leftOut.rows) of \(leftOut.rowsOfDataset) rows are left out, so the API is not asked about them: \(leftOut.summary)"),
            remedy: table.remedy(for: leftOut, of: id, key: "id")))
      }
      findings += try await targetFindings(dataset.targets, path: path, on: session)
    }
    return findings
  }

  private func targetFindings(
    _ targets: [Target], path: String, on session: some Session
  ) async throws -> [Finding] {
    var findings: [Finding] = []
    for (index, target) in targets.enumerated() {
      let path = "\(path).targets[\(index)]"
      guard let table = table(target.table), let match = table.id(target.match) else { continue }
      if match.kind == .text, !match.isNormalized {
        let all = try await table.leftOut(of: match, where: nil, on: session)
        let padded = LeftOutRows(
          byCause: all.byCause.filter { $0.key.isNormalizable }, rowsOfDataset: all.rowsOfDataset)
        if padded.rows > 0 {
          findings.append(
            Finding(
              severity: .warning, path: "\(path).match",
              message:
                "no event reaches \(padded.rows) rows of \(target.table): \(padded.summary) in \(match.name)",
              remedy: table.remedy(for: padded, of: match, key: "match")))
        }
      }
      findings += try await targetFindings(target.targets, path: path, on: session)
    }
    return findings
  }

  /// Warns if no index supports the ID expression, because each batch then reads the whole table.
  func indexFindings(
    _ normalized: [CheckedID], on session: some Session
  ) async throws -> [Finding] {
    var findings: [Finding] = []
    for checked in normalized where try await !isIndexed(checked, on: session) {
      findings.append(
        Finding(
          severity: .warning, path: checked.path,
          message: """
            no index of \(checked.table.name) has the normalized form of \(checked.id.name), so each batch reads the \
            whole table
            """,
          remedy: SQL("CREATE INDEX ON \(checked.table.sql) ((\(checked.id.sql())))").description))
    }
    return findings
  }

  /// Whether an index finds the rows of an ID.
  private func isIndexed(_ checked: CheckedID, on session: some Session) async throws -> Bool {
    let former = try await session.query(
      "SELECT pg_catalog.current_setting('enable_seqscan')"
    ).onlyRow(as: String.self)
    try await session.execute("SELECT pg_catalog.set_config('enable_seqscan', 'off', false)")
    let plan = try await session.query(
      "EXPLAIN SELECT FROM \(checked.table.sql) WHERE \(checked.id.sql()) = '1'"
    ).rows(as: String.self)
    try await session.execute(
      "SELECT pg_catalog.set_config('enable_seqscan', \(former), false)")
    // An index over the plain column can also be read completely, so only an index condition counts.
    let searches = plan.count { $0.contains("Index Cond:") }
    let scans = plan.count { $0.contains(/(Seq|Index|Index Only|Bitmap Index) Scan/) }
    return searches == scans
  }
}

extension WarehouseTable {
  /// The remedy for rows that are left out.
  /// - Parameter key: the definition's key that names the column.
  func remedy(for leftOut: LeftOutRows, of id: IDExpression, key: String) -> String {
    guard leftOut.byCause.keys.contains(where: \.isNormalizable), !id.isNormalized else {
      return """
        correct the \(id.name) of these rows, delete the rows, or exclude them with where:
        """
    }
    let digits = IDNormalization.digits.sql(id.column.sql)
    let update: SQL = """
      UPDATE \(sql) SET \(id.column.sql) = \(digits) WHERE \(id.column.sql) <> \(digits) \
      AND \(digits) <> ''
      """
    return """
      write \(key): {column: \(id.name), normalize: digits}, and leave the rows as they are; or correct the rows: \
      \(update.description)
      """
  }
}
