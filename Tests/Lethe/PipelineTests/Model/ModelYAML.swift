/// Writes a plan of the model as a definition.
extension ModelPlan {
  /// - Parameter sizes: the keys that set the sizes of a dataset's chunks and batches.
  func yaml(name: String, sizes: String) -> String {
    """
    name: \(name)
    warehouse: none
    api: {bearer_token: none}
    limits: {max_redacted_percent: 100, max_redacted_rows: 100000, allow_whole_chunks: true, max_restored_percent: 100}
    datasets:
    \(datasets.map { yaml($0, sizes) }.joined(separator: "\n"))

    """
  }

  private func yaml(_ dataset: Dataset, _ sizes: String) -> String {
    let ids = "BETWEEN \(dataset.ids.lowerBound) AND \(dataset.ids.upperBound)"
    return """
        \(dataset.name):
          type: \(dataset.type)
          table: \(Self.table(dataset.table))
          id: \(dataset.id)
          where: \(dataset.id) \(ids)
          \(sizes)
          actions: {\(Self.yaml(dataset.actions))}
          targets: [\(dataset.targets.map(Self.yaml).joined(separator: ",\n            "))]
      """
  }

  static func table(_ table: String) -> String {
    "warehouse." + (table == "media" ? "post_media" : table)
  }

  private static func yaml(_ target: Target) -> String {
    var keys = ["table: \(table(target.table))", "match: \(target.match)"]
    if let id = target.id { keys += ["id: \(id)", "type: tweets"] }
    keys.append("actions: {\(yaml(target.actions))}")
    if !target.targets.isEmpty {
      keys.append("targets: [\(target.targets.map(yaml).joined(separator: ", "))]")
    }
    return "{\(keys.joined(separator: ", "))}"
  }

  private static func yaml(_ actions: [String: Action]) -> String {
    actions.sorted { $0.key < $1.key }.map { "\($0): \(yaml($1))" }.joined(separator: ", ")
  }

  private static func yaml(_ action: Action) -> String {
    switch action {
    case .ignore: return "ignore"
    case .delete: return "delete"
    case .protect(let set, let restore):
      let restoreYAML =
        switch restore {
        case .none: "none"
        case .former: "former"
        // Lethe must not use these values, because it knows all former values. No row ever had them, except
        // `searchable: true`.
        case .values: yaml(set.mapValues { _ in "never" })
        }
      return "{protect: {set: \(yaml(set)), restore: \(restoreYAML)}}"
    case .redact(let erasures): return "{redact: {\(yaml(erasures))}}"
    case .scrub(let erasures): return "{scrub_geo: {\(yaml(erasures))}}"
    case .rehydrate(let mark): return "{rehydrate: {set: \(yaml(mark))}}"
    }
  }

  private static func yaml(_ values: [String: Value]) -> String {
    "{" + values.sorted { $0.key < $1.key }.map { "\($0): \(yaml($1, $0))" }.joined(separator: ", ")
      + "}"
  }

  private static func yaml(_ value: Value, _ column: String) -> String {
    if value == null { return "null" }
    switch (column, value) {
    case ("latitude", "never"): return "-77.7"
    case ("searchable", "never"): return "true"
    case ("raw", "never"): return #"'{"never": 1}'"#
    case ("raw", _): return "'{}'"
    default: return "'\(value)'"
    }
  }

  private static func yaml(_ erasures: [String: Erasure]) -> String {
    erasures.sorted { $0.key < $1.key }.map { column, erasure in
      switch erasure {
      case .to(let value): "\(column): \(yaml(value, column))"
      case .cut(let path): "\(column): [\(path)]"
      }
    }.joined(separator: ", ")
  }
}
