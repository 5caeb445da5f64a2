/// A model of the warehouse and the ledger in memory. It computes the expected result of a definition, one event at a
/// time. It follows the documented meaning of the actions, and uses no SQL, no batches and no transactions.
struct WarehouseModel {
  typealias Value = ModelPlan.Value

  struct Row: Hashable {
    var columns: [String: Value]
    /// The time of the last write by another writer. Nil if Lethe wrote the row last.
    var writtenAt: Int?
  }

  struct RowKey: Hashable {
    let table: String
    let key: String
  }

  struct ID: Hashable, Comparable {
    let type: String
    let id: Int64

    static func < (left: Self, right: Self) -> Bool {
      (left.type, left.id) < (right.type, right.id)
    }
  }

  /// One row that Lethe has hidden: the former values of its columns, the new values, and the holders.
  struct Hold: Hashable {
    var former: [String: Value] = [:]
    var setTo: [String: Value] = [:]
    var holders: [ID: Set<String>] = [:]

    mutating func forget(_ column: String) {
      former[column] = nil
      setTo[column] = nil
      for holder in holders.keys {
        holders[holder]?.remove(column)
        if holders[holder] == [] { holders[holder] = nil }
      }
    }
  }

  struct Record: Hashable, Comparable, CustomStringConvertible {
    var id: ID
    var reason: String
    var action: String
    var cause: Int64?
    var isSuperseded = false

    var description: String {
      "\(action) \(id.type) \(id.id) \(reason) cause \(cause ?? 0)\(isSuperseded ? " superseded" : "")"
    }

    static func < (left: Self, right: Self) -> Bool { left.description < right.description }
  }

  private struct Seen: Hashable {
    var id: Int64
    var redactedAt: Int?
  }

  /// The rows by table and key.
  var rows: [String: [String: Row]] = ["users": [:], "posts": [:], "media": [:], "reposts": [:]]
  var chunks: [ModelChunk] = []
  var clock = 0
  private(set) var holds: [RowKey: Hold] = [:]
  private(set) var tombstones: [ID: String] = [:]
  var rehydrations: Set<Int64> = []
  private(set) var records: [Record] = []
  private var editsSeen: Set<Seen> = []
  /// IDs of posts and reposts whose rows cannot be written now.
  var unwritable: Set<String> = []
  /// Whether the current event had to write an unwritable row.
  private var isRefused = false
  /// IDs that had a refused event at some time. Their records are not compared.
  private(set) var refused: Set<ID> = []

  // MARK: Collect

  mutating func collect(_ index: Int) {
    let chunk = chunks[index]
    guard chunk.isResult else { return }
    for (id, answer) in chunk.events { chunks[index].waiting[id] = .init(answer: answer) }
    for id in chunk.ids where chunk.isClean(bySilenceAbout: id) {
      if isHolder(ID(type: chunk.type, id: id)) {
        chunks[index].waiting[id] = .init(answer: .init(reason: "clean"))
        chunks[index].cleanIDs.insert(id)
      }
    }
    for other in chunks.indices where chunks[other].type == chunk.type {
      guard chunks[other].isCollected else { continue }
      if chunks[other].askedAt < chunk.askedAt {
        for id in chunks[other].waiting.keys
        where chunk.ids.contains(id) && chunk.decides(about: id) {
          chunks[other].waiting[id]?.isSuperseded = true
        }
      } else {
        for (id, waiting) in chunks[index].waiting
        where isSuperseded(id, waiting.answer, of: chunk, by: chunks[other]) {
          chunks[index].waiting[id]?.isSuperseded = true
        }
      }
    }
    chunks[index].isCollected = true
  }

  /// Whether a newer job supersedes this chunk's answer about an ID. The newer job's result was collected earlier. If
  /// that result does not name the ID, the ledger no longer records whether the newer chunk contained the ID. Then it
  /// matters whether the ID has a row. If it has a row, the answer is superseded, because the next run asks about the
  /// ID again. If it has no row, the answer is applied, because no later run asks about the ID.
  private func isSuperseded(
    _ id: Int64, _ answer: ModelChunk.Answer, of chunk: ModelChunk, by other: ModelChunk
  ) -> Bool {
    guard other.range.contains(id), other.decides(about: id) else { return false }
    if other.events[id] != nil || other.cleanIDs.contains(id) { return true }
    guard answer.reason != "clean", let dataset = chunk.plan.dataset(of: id, type: chunk.type)
    else { return false }
    return rows[dataset.table]?.values.contains { $0.columns[dataset.id] == "\(id)" } ?? false
  }

