public import Definitions
public import PostgreSQL
import Vocabulary

/// Finds CHECK constraints that the values of an action violate on every row.
extension Catalog {
  /// Only `lethe check` reports these constraints. A run applies the events that the table accepts, and sets the other
  /// events aside.
  public func constraintFindings(
    of definition: Definition, on connection: Connection
  ) async throws -> [Finding] {
    var checker = Checker(catalog: self)
    for dataset in definition.datasets { checker.check(dataset) }
    let values = checker.values
    var findings: [Finding] = []
    for together in Self.rows(of: values) {
      guard let value = together.first else { continue }
      findings += try await partitionFindings(of: together, on: connection)
      var broken: Set<String> = []
      for constraint in try await constraints(over: together, of: value.table, on: connection) {
        let isBroken = try await isBroken(
          SQL(trusted: constraint.condition), by: together, on: connection)
        if isBroken == nil {
          findings.append(
            Finding(
              severity: .note, path: value.path,
              message: """
                it is unknown whether the constraint \(constraint.name) of \(constraint.table) allows the values that \
                the action sets: a function of the constraint changes data, so the constraint was not evaluated
                """,
              remedy: """
                check that the constraint allows the values; the rehearsal tests this if the table has a row
                """))
        }
        guard isBroken == true else { continue }
        // A row with such a value moves to another partition, so this partition's constraint does not count.
        if let partition = constraint.partition,
          try await self.isBroken(SQL(trusted: partition), by: together, on: connection) == true
        {
          continue
        }
        guard broken.insert(constraint.condition).inserted else { continue }
        findings.append(
          Finding(
            severity: .error, path: value.path,
            message: """
              the constraint \(constraint.name) of \(constraint.table) forbids the values that the action sets: \
              \(constraint.condition)
              """, remedy: "set values that the constraint allows, or change the constraint"))
      }
    }
    return findings
  }

  /// Groups the values that are set together. A restore sets columns of its action, but to other values.
  private static func rows(of values: [CheckedValue]) -> [[CheckedValue]] {
    var rows: [[CheckedValue]] = []
    for value in values {
      if let first = rows.last?.first, first.path == value.path,
        first.table.name == value.table.name,
        rows.last?.contains(where: { $0.column.name == value.column.name }) == false
      {
        rows[rows.count - 1].append(value)
      } else {
        rows.append([value])
      }
    }
    return rows
  }

  /// The constraints of a table and its partitions that use only columns that the action sets.
  private func constraints(
    over values: [CheckedValue], of table: WarehouseTable, on session: some Session
  ) async throws -> [(name: String, table: String, condition: String, partition: String?)] {
    try await session.query(
      """
      WITH RECURSIVE tree AS (
        SELECT \(table.quoted)::regclass::oid AS oid
        UNION SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid
      )
      SELECT k.conname, n.nspname, c.relname, pg_get_expr(k.conbin, k.conrelid) AS condition,
             pg_get_partition_constraintdef(c.oid) AS partition
      FROM tree JOIN pg_constraint AS k ON k.conrelid = tree.oid
      JOIN pg_class AS c ON c.oid = tree.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
      WHERE k.contype = 'c' AND k.conkey <> '{}'
        -- In PostgreSQL 18, a constraint can be NOT ENFORCED.
        AND pg_catalog.to_jsonb(k) ->> 'conenforced' IS DISTINCT FROM 'false'
        AND NOT EXISTS (
          SELECT FROM pg_catalog.unnest(k.conkey) AS key (attnum)
          LEFT JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = key.attnum
          WHERE a.attname IS NULL OR NOT a.attname = ANY (\(values.map(\.column.name))::text[]))
      ORDER BY 4, 2, 3
      """
    ).rows.map { row in
      let table = TableName(schema: try row["nspname"], name: try row["relname"])
      return try (row["conname"], "\(table)", row["condition"], row["partition"])
    }
  }

  /// Evaluates a constraint in a read-only transaction, because it may call functions of the operator.
  /// - Returns: whether the values violate the constraint. Nil if a function of the constraint tries to change data.
  func isBroken(
    _ condition: SQL, by values: [CheckedValue], on connection: Connection
  ) async throws -> Bool? {
    let columns = values.map { value -> SQL in
      let new = ValueExpression(value.value, column: value.column)?.sql ?? "\(value.value)"
      return "\(new)::\(trusted: value.column.declaredType) AS \(value.column.sql)"
    }
    do {
      return try await connection.withTransaction(readOnly: true) { transaction in
        try await transaction.run(
          "SELECT (\(condition)) IS FALSE FROM (SELECT \(columns.joined(separator: ", "))) AS row"
        ).onlyRow(as: Bool.self)
      }
    } catch let error as PostgreSQLError where error.state == .readOnlyTransaction {
      return nil
    } catch let error as PostgreSQLError where !error.isTemporary {
      // The constraint calls a function that the role may not call, or that fails without the row's other columns.
      return false
    }
  }
}
