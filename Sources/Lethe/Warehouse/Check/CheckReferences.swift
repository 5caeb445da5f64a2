import Definitions
import PostgreSQL
import Vocabulary

/// Checks the foreign keys that refer to rows that a dataset deletes, and their effects on the referring rows.
extension Checker {
  /// - Parameter plan: nil if a table or a column is missing. Another check reports this.
  mutating func checkReferences(_ plan: ApplyPlan?) {
    guard let plan else { return }
    for (index, change) in plan.changes.enumerated() where change.isDelete {
      for key in change.target.table.references where !plan.isCovered(key, at: index) {
        check(key, change.target)
      }
    }
  }

  /// Warns of foreign keys without an index, because PostgreSQL then reads the whole referring table for each deleted
  /// row.
  mutating func checkReferenceIndexes(_ plan: ApplyPlan?) {
    for change in plan?.changes ?? [] where change.isDelete {
      let table = change.target.table
      for key in table.references where !key.isIndexed {
        warn(
          "\(change.target.path).table",
          "no index finds the rows of \(key.table) that refer to \(table.name) (constraint \(key.constraint)), so PostgreSQL reads all of \(key.table) for each deleted row",
          """
          CREATE INDEX ON \(key.table.quoted) (\(key.columns.map { Identifier($0).quoted }.joined(separator: ", ")))
          """
        )
      }
    }
  }

  private mutating func check(_ key: WarehouseTable.ForeignKey, _ target: TargetPath) {
    let (path, table) = ("\(target.path).table", target.table.name)
    let constraint = "(constraint \(key.constraint))"
    let isOwn = key.refers(from: table)
    if key.isRestricting {
      need([
        Privilege("USAGE", on: .schema(key.table.schema ?? "public")),
        Privilege("SELECT", on: key.table.object),
      ])
    }
    if key.isCascading {
      warn(
        path,
        "PostgreSQL also deletes the rows of \(key.table) that refer to deleted rows of \(table) \(constraint); no limit and no record counts these rows",
        "declare \(key.table) as a target before \(table), with the same reasons mapped to delete")
    } else if key.isRestricting, !key.isReadable {
      error(
        path,
        """
        rows of \(key.table) may refer to rows that are deleted from \(table) \(constraint), \
        and SELECT on \(key.table) is not granted
        """,
        "\(grant("SELECT", on: key.table.quoted)), and grant USAGE on the schema of \(key.table)"
      )
    } else if key.isRestricting {
      warn(
        path,
        "rows of \(key.table) may refer to rows that are deleted from \(table) \(constraint); then the events that delete these rows are refused",
        isOwn
          ? "declare the foreign key ON DELETE SET NULL; or declare \(key.table) as a target that matches the referring column, to delete the referring rows"
          : "declare \(key.table) as a target before \(table), with the same reasons mapped to delete"
      )
    }
  }
}
