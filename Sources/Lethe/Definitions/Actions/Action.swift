extension Action {
  /// The action as a definition's file would have it.
  public var written: String {
    switch self {
    case .delete, .ignore: word
    case .rehydrate(let mark):
      mark.isEmpty ? word : "{rehydrate: {set: \(Self.written(mark))}}"
    case .protect(let set, let restore):
      "{protect: {set: \(Self.written(set)), restore: \(Self.written(restore))}}"
    case .scrubGeo(let erasure), .redact(let erasure): "{\(word): \(Self.written(erasure))}"
    }
  }

  /// The columns that it names, in order.
  public var columns: [String] {
    switch self {
    case .delete, .ignore: []
    case .rehydrate(let mark): mark.map(\.column)
    case .protect(let set, .none): set.map(\.column)
    case .protect(let set, .former(let fallback, _)): (set + fallback).map(\.column)
    case .scrubGeo(let erasure), .redact(let erasure):
      erasure.set.map(\.column) + erasure.cut.map(\.column)
    }
  }

  /// The same action on columns of other names.
  public func renamingColumns(_ name: (String) -> String) -> Action {
    func renamed(_ values: [ColumnValue]) -> [ColumnValue] {
      values.map { ColumnValue(column: name($0.column), value: $0.value) }
    }
    func renamed(_ erasure: Erasure) -> Erasure {
      Erasure(
        set: renamed(erasure.set),
        cut: erasure.cut.map { JSONCut(column: name($0.column), paths: $0.paths) })
    }
    switch self {
    case .delete, .ignore: return self
    case .rehydrate(let mark): return .rehydrate(mark: renamed(mark))
    case .protect(let set, .none): return .protect(set: renamed(set), restore: .none)
    case .protect(let set, .former(let fallback, let ifWritten)):
      return .protect(
        set: renamed(set), restore: .former(fallback: renamed(fallback), ifWritten: ifWritten))
    case .scrubGeo(let erasure): return .scrubGeo(renamed(erasure))
    case .redact(let erasure): return .redact(renamed(erasure))
    }
  }

  private static func written(_ values: [ColumnValue]) -> String {
    "{\(values.map { "\($0.column): \($0.value.map(quoted) ?? "null")" }.joined(separator: ", "))}"
  }

  private static func written(_ restore: Restore) -> String {
    switch restore {
    case .none: return "none"
    case .former(let fallback, let ifWritten):
      let option = ifWritten == .ignore ? ["if_written: ignore"] : []
      let members = fallback.map { "\($0.column): \($0.value.map(quoted) ?? "null")" } + option
      return members.isEmpty ? "former" : "{\(members.joined(separator: ", "))}"
    }
  }

  private static func written(_ erasure: Erasure) -> String {
    if erasure.cut.isEmpty, erasure.set.allSatisfy({ $0.value == nil }) {
      return "[\(erasure.set.map(\.column).joined(separator: ", "))]"
    }
    let cuts = erasure.cut.map { cut in
      "\(cut.column): [\(cut.paths.map { $0.joined(separator: ".") }.joined(separator: ", "))]"
    }
    let set = erasure.set.map { "\($0.column): \($0.value.map(quoted) ?? "null")" }
    return "{\((set + cuts).joined(separator: ", "))}"
  }

  private static func quoted(_ value: String) -> String {
    value.isEmpty || value == "null" ? "'\(value)'" : value
  }
}
