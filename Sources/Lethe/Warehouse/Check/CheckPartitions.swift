import PostgreSQL

/// Finds missing partitions for the values that an action sets in partition key columns.
extension Catalog {
  /// Reports only values that no row can have: the table is a partition and refuses them, or all of its partitions
  /// refuse them. The catalog shows such cases, so no rows are read.
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
            \(table.name) is a partition, and does not accept rows with the values that the action sets: \(own)
            """,
          remedy: "name the partitioned table instead of the partition, or set another value"))
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
    let isAccepted = bounds.map { "(\(trusted: $0 ?? "true")) IS TRUE" as SQL }.joined(
      separator: " OR ")
    if !bounds.isEmpty, try await isBroken(isAccepted, by: values, on: connection) == true {
      let names = values.map(\.column.name).joined(separator: ", ")
      findings.append(
        Finding(
          severity: .error, path: value.path,
          message:
            "no partition of \(table.name) accepts rows with the values that the action sets in \(names)",
          remedy: "create a partition that accepts these values, or set another value"))
    }
    return findings
  }
}