  private func isHolder(_ id: ID) -> Bool { holds.values.contains { $0.holders[id] != nil } }

  // MARK: Apply

  /// Applies the waiting entries of a chunk. An event that must write an unwritable row is set aside alone, and all
  /// others are applied. If the chunk is applied in one transaction, such an event sets the whole chunk aside.
  mutating func apply(_ index: Int) {
    let before = self
    let chunk = chunks[index]
    var left: [Int64: ModelChunk.Waiting] = [:]
    for (id, waiting) in chunk.waiting.sorted(by: { $0.key < $1.key }) {
      let beforeEvent = self
      isRefused = false
      apply(id, waiting, chunk)
      guard isRefused else { continue }
      self = beforeEvent
      refused.insert(ID(type: chunk.type, id: id))
      left[id] = waiting
    }
    if chunk.plan.isAtomic && !left.isEmpty {
      self = before
      refused.formUnion(chunk.waiting.keys.map { ID(type: chunk.type, id: $0) })
      return
    }
    chunks[index].waiting = left
  }

  private mutating func apply(_ id: Int64, _ waiting: ModelChunk.Waiting, _ chunk: ModelChunk) {
    let key = ID(type: chunk.type, id: id)
    let (answer, reason) = (waiting.answer, waiting.answer.reason)
    guard !waiting.isSuperseded else {
      return record(key, reason, "ignore", isSuperseded: true)
    }
    guard let dataset = chunk.plan.dataset(of: id, type: chunk.type) else { return }
    if ["clean", "geo_scrubbed", "tweet_edited"].contains(reason) { release(key, reason, chunk) }
    let action = dataset.actions[reason] ?? .ignore
    reach(dataset.targets, from: "\(id)", key, reason)
    if case .rehydrate = action {
      if !editsSeen.contains(Seen(id: id, redactedAt: answer.redactedAt)) {
        rehydrations.insert(id)
        perform(action, on: dataset.table, where: dataset.id, is: "\(id)", key)
      }
    } else {
      perform(action, on: dataset.table, where: dataset.id, is: "\(id)", key)
    }
    let name = Self.name(of: action)
    if ["delete", "redact"].contains(name), tombstones[key] == nil { tombstones[key] = reason }
    record(key, reason, reason == "clean" ? "restore" : name)
    if reason == "tweet_edited" {
      editsSeen.insert(Seen(id: id, redactedAt: answer.redactedAt))
    }
  }

  private static func name(of action: ModelPlan.Action) -> String {
    switch action {
    case .ignore: "ignore"
    case .delete: "delete"
    case .protect: "protect"
    case .redact: "redact"
    case .scrub: "scrub_geo"
    case .rehydrate: "rehydrate"
    }
  }

  /// Processes the rows that an ID reaches. The rows that these rows reach come first.
  private mutating func reach(
    _ targets: [ModelPlan.Target], from value: String, _ cause: ID, _ reason: String
  ) {
    for target in targets {
      let reached = (rows[target.table] ?? [:]).filter { $0.value.columns[target.match] == value }
      for key in reached.keys.sorted() {
        if let id = target.id, let own = reached[key]?.columns[id] {
          reach(target.targets, from: own, cause, reason)
        }
        let action = target.actions[reason] ?? .ignore
        let isChanged = perform(action, RowKey(table: target.table, key: key), cause)
        guard isChanged, target.id != nil, let number = Int64(key) else { continue }
        let id = ID(type: "tweets", id: number)
        let name = Self.name(of: action)
        if ["delete", "redact"].contains(name), tombstones[id] == nil { tombstones[id] = reason }
        record(id, reason, name, cause: cause.id)
      }
    }
  }

  private mutating func perform(
    _ action: ModelPlan.Action, on table: String, where column: String, is value: String, _ id: ID
  ) {
    for key in (rows[table] ?? [:]).filter({ $0.value.columns[column] == value }).keys {
      perform(action, RowKey(table: table, key: key), id)
    }
  }

  /// - Returns: whether the row was changed.
  @discardableResult
  private mutating func perform(_ action: ModelPlan.Action, _ key: RowKey, _ id: ID) -> Bool {
    switch action {
    case .ignore: return false
    case .delete:
      write(key, nil)
      holds[key] = nil
      return true
    case .protect(let set, let restore): return hide(key, set, restore, id)
    case .redact(let erasures), .scrub(let erasures): return erase(key, erasures)
    case .rehydrate(let mark): return write(key, mark)
    }
  }

  // MARK: Holds

