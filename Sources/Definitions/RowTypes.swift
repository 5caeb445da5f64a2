internal import DefinitionFiles
import Vocabulary

/// What the `id` of a target's rows is.
extension Resolver {
  private static let words = ["tweets", "users", "none"]

  /// As the target says, or as the dataset says that has the same table and column.
  func rowType(_ target: WrittenTarget) throws -> RowType? {
    guard let id = target.id else {
      guard let type = target.type else { return nil }
      throw fault(
        type.line, "type says what the id of a target is, and this target has none",
        "add id: with the column, or leave type: out")
    }
    let table = try table(target.table)
    let known = try written.datasets.filter {
      try self.table($0.table) == table && filled($0.id.column) == filled(id.column)
    }.map { (name: $0.name.value, type: RowType(rawValue: try filled($0.type))) }
    guard let word = target.type else {
      let types = Set(known.compactMap(\.type))
      if let type = types.first, types.count == 1 { return type }
      throw fault(
        id.line, "the target \(target.table.value) does not say what its \(id.column.value) is",
        "add type: tweets or type: users if it is the ID of one, else type: none: only posts and users get tombstones"
      )
    }
    let filledWord = try filled(word)
    guard let type = RowType(rawValue: filledWord) else {
      let meant = YAMLMap.nearest(to: filledWord, among: Self.words)
      throw fault(
        word.line, "unknown type \(filledWord) of the target \(target.table.value)",
        (meant.map { "did you mean \($0)? " } ?? "") + "write type: tweets, users or none")
    }
    if type != .none, let other = known.first(where: { $0.type != type }) {
      throw fault(
        word.line,
        """
        \(target.table.value).\(id.column.value) is of type \(type.rawValue) here, and the dataset \(other.name) says \
        \(other.type?.rawValue ?? "otherwise")
        """,
        "mend the one that is wrong")
    }
    return type
  }
}

extension Dataset {
  /// The same with each target's type filled in. In definitions that runs kept before targets said what
  /// their `id` is, it is a post's where a dataset of posts has the same table and column, else nobody's.
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
