import Definitions
import PostgreSQL
import Vocabulary

/// Foreign keys that point at rows which a dataset deletes, and what their tables' rows come to.
extension Checker {
  /// A place of a definition that changes a table's rows.
  private struct Place {
    let path: String
    let table: TableName
    /// The reasons for which it deletes.
    let deletes: Set<Reason>

    init(_ path: String, _ table: TableName, _ actions: [Reason: Action]) {
      self.path = path
      self.table = table
      deletes = Set(actions.filter { $0.value == .delete }.keys)
    }
  }

  mutating func checkReferences(of dataset: Dataset) {
    var before: [Place] = []
    for place in places(of: dataset) {
      for key in catalog.table(place.table)?.references ?? []
      where !place.deletes.isSubset(
        of: before.filter { key.refers(from: $0.table) }.flatMap(\.deletes))
      {
        check(key, place)
      }
      before.append(place)
    }
  }

  /// Foreign keys that make each deletion a pass over the table that refers.
  mutating func checkReferenceIndexes(of dataset: Dataset) {
    for place in places(of: dataset) where !place.deletes.isEmpty {
      for key in catalog.table(place.table)?.references ?? [] where !key.isIndexed {
        warn(
          place.path,
          "no index finds the rows of \(key.table) that refer to \(place.table) (constraint \(key.constraint)): PostgreSQL reads all of it for each row that is deleted",
          """
          CREATE INDEX ON \(key.table.quoted) (\(key.columns.map { Identifier($0).quoted }.joined(separator: ", ")))
          """
        )
      }
    }
  }

  /// In the order in which apply goes through them.
  private func places(of dataset: Dataset) -> [Place] {
    func places(_ targets: [Target], _ path: String) -> [Place] {
      targets.enumerated().flatMap { index, target in
        let path = "\(path).targets[\(index)]"
        return places(target.targets, path)
          + [Place("\(path).table", target.table, target.actions)]
      }
    }
    let path = "datasets.\(dataset.name)"
    return places(dataset.targets, path)
      + [Place("\(path).table", dataset.table, dataset.actions)]
  }

  private mutating func check(_ key: WarehouseTable.ForeignKey, _ place: Place) {
    let constraint = "(constraint \(key.constraint))"
    let isOwn = key.refers(from: place.table)
    if key.isRestricting {
      need([
        Privilege("USAGE", on: .schema(key.table.schema ?? "public")),
        Privilege("SELECT", on: key.table.object),
      ])
    }
    if key.isCascading {
      warn(
        place.path,
        "rows of \(key.table) go with the rows of \(place.table) that are deleted \(constraint): no limit and no record counts them",
        "declare \(key.table) as a target before it, with the same reasons mapped to delete")
    } else if key.isRestricting, !key.isReadable {
      error(
        place.path,
        """
        rows of \(key.table) may hold what is deleted from \(place.table) \(constraint),
        and SELECT on it is not granted
        """,
        "\(grant("SELECT", on: key.table.quoted)), and USAGE on its schema"
      )
    } else if key.isRestricting {
      warn(
        place.path,
        "rows of \(key.table) may hold what is deleted from \(place.table) \(constraint): such a chunk fails before it is applied",
        isOwn
          ? "ON DELETE SET NULL empties the reference instead; or declare \(key.table) as a target that matches it, to delete what refers"
          : "declare \(key.table) as a target before it, with the same reasons mapped to delete")
    }
  }
}