  private mutating func hide(
    _ key: RowKey, _ set: [String: Value], _ restore: ModelPlan.Restore, _ id: ID
  ) -> Bool {
    guard let row = rows[key.table]?[key.key] else { return false }
    var hold = holds[key] ?? Hold()
    var changes: [String: Value] = [:]
    for (column, value) in set {
      let now = row.columns[column]
      if let held = hold.setTo[column], held == now {
        // Another protection has already hidden the column. The value of this protection is not used.
      } else if now == value {
        // Another writer has set this value, so Lethe does not hold the column.
        continue
      } else {
        changes[column] = value
        guard restore != .none else { continue }
        hold.former[column] = now
        hold.setTo[column] = value
      }
      if restore != .none { hold.holders[id, default: []].insert(column) }
    }
    keep(hold, key)
    return write(key, changes)
  }

  /// - Parameter id: an ID that is not protected according to its newest answer.
  private mutating func release(_ id: ID, _ reason: String, _ chunk: ModelChunk) {
    for (key, hold) in holds {
      guard let mine = hold.holders[id] else { continue }
      guard let row = rows[key.table]?[key.key] else {
        holds[key] = nil
        continue
      }
      if hold.setTo.contains(where: { row.columns[$0.key] != $0.value }) {
        // Another writer has changed a hidden column, so Lethe no longer holds the row.
        holds[key] = nil
        continue
      }
      let others = hold.holders.filter { $0.key != id }.values.reduce(into: Set()) {
        $0.formUnion($1)
      }
      let back = mine.subtracting(others)
      if !back.isEmpty, (row.writtenAt ?? 0) > chunk.exportedAt { continue }
      var left = hold
      left.holders[id] = nil
      for column in back { left.forget(column) }
      keep(left, key)
      let isChanged = write(key, hold.former.filter { back.contains($0.key) })
      let own = ID(type: key.table == "users" ? "users" : "tweets", id: Int64(key.key) ?? 0)
      if isChanged && own != id { record(own, reason, "restore", cause: id.id) }
    }
  }

  /// Erases values in the row and in its hold.
  private mutating func erase(_ key: RowKey, _ erasures: [String: ModelPlan.Erasure]) -> Bool {
    guard let row = rows[key.table]?[key.key] else { return false }
    var changes: [String: Value] = [:]
    var hold = holds[key] ?? Hold()
    for (column, erasure) in erasures {
      switch erasure {
      case .to(let value):
        changes[column] = value
        hold.forget(column)
      case .cut(let path):
        changes[column] = Self.cut(path, from: row.columns[column] ?? ModelPlan.null)
        if let former = hold.former[column] { hold.former[column] = Self.cut(path, from: former) }
        if hold.setTo[column] != nil, hold.setTo[column] == row.columns[column] {
          hold.setTo[column] = changes[column]
        }
      }
    }
    keep(hold, key)
    return write(key, changes)
  }

  private static func cut(_ path: String, from keys: Value) -> Value {
    keys == ModelPlan.null
      ? keys : keys.split(separator: ",").filter { $0 != path }.joined(separator: ",")
  }

  private mutating func keep(_ hold: Hold, _ key: RowKey) {
    holds[key] = hold.setTo.isEmpty ? nil : hold
  }

  // MARK: Rows

  /// Lethe writes a row, or deletes it if `changes` is nil.
  /// - Returns: whether the write changed the row.
  @discardableResult
  private mutating func write(_ key: RowKey, _ changes: [String: Value]?) -> Bool {
    guard var row = rows[key.table]?[key.key] else { return false }
    if let changes, changes.allSatisfy({ row.columns[$0.key] == $0.value }) { return false }
    if ["posts", "reposts"].contains(key.table), unwritable.contains(key.key) { isRefused = true }
    guard let changes else {
      rows[key.table]?[key.key] = nil
      return true
    }
    row.columns.merge(changes) { $1 }
    row.writtenAt = nil
    rows[key.table]?[key.key] = row
    return true
  }

  /// Another writer writes a row.
  mutating func put(_ table: String, _ key: String, _ changes: [String: Value]) {
    var row = rows[table]?[key] ?? Row(columns: [:], writtenAt: nil)
    row.columns.merge(changes) { $1 }
    row.writtenAt = clock
    rows[table]?[key] = row
  }

  private mutating func record(
    _ id: ID, _ reason: String, _ action: String, cause: Int64? = nil, isSuperseded: Bool = false
  ) {
    records.append(
      Record(id: id, reason: reason, action: action, cause: cause, isSuperseded: isSuperseded))
  }
}
