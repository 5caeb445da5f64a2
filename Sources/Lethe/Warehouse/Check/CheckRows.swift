import Definitions
import PostgreSQL
import Vocabulary

/// A value that an action sets in a column.
struct CheckedValue {
  let path: String
  let table: WarehouseTable
  let column: WarehouseTable.Column
  let value: String?
}

/// A column that the definition names as `id_time`. It should contain the time that the post's ID contains.
struct CheckedIDTime {
  let path: String
  let table: WarehouseTable
  let id: IDExpression
  let time: WarehouseTable.Column
}

/// A kind of statement that an action runs.
struct CheckedStatement {
  let path: String
  let table: WarehouseTable
  let privilege: WarehouseTable.Privilege
  /// The columns that an update sets.
  let columns: [String]

  /// A statement on the whole table, so that PostgreSQL plans it for each partition. Nil if a column cannot be set.
  /// Another check reports this column.
  var sql: SQL? {
    switch privilege {
    case .select: return nil
    case .delete: return "DELETE FROM \(table.sql)"
    case .update:
      let known = columns.compactMap { table.columns[$0] }.filter { !$0.isGenerated }
      guard known.count == columns.count, !known.isEmpty else { return nil }
      let sets = Set(known.map(\.name)).sorted().map {
        "\(identifier: $0) = \(identifier: $0)" as SQL
      }
      return "UPDATE \(table.sql) SET \(sets.joined(separator: ", "))"
    }
  }
}

/// Checks that run statements on the database.
extension Catalog {
  /// Finds statements that PostgreSQL refuses before it runs them, such as a DELETE on a published table without
  /// replica identity, or on a table with such a partition.
  func statementFindings(
    _ statements: [CheckedStatement], on session: some Session
  ) async throws -> [Finding] {
    var findings: [Finding] = []
    var seen: Set<String> = []
    for statement in statements {
      // Only the other server can determine which statements a foreign table accepts.
      if case .foreignPart = statement.table.versionProblem { continue }
      guard let sql = statement.sql, seen.insert(sql.description).inserted else { continue }
      do {
        _ = try await session.query("EXPLAIN \(sql)")
      } catch let error as PostgreSQLError where error.state == .insufficientPrivilege {
        continue  // another check reports it
      } catch let error as PostgreSQLError
        where error.isRefusal
      {
        findings.append(
          Finding(
            severity: .error, path: statement.path,
            message: """
              PostgreSQL refuses \(statement.privilege.rawValue) on \(statement.table.name): \
              \(error.messageWithoutValues)
              """,
            remedy: error.hintWithoutValues
              ?? "change the table and its partitions so that they accept the statement"
          ))
      }
    }
    return findings
  }

  /// Finds values that the types of their columns refuse or change.
  func valueFindings(
    _ values: [CheckedValue], on session: some Session
  ) async throws -> [Finding] {
    var findings: [Finding] = []
    for checked in values {
      let (column, name) = (checked.column, "\(checked.table.name).\(checked.column.name)")
      let value = checked.value.map { "the value \($0)" } ?? "NULL"
      let text: SQL = column.hasEquality ? "" : "::text"
      let new: SQL = "\(checked.value)"
      do {
        if let expression = ValueExpression(checked.value, column: column) {
          // The result is rounded to the column's type. Only a domain can refuse it.
          _ = try await session.query("SELECT \(expression.sql)::\(trusted: column.declaredType)")
          continue
        }
        let isKept = try await session.query(
          """
          SELECT (\(new)::\(column.typeSQL))\(text)
                 IS NOT DISTINCT FROM (\(new)::\(column.typeSQL)::\(trusted: column.declaredType))\(text)
          """
        ).onlyRow(as: Bool.self)
        guard !isKept else { continue }
        findings.append(
          Finding(
            severity: .error, path: checked.path,
            message: "\(name) is \(column.declaredType) and does not store \(value) unchanged",
            remedy: "write a value that the type \(column.declaredType) can store"))
      } catch let error as PostgreSQLError where error.state == .insufficientPrivilege {
        continue  // another check reports it
      } catch let error as PostgreSQLError where !error.isTemporary {
        findings.append(
          Finding(
            severity: .error, path: checked.path,
            message: "\(name) is \(column.type) and refuses \(value): \(error.message)",
            remedy: "write a value of the type \(column.type)"))
      }
    }
    return findings
  }

