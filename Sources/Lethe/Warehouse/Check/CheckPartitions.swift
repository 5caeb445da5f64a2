import PostgreSQL

/// Missing partitions for the values that an action gives to partition key columns.
extension Catalog {
  /// Finds only cases in which no partition fits any row, which the catalog shows without reading rows.
  func partitionFindings(
    of values: [CheckedValue], on connection: Connection
  ) async throws -> [Finding] {
    guard let value = values.first else { return [] }
    let table = value.table
    var findings: [Finding] = []
    let own = try await connection.query(
      "SELECT pg_get_partition_constraintdef(\(table.quoted)::regclass)"
    ).onlyRow(as: String?.self)
    if let own, try await isBroken(SQL(trusted: own), by: values, on: connection) == true {
      findings.append(
        Finding(
          severity: .error, path: value.path,
          message: """
            \(table.name) is a partition, and does not take rows with what the action sets: \(own)
            """, remedy: "name the table that it is a partition of, or write another value"))
    }
    guard values.contains(where: { table.partitionColumns.contains($0.column.name) }) else {
      return findings
    }
    let bounds = try await connection.query(
      """
      SELECT pg_get_partition_constraintdef(i.inhrelid)
      FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhparent
      WHERE i.inhparent = \(table.quoted)::regclass AND c.relkind = 'p'
      """
    ).rows(as: String?.self)
    let taken = bounds.map { "(\(trusted: $0 ?? "true")) IS TRUE" as SQL }.joined(separator: " OR ")
    if !bounds.isEmpty, try await isBroken(taken, by: values, on: connection) == true {
      let names = values.map(\.column.name).joined(separator: ", ")
      findings.append(
        Finding(
          severity: .error, path: value.path,
          message: "no partition of \(table.name) takes rows with what the action sets: \(names)",
          remedy: "create a partition that takes them, or write another value"))
    }
    return findings
  }
}
