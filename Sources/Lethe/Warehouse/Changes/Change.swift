import Definitions
import PostgreSQL
import Vocabulary
import Warehouse

/// One statement's worth of change: what is done to the rows of one table for some reasons.
struct Change {
  let reach: Reach
  let kind: Kind
  /// The labels of `lethe.reason` that it is for; none for a restore, which goes by `lethe_restored`.
  let reasons: [String]
  /// For a restore: the ways on which rows of this table are protected. A row that another protected
  /// ID still reaches stays as it is.
  var guards: [ProtectionGuard] = []
  /// The one row that it may touch, in a rehearsal; nil for all that the events reach.
  var only: RowPlace?
  /// How its rows are named in `lethe.hold`; nil where they have no key, and so no holds.
  var holdKey: HoldKey? { HoldKey(reach.table) }
  /// For a delete: the further targets whose rows are found through the ones that it takes, and that go
  /// for the same reasons.
  var dependents: [Dependent] = []

  struct Dependent {
    let table: WarehouseTable
    let match: IDExpression
    /// The column of the deleted row that `match` holds.
    let id: IDExpression
  }

  /// Where a row is: the table that holds it, and the place in that.
  struct RowPlace {
    let part: Int64
    let place: String
  }

  enum Kind: Equatable {
    case delete
    case protect([ColumnValue], Restore)
    case scrubGeo(Erasure)
    case redact(Erasure)
    /// Marks the row as stale: its ID is to be fetched again.
    case rehydrate(mark: [ColumnValue])
    /// Undoes a protection of a version that kept no holds: from what was set to what the definition says.
    case restore(from: [ColumnValue], to: [ColumnValue])
  }

  /// The label of `lethe.action`.
  var action: String {
    switch kind {
    case .delete: "delete"
    case .protect: "protect"
    case .scrubGeo: "scrub_geo"
    case .redact: "redact"
    case .rehydrate: "rehydrate"
    case .restore: "restore"
    }
  }

  var isDelete: Bool { kind == .delete }

  var isRestore: Bool { if case .restore = kind { true } else { false } }

  /// Whether it takes something away, and so counts towards the limits.
  var isRedacting: Bool {
    switch kind {
    case .delete, .protect, .scrubGeo, .redact: true
    case .rehydrate, .restore: false
    }
  }

  var keepsHolds: Bool {
    if case .protect(_, let restore) = kind { restore.keepsHolds } else { false }
  }

  /// Whether it takes content out of rows that stay, and so out of their holds.
  var erasure: Erasure? {
    switch kind {
    case .scrubGeo(let erasure), .redact(let erasure): erasure
    case .delete, .protect, .rehydrate, .restore: nil
    }
  }

  /// Whether nothing of the content is left of the row.
  var isRemoving: Bool {
    switch kind {
    case .delete, .redact: true
    case .protect, .scrubGeo, .rehydrate, .restore: false
    }
  }

  /// What the audit record calls it.
  var label: String { "\(action) \(reach.table.name)" }

  /// Whether an event of `range` may ask for it.
  func isDue(in range: EventRange) -> Bool {
    isRestore ? range.mayRestore : range.mayHold(reasons)
  }

  /// Everything that the events of a dataset can change, in order.
  /// - Parameter definition: the dataset's, whose other datasets may protect the same rows.
  static func all(
    of dataset: Dataset, in definition: Definition, catalog: Catalog
  ) throws -> [Change] {
    let guards = try ProtectionGuard.all(of: definition, catalog: catalog)
    let changes = try Reach.all(of: dataset, catalog: catalog).flatMap(changes)
    let restores = changes.filter(\.isRestore).map { change in
      var change = change
      change.guards = guards.filter { $0.table == change.reach.table.name }
      return change
    }
    let others = changes.filter { !$0.isRestore }
    // Restores look at who has written a row last, so they come before any other change to it.
    return restores
      + others.map { change in
        var change = change
        change.dependents = others.compactMap { $0.dependent(on: change) }
        return change
      }
  }

  private func dependent(on parent: Change) -> Dependent? {
    guard isDelete, parent.isDelete, let step = reach.steps.last,
      reach.steps.count == parent.reach.steps.count + 1,
      step.table.name == parent.reach.table.name, step.match.isSame(as: parent.reach.match),
      Set(parent.reasons).isSubset(of: reasons)
    else { return nil }
    return Dependent(table: reach.table, match: reach.match, id: step.id)
  }