  /// The approximate maximum number of pages to sample from a table.
  private static let samplePagesMax = 500

  /// Finds rows with an `id_time` that differs from the time in their ID. Apply would search the wrong partitions for
  /// these rows and leave them unchanged, and no error would show this.
  func idTimeFindings(
    _ columns: [CheckedIDTime], on session: some Session
  ) async throws -> [Finding] {
    var findings: [Finding] = []
    for checked in columns {
      guard let row = try await misplacedRow(checked, on: session) else { continue }
      let name = "\(checked.table.name).\(checked.time.name)"
      let time =
        row.idTime.map { "the time in the ID is \($0)" }
        ?? "the ID is so old that it contains no time"
      findings.append(
        Finding(
          severity: .error, path: checked.path,
          message: "\(name) of ID \(row.id) is \(row.time ?? "NULL"), and \(time)",
          remedy: "remove id_time; then apply searches every partition"))
    }
    return findings
  }

  private func misplacedRow(
    _ checked: CheckedIDTime, on session: some Session
  ) async throws -> (id: Int64, time: String?, idTime: String?)? {
    let parts = try await parts(of: checked.table, on: session)
    // A foreign partition is not sampled, because the whole partition would be read.
    let local = parts.filter { !$0.isForeign }
    let isSpread = local.count < parts.count
    // A partition that the role may not read directly is read through the table with its bounds.
    let sampledParts = local.filter { $0.isReadable || $0.condition != nil }
    guard !sampledParts.isEmpty || !isSpread else { return nil }
    let pages = try await session.query(
      """
      WITH RECURSIVE tree AS (
        SELECT \(checked.table.quoted)::regclass::oid AS oid
        UNION SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid
      )
      SELECT coalesce(sum(pg_relation_size(oid)) / current_setting('block_size')::bigint, 0)::bigint
      FROM tree
      """
    ).onlyRow(as: Int.self)
    let percent = min(100, 100 * Double(Self.samplePagesMax) / Double(max(pages, 1)))
    let (time, type) = (checked.time.sql, checked.time.typeSQL)
    let (percentage, firstID): (SQL, SQL) = ("\(percent)", "\(PostIDTime.firstIDWithTime)")
    let slack: SQL = "\(PostIDTime.slackSeconds)"
    func sample(_ source: SQL, where condition: SQL = "true") -> SQL {
      """
      SELECT \(checked.id.number(of: "t")) AS id, t.\(time) AS at
      FROM (SELECT * FROM \(source) TABLESAMPLE SYSTEM (\(percentage)) WHERE \(condition)) AS t
      """
    }
    let sampled =
      isSpread
      ? sampledParts.map {
        $0.isReadable
          ? sample("ONLY \($0.name.sql)")
          : sample(checked.table.sql, where: SQL(trusted: $0.condition ?? "true"))
      } : [sample(checked.table.sql)]
    let row = try await session.query(
      """
      SELECT id, at::text, CASE WHEN id >= \(firstID) THEN to_timestamp(seconds)::timestamp(0)::text END
      FROM (SELECT id, at,
        ((greatest(id, \(firstID)) >> \(PostIDTime.otherBits)) + \(PostIDTime.epochMilliseconds)) / 1000 AS seconds
            FROM (\(sampled.joined(separator: " UNION ALL "))) AS sampled
            WHERE id > 0) AS known
      WHERE (at <= to_timestamp(seconds + 1 + \(slack))::\(type)
             AND (id < \(firstID) OR at >= to_timestamp(seconds - \(slack))::\(type))) IS NOT TRUE
      LIMIT 1
      """
    ).firstRow(as: Int64.self, String?.self, String?.self)
    return row.map { (id: $0.0, time: $0.1, idTime: $0.2) }
  }
}
