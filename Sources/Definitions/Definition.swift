public import Vocabulary

/// What a pipeline does, resolved: names checked, defaults filled in. A run keeps a copy of it and
/// goes on with that copy whatever happens to the file. It holds no secret.
public struct Definition: Sendable, Equatable, Codable {
  public let name: String
  public let limits: RedactionLimits
  /// In the order in which they are written and worked on.
  public let datasets: [Dataset]

  public init(name: String, limits: RedactionLimits, datasets: [Dataset]) {
    self.name = name
    self.limits = limits
    self.datasets = datasets
  }

  public func dataset(named name: String) -> Dataset? {
    datasets.first { $0.name == name }
  }
}

/// How much a chunk, or a run so far, may redact before it stops and asks.
public struct RedactionLimits: Sendable, Equatable, Codable {
  /// Of the IDs checked, 0 to 100.
  public let maxRedactedPercent: Double
  /// Rows of all tables together.
  public let maxRedactedRows: Int

  public init(maxRedactedPercent: Double, maxRedactedRows: Int) {
    self.maxRedactedPercent = maxRedactedPercent
    self.maxRedactedRows = maxRedactedRows
  }
}

/// One set of IDs of one type.
public struct Dataset: Sendable, Equatable, Codable {
  public let name: String
  public let type: JobType
  public let table: TableName
  /// The column with the IDs: bigint, numeric or text.
  public let id: String
  /// The operator's own SQL condition on the rows to export.
  public let condition: String?
  public let chunkIDsMax: Int
  public let chunkBytesMax: Int
  /// What each documented reason does to the rows of `table`.
  public let actions: [Reason: Action]
  /// Further tables that an event reaches, before `table` itself.
  public let targets: [Target]
  public let tombstones: Bool
  /// Events per transaction; nil makes the whole chunk one.
  public let batchEvents: Int?

  public init(
    name: String, type: JobType, table: TableName, id: String, condition: String?,
    chunkIDsMax: Int, chunkBytesMax: Int, actions: [Reason: Action], targets: [Target],
    tombstones: Bool, batchEvents: Int?
  ) {
    self.name = name
    self.type = type
    self.table = table
    self.id = id
    self.condition = condition
    self.chunkIDsMax = chunkIDsMax
    self.chunkBytesMax = chunkBytesMax
    self.actions = actions
    self.targets = targets
    self.tombstones = tombstones
    self.batchEvents = batchEvents
  }
}

/// A table that an event reaches through a matching column.
public struct Target: Sendable, Equatable, Codable {
  public let table: TableName
  /// The column that holds the event's ID, or the `id` of the target around this one.
  public let match: String
  /// The table's own ID column: what further targets match, and what tombstones name.
  public let id: String?
  public let actions: [Reason: Action]
  public let targets: [Target]

  public init(
    table: TableName, match: String, id: String?, actions: [Reason: Action], targets: [Target]
  ) {
    self.table = table
    self.match = match
    self.id = id
    self.actions = actions
    self.targets = targets
  }
}

/// What to do with the rows that an event reaches.
public enum Action: Sendable, Equatable, Hashable, Codable {
  case delete
  /// Set columns; `restore` sets them back once the ID comes back clean.
  case protect(set: [ColumnValue], restore: [ColumnValue])
  /// Set columns to NULL and keep the row.
  case scrubGeo([String])
  /// Queue the ID to be fetched again.
  case rehydrate
  case ignore

  /// The word for it in definitions, the ledger and reports.
  public var word: String {
    switch self {
    case .delete: "delete"
    case .protect: "protect"
    case .scrubGeo: "scrub_geo"
    case .rehydrate: "rehydrate"
    case .ignore: "ignore"
    }
  }

  /// Whether it takes something away from a row.
  public var isRedacting: Bool {
    switch self {
    case .delete, .protect, .scrubGeo: true
    case .rehydrate, .ignore: false
    }
  }
}

/// A column and the text of the value to give it; nil is NULL. PostgreSQL reads the text as the
/// column's type.
public struct ColumnValue: Sendable, Hashable, Codable {
  public let column: String
  public let value: String?

  public init(column: String, value: String?) {
    self.column = column
    self.value = value
  }
}

extension Reason: CodingKeyRepresentable {}