  private static func changes(of reach: Reach) -> [Change] {
    var changes: [Change] = []
    func add(_ kind: Kind, _ reasons: [String]) {
      changes.append(Change(reach: reach, kind: kind, reasons: reasons))
    }
    for (action, reasons) in grouped(reach.actions) {
      switch action {
      case .delete: add(.delete, reasons)
      case .protect(let set, let restore):
        add(.protect(set, restore), reasons)
        if case .former(let fallback, _) = restore, !fallback.isEmpty {
          add(.restore(from: set, to: fallback), [])
        }
      case .scrubGeo(let erasure): add(.scrubGeo(erasure), reasons)
      case .redact(let erasure): add(.redact(erasure), reasons)
      case .rehydrate(let mark): if !mark.isEmpty { add(.rehydrate(mark: mark), reasons) }
      case .ignore: break
      }
    }
    return changes
  }

  private static func grouped(
    _ actions: [Reason: Action]
  ) -> [(action: Action, reasons: [String])] {
    var groups: [(action: Action, reasons: [String])] = []
    for reason in Reason.allCases {
      guard let action = actions[reason] else { continue }
      if let index = groups.firstIndex(where: { $0.action == action }) {
        groups[index].reasons.append(reason.rawValue)
      } else {
        groups.append((action, [reason.rawValue]))
      }
    }
    return groups
  }
}

/// A way on which the IDs of a dataset protect rows of a table.
struct ProtectionGuard {
  let pipeline: String
  let dataset: String
  let table: TableName
  let resolvedTable: TableName
  let match: IDExpression
  let steps: [Reach.Step]

  static func all(of definition: Definition, catalog: Catalog) throws -> [ProtectionGuard] {
    try definition.datasets.flatMap { dataset in
      try Reach.all(of: dataset, catalog: catalog)
        .filter { $0.actions.values.contains { $0.word == "protect" } }
        .map {
          ProtectionGuard(
            pipeline: definition.name, dataset: dataset.name, table: $0.table.name,
            resolvedTable: $0.table.resolvedName, match: $0.match, steps: $0.steps)
        }
    }
  }

  /// The condition that no other ID protects a row. The protections that this batch ends are forgotten by
  /// now, so what is found is another's. From the row back to the ID that protects it.
  func isFree(_ alias: SQL) -> SQL {
    var from: SQL = "lethe.protection AS q"
    var conditions: [SQL] = []
    var current = (expression: match.sql(of: alias), kind: match.kind)
    for (index, step) in steps.reversed().enumerated() {
      let alias: SQL = "g\(literal: index + 1)"
      from += ", \(step.table.sql) AS \(alias)"
      conditions.append(step.id.equals(current.expression, of: current.kind, alias: alias))
      current = (step.match.sql(of: alias), step.match.kind)
    }
    conditions += [
      "q.pipeline = \(pipeline)",
      "q.dataset = \(dataset)",
      "q.id = \(IDKind.integer.cast(current.expression, from: current.kind))",
    ]
    return "NOT EXISTS (SELECT FROM \(from) WHERE \(conditions.joined(separator: " AND ")))"
  }
}

/// A slice of a chunk's events: those with IDs above `after`, up to and with `through`.
struct EventRange {
  let chunkID: Int64
  var after: Int64
  var through: Int64
  /// The labels of `lethe.reason` among them, and maybe others; nil where nobody has looked.
  var reasons: Set<String>?
  /// Whether one of them may end a protection.
  var mayRestore = true
  /// Whether a part of one of them may be applied.
  var mayBePartlyApplied = true

  func mayHold(_ reasons: [String]) -> Bool {
    self.reasons.map { !$0.isDisjoint(with: reasons) } ?? true
  }
}

extension EventRange {
  /// The condition that an event `s` is in the range.
  var all: SQL {
    "s.chunk_id = \(chunkID) AND s.id > \(after) AND s.id <= \(through)"
  }

  /// The same, and that it is acted on: no newer answer about its ID has come.
  var standing: SQL { "\(all) AND s.superseded_by IS NULL" }
}
