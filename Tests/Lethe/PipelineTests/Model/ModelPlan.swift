/// The content of a definition, in the terms of the model. The driver writes the definition's YAML from the plan, and
/// the model follows the plan.
struct ModelPlan: Sendable {
  /// A column's value as text. The constant `null` stands for NULL. A JSON value is the list of its sorted keys,
  /// separated by commas.
  typealias Value = String
  static let null = "-"

  enum Restore: Sendable, Equatable {
    case none, former
    /// Values for rows without a known former value. The model has no such row.
    case values
  }

  enum Erasure: Sendable, Equatable {
    case to(Value)
    /// A key that is removed from JSON.
    case cut(String)
  }

  enum Action: Sendable, Equatable {
    case ignore, delete
    case protect([String: Value], Restore)
    case redact([String: Erasure])
    case scrub([String: Erasure])
    case rehydrate([String: Value])
  }

  struct Target: Sendable {
    let table: String
    let match: String
    /// The column with the rows' own IDs. All of these rows are posts.
    let id: String?
    var actions: [String: Action]
    var targets: [Target] = []
  }

  struct Dataset: Sendable {
    var name: String
    let type: String
    let table: String
    let id: String
    let ids: ClosedRange<Int64>
    var actions: [String: Action]
    var targets: [Target] = []
  }

  var datasets: [Dataset]
  var isAtomic = false

  func dataset(of id: Int64, type: String) -> Dataset? {
    datasets.first { $0.type == type && $0.ids.contains(id) }
  }

  /// Changes each protection of the plan.
  mutating func changeProtections(
    _ change: (_ dataset: String, [String: Value], Restore) -> ([String: Value], Restore)
  ) {
    for index in datasets.indices {
      let table = datasets[index].table
      func changed(_ actions: [String: Action]) -> [String: Action] {
        actions.mapValues { action in
          guard case .protect(let set, let restore) = action else { return action }
          let new = change(table, set, restore)
          return .protect(new.0, new.1)
        }
      }
      datasets[index].actions = changed(datasets[index].actions)
      for target in datasets[index].targets.indices {
        datasets[index].targets[target].actions =
          changed(datasets[index].targets[target].actions)
      }
    }
  }
}
