internal import DefinitionFiles
import Vocabulary

/// Determines what the `id` of a target's rows identifies.
extension Resolver {
  private static let words = ["tweets", "users", "none"]

  /// The target's own `type`, or the type of a dataset with the same table and column.
  func rowType(_ target: WrittenTarget) -> RowType? {
    guard target.hasID else {
      if let type = target.type {
        mistakes.note(
          type.line, "type is the type of a target's id, but this target has no id",
          "add id: with the column, or remove type:")
      }
      return nil
    }
    guard let id = target.id, let column = filled(id.column),
      let table = target.table.flatMap(table)
    else { return nil }
    let known = datasetTypes(of: table, column)
    guard let word = target.type else {
      let types = Set(known.types.compactMap(\.type))
      if let type = types.first, types.count == 1 { return type }
      // If a dataset has a mistake, its table and column are unknown. They could be those of this target.
      guard !target.hasType, known.isComplete else { return nil }
      return fault(
        id.line,
        "the target \(target.table?.value ?? "") has no type for its \(id.column.value)",
        "add type: tweets for the ID of a post, type: users for the ID of a user, or else type: none"
      )
    }
    guard let filledWord = filled(word) else { return nil }
    guard let type = RowType(rawValue: filledWord) else {
      let meant = YAMLMap.nearest(to: filledWord, among: Self.words)
      return fault(
        word.line, "unknown type \(filledWord) of the target \(target.table?.value ?? "")",
        (meant.map { "did you mean \($0)? " } ?? "") + "write type: tweets, users or none")
    }
    if type != .none, let other = known.types.first(where: { $0.type != type }) {
      return fault(
        word.line,
        """
        \(target.table?.value ?? "").\(id.column.value) is of type \(type.rawValue) here, but of type \
        \(other.type?.rawValue ?? "none") in the dataset \(other.name)
        """,
        "correct the type that is wrong")
    }
    return type
  }

  /// The types of the datasets with this table and column.
  /// - Returns: the types, and in `isComplete` whether the table, column and type of every dataset are known.
  private func datasetTypes(
    of table: TableName, _ column: String
  ) -> (types: [(name: String, type: RowType?)], isComplete: Bool) {
    var types: [(name: String, type: RowType?)] = []
    var isComplete = true
    for dataset in written.datasets {
      let type = dataset.type.flatMap(filled).flatMap(RowType.init)
      guard let other = dataset.table.flatMap(self.table),
        let id = dataset.id.flatMap({ filled($0.column) }), let type
      else {
        isComplete = false
        continue
      }
      if other == table, id == column { types.append((dataset.name.value, type)) }
    }
    return (types, isComplete)
  }
}

extension Dataset {
  /// Returns the dataset with the type of each target's `id` filled in. In definitions that an older version of Lethe
  /// stored with its runs, targets have no type. Then the type is `tweets` if a dataset of posts has the same table and
  /// column, else `none`.
  func typed(among datasets: [Dataset]) -> Dataset {
    Dataset(
      name: name, type: type, table: table, id: id, condition: condition,
      chunkIDsMax: chunkIDsMax, chunkBytesMax: chunkBytesMax, actions: actions,
      targets: targets.map { $0.typed(among: datasets) },
      tombstones: tombstones, idTimeColumn: idTimeColumn, batch: batch)
  }
}

extension Target {
  fileprivate func typed(among datasets: [Dataset]) -> Target {
    let isPost = datasets.contains {
      $0.type == .tweets && $0.table == table && $0.id.column == id?.column
    }
    return Target(
      table: table, match: match, id: id,
      type: id == nil ? nil : type ?? (isPost ? .tweets : RowType.none),
      idTimeColumn: idTimeColumn, actions: actions,
      targets: targets.map { $0.typed(among: datasets) })
  }
}
