public import Vocabulary

/// A resolved pipeline: names are checked and defaults filled in. A run keeps a copy of its definition and
/// resumes with that copy, even if the file changes. A definition contains no secret.
public struct Definition: Sendable, Equatable, Codable {
  public let name: String
  public let limits: RedactionLimits
  /// The datasets in the order of the file. A run processes them in this order.
  public let datasets: [Dataset]

  public init(name: String, limits: RedactionLimits, datasets: [Dataset]) {
    self.name = name
    self.limits = limits
    self.datasets = datasets
  }

  /// Reads a definition. In definitions that an older version of Lethe stored with its runs, targets do not name the
  /// type of their `id`.
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

/// How much a chunk or a run may redact or restore before it stops for an approval, and how many rows of a dataset the
/// export may leave out.
public struct RedactionLimits: Sendable, Equatable, Codable {
  /// The largest percentage of a chunk's IDs, 0 to 100.
  public let maxRedactedPercent: Double
  /// The largest number of a run's rows, in all tables together.
  public let maxRedactedRows: Int
  /// Limits for single reasons.
  public let reasons: [Reason: ReasonLimits]
  /// Whether a chunk in which every ID is deleted or emptied may be applied without an approval. The other limits still
  /// apply.
  public let allowsWholeChunks: Bool
  /// The largest percentage of IDs that one result may release, 0 to 100. It refers to the IDs in the chunk's key range
  /// that hold rows. It does not apply to a result that releases only a few IDs.
  public let maxRestoredPercent: Double
  /// The largest number of rows that a run may restore, in all tables together.
  public let maxRestoredRows: Int
  /// The largest percentage of a dataset's rows that may be left out because their ID cannot be sent to the API, 0 to
  /// 100. If it is nil, the export stops only if all rows would be left out.
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

  /// Reads limits. Definitions that an older version of Lethe stored with its runs have no `allowsWholeChunks`, and no
  /// limits for single reasons, for restores, or for rows that are left out.
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

/// How much may be redacted for one reason. Nil means that only the general limits apply.
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
  /// The column with the IDs. Its type is bigint, integer, numeric, text or character varying, or a domain over one of
  /// them.
  public let id: IDSource
  /// The operator's SQL condition on the rows to export.
  public let condition: String?
  public let chunkIDsMax: Int
  public let chunkBytesMax: Int
  /// The action on the rows of `table`, for each documented reason.
  public let actions: [Reason: Action]
  /// The other tables that an event reaches. They are changed before `table`.
  public let targets: [Target]
  public let tombstones: Bool
  /// A column of `table` with the time that is encoded in the post's ID. If the table is partitioned by this column,
  /// apply reads only the partitions of that time.
  public let idTimeColumn: String?
  /// The limits of one transaction. If it is nil, the whole chunk is applied in one transaction.
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

  /// Reads a dataset. In definitions that an older version of Lethe stored with its runs, only the number of events
  /// limits a batch.
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

/// The limits of one transaction.
public struct BatchLimits: Sendable, Equatable, Codable {
  public let events: Int
  /// The limit for the number of rows in tables where an event can reach several rows, together with the number of
  /// holders that the events release. An event that exceeds the limit is applied in several transactions.
  public let rows: Int

  public init(events: Int, rows: Int) {
    self.events = events
    self.rows = rows
  }
}

extension Dataset {
  /// The targets at every depth.
  public var allTargets: [Target] {
    func all(_ targets: [Target]) -> [Target] { targets.flatMap { [$0] + all($0.targets) } }
    return all(targets)
  }
}

/// A table that an event reaches through a matching column.
public struct Target: Sendable, Equatable, Codable {
  public let table: TableName
  /// The column that contains the event's ID, or the `id` of the enclosing target.
  public let match: IDSource
  /// The table's own ID column, which nested targets match.
  public let id: IDSource?
  /// The type of the IDs in `id`. Nil without `id`.
  public let type: RowType?
  /// A column of `table` with the time that is encoded in the post's ID in `match`. If the table is partitioned by this
  /// column, apply reads only the partitions of that time.
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

/// What the `id` of a target's rows identifies. Only posts and users get event records and tombstones.
public enum RowType: String, Sendable, Equatable, Codable {
  case tweets
  case users
  case none

  public var jobType: JobType? { JobType(rawValue: rawValue) }
}

extension Reason: CodingKeyRepresentable {}
