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

  /// Also reads what a run keeps that began before targets said what their `id` is.
  public init(from decoder: any Decoder) throws {
    let members = try decoder.container(keyedBy: CodingKeys.self)
    let datasets = try members.decode([Dataset].self, forKey: .datasets)
    self.init(
      name: try members.decode(String.self, forKey: .name),
      limits: try members.decode(RedactionLimits.self, forKey: .limits),
      datasets: datasets.map { $0.typed(among: datasets) })
  }

  public func dataset(named name: String) -> Dataset? {
    datasets.first { $0.name == name }
  }
}

/// How much a chunk, or a run so far, may redact before it stops and asks.
public struct RedactionLimits: Sendable, Equatable, Codable {
  /// Of a chunk's IDs, 0 to 100.
  public let maxRedactedPercent: Double
  /// Rows of all tables together, of a run.
  public let maxRedactedRows: Int
  /// The same for single reasons.
  public let reasons: [Reason: ReasonLimits]
  /// Whether a chunk in which every ID is deleted may be applied unasked, other limits willing.
  public let allowsWholeChunks: Bool
  /// Of the IDs in a chunk's key range that hold rows, how many one result may release, 0 to 100.
  public let maxRestoredPercent: Double
  /// Rows of all tables that a run may open.
  public let maxRestoredRows: Int
  /// Of a dataset's rows, how many may be left out because their ID cannot be asked about, 0 to 100; nil lets
  /// all but everything pass.
  public let maxSkippedPercent: Double?

  public static let maxRestoredPercentDefault = 20.0
  public static let maxRestoredRowsDefault = 1_000_000

  public init(
    maxRedactedPercent: Double, maxRedactedRows: Int, reasons: [Reason: ReasonLimits] = [:],
    allowsWholeChunks: Bool = false,
    maxRestoredPercent: Double = RedactionLimits.maxRestoredPercentDefault,
    maxRestoredRows: Int = RedactionLimits.maxRestoredRowsDefault,
    maxSkippedPercent: Double? = nil
  ) {
    self.maxRedactedPercent = maxRedactedPercent
    self.maxRedactedRows = maxRedactedRows
    self.reasons = reasons
    self.allowsWholeChunks = allowsWholeChunks
    self.maxRestoredPercent = maxRestoredPercent
    self.maxRestoredRows = maxRestoredRows
    self.maxSkippedPercent = maxSkippedPercent
  }

  /// Also reads what a run keeps that began before there were limits for single reasons, restores or
  /// rows that are left out.
  public init(from decoder: any Decoder) throws {
    let members = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      maxRedactedPercent: try members.decode(Double.self, forKey: .maxRedactedPercent),
      maxRedactedRows: try members.decode(Int.self, forKey: .maxRedactedRows),
      reasons: try members.decodeIfPresent([Reason: ReasonLimits].self, forKey: .reasons) ?? [:],
      allowsWholeChunks: try members.decodeIfPresent(Bool.self, forKey: .allowsWholeChunks)
        ?? false,
      maxRestoredPercent: try members.decodeIfPresent(Double.self, forKey: .maxRestoredPercent)
        ?? Self.maxRestoredPercentDefault,
      maxRestoredRows: try members.decodeIfPresent(Int.self, forKey: .maxRestoredRows)
        ?? Self.maxRestoredRowsDefault,
      maxSkippedPercent: try members.decodeIfPresent(Double.self, forKey: .maxSkippedPercent))
  }
}

/// How much may be redacted for one reason; nil is no limit of its own.
public struct ReasonLimits: Sendable, Equatable, Codable {
  public let maxRedactedPercent: Double?
  public let maxRedactedRows: Int?

  public init(maxRedactedPercent: Double?, maxRedactedRows: Int?) {
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
  public let id: IDSource
  /// The operator's own SQL condition on the rows to export.
  public let condition: String?
  public let chunkIDsMax: Int
  public let chunkBytesMax: Int
  /// What each documented reason does to the rows of `table`.
  public let actions: [Reason: Action]
  /// Further tables that an event reaches, before `table` itself.
  public let targets: [Target]
  public let tombstones: Bool
  /// A column of `table` that holds the time that is in a post's ID, and that the table is partitioned
  /// by.
  public let idTimeColumn: String?
  /// What a transaction may hold at most; nil makes the whole chunk one.
  public let batch: BatchLimits?

  public init(
    name: String, type: JobType, table: TableName, id: IDSource, condition: String?,
    chunkIDsMax: Int, chunkBytesMax: Int, actions: [Reason: Action], targets: [Target],
    tombstones: Bool, idTimeColumn: String? = nil, batch: BatchLimits?
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
    self.idTimeColumn = idTimeColumn
    self.batch = batch
  }

  private enum FormerKeys: CodingKey {
    case batchEvents
  }

  /// Also reads what a run keeps that began when a batch was bounded by its events alone.
  public init(from decoder: any Decoder) throws {
    let members = try decoder.container(keyedBy: CodingKeys.self)
    let former = try decoder.container(keyedBy: FormerKeys.self)
      .decodeIfPresent(Int.self, forKey: .batchEvents)
    self.init(
      name: try members.decode(String.self, forKey: .name),
      type: try members.decode(JobType.self, forKey: .type),
      table: try members.decode(TableName.self, forKey: .table),
      id: try members.decode(IDSource.self, forKey: .id),
      condition: try members.decodeIfPresent(String.self, forKey: .condition),
      chunkIDsMax: try members.decode(Int.self, forKey: .chunkIDsMax),
      chunkBytesMax: try members.decode(Int.self, forKey: .chunkBytesMax),
      actions: try members.decode([Reason: Action].self, forKey: .actions),
      targets: try members.decode([Target].self, forKey: .targets),
      tombstones: try members.decode(Bool.self, forKey: .tombstones),
      idTimeColumn: try members.decodeIfPresent(String.self, forKey: .idTimeColumn),
      batch: try members.decodeIfPresent(BatchLimits.self, forKey: .batch)
        ?? former.map { BatchLimits(events: $0, rows: 2 * $0) })
  }
}

/// How much one transaction applies.
public struct BatchLimits: Sendable, Equatable, Codable {
  public let events: Int
  /// Rows of all tables: an event that reaches more takes several transactions.
  public let rows: Int

  public init(events: Int, rows: Int) {
    self.events = events
    self.rows = rows
  }
}

/// A table that an event reaches through a matching column.
public struct Target: Sendable, Equatable, Codable {
  public let table: TableName
  /// The column that holds the event's ID, or the `id` of the target around this one.
  public let match: IDSource
  /// The table's own ID column: what further targets match.
  public let id: IDSource?
  /// What `id` holds; nil without one.
  public let type: RowType?
  /// A column that holds the time that is in the post's ID in `match`, and that the table is
  /// partitioned by.
  public let idTimeColumn: String?
  public let actions: [Reason: Action]
  public let targets: [Target]

  public init(
    table: TableName, match: IDSource, id: IDSource?, type: RowType? = nil,
    idTimeColumn: String? = nil, actions: [Reason: Action], targets: [Target]
  ) {
    self.table = table
    self.match = match
    self.id = id
    self.type = type
    self.idTimeColumn = idTimeColumn
    self.actions = actions
    self.targets = targets
  }
}

/// What the `id` of a target's rows is. Only posts and users leave records and tombstones of their own.
public enum RowType: String, Sendable, Equatable, Codable {
  case tweets
  case users
  case none

  public var jobType: JobType? { JobType(rawValue: rawValue) }
}

extension Reason: CodingKeyRepresentable {}
