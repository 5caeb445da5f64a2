import Ledger
public import Vocabulary

/// Everything that the ledger contains about one ID. Times are ISO 8601 in UTC. Each list is in order of time, except
/// that `holds` has the open holds before the ended ones. `holds` has at most 1,000 entries of each kind.
public struct AuditTrail: Sendable {
  public let id: Int64
  public internal(set) var checks: [Check] = []
  public internal(set) var lastChecks: [LastCheck] = []
  public internal(set) var events: [Event] = []
  public internal(set) var waiting: [Waiting] = []
  public internal(set) var tombstones: [IDEntry] = []
  public internal(set) var withdrawals: [Withdrawal] = []
  public internal(set) var rehydrations: [IDEntry] = []
  public internal(set) var protections: [Protection] = []
  public internal(set) var holds: [HoldHistory] = []
  public internal(set) var releases: [SealedReleaseRecord] = []
  public internal(set) var quarantined: [QuarantinedLine] = []
  public internal(set) var refusals: [Refusal] = []
  /// The approvals of chunks whose key range contains the ID.
  public internal(set) var approvals: [Approval] = []
  public internal(set) var adoptions: [Adoption] = []

  init(id: Int64) {
    self.id = id
  }

  public var isEmpty: Bool {
    checks.isEmpty && events.isEmpty && waiting.isEmpty && tombstones.isEmpty
      && withdrawals.isEmpty && rehydrations.isEmpty && protections.isEmpty && holds.isEmpty
      && releases.isEmpty && quarantined.isEmpty && refusals.isEmpty
  }

  /// One of the ledger's jobs.
  public struct Job: Sendable {
    public let id: Int64
    /// The API's ID. Nil if the API never returned an ID, or if the job's row is missing.
    public let apiID: String?
  }

  /// A chunk whose key range contains the ID. The ledger stores the key ranges, not each ID in them.
  public struct Check: Sendable {
    public let chunkID: Int64
    public let runID: Int64
    public let pipeline: String
    public let dataset: String
    public let type: JobType
    public let firstID: Int64
    public let lastID: Int64
    public let state: ChunkState
    /// The reason why the chunk failed, or why a limit stopped it.
    public let halt: String?
    public let exportedAt: String
    public let completedAt: String?
    public let collectedAt: String?
    public let appliedAt: String?
    /// The job whose result was collected, or else the job of the newest attempt.
    public let job: Job?
    public let askedAt: String?
    public let resultSHA256: String?
    public let seal: Seal?
    public internal(set) var answer = Answer.unanswered
  }

  /// The newest answer of a dataset for a key range that contains the ID. The ledger stores the key ranges, not each ID
  /// in them.
  public struct LastCheck: Sendable {
    public let pipeline: String
    public let dataset: String
    public let type: JobType
    /// The time when the job was complete.
    public let at: String
    public let chunkID: Int64
  }

  /// The newest record of the chain about a chunk.
  public struct Seal: Sendable {
    public let number: Int64
    public let sha256: String
  }

  /// The answer of a chunk's result about the ID.
  public enum Answer: String, Sendable {
    case event
    /// The ID is clean, or the chunk did not ask about it.
    case noEvent = "clean or not asked about"
    /// The result has no event for the ID, and its silence does not cover the ID. Usually, a line that must not be
    /// applied is about the ID, or might be about it.
    case unclear = "not told"
    /// An event that is not applied yet.
    case waiting
    /// An event that was not applied, because its chunk was set aside or given up.
    case notApplied = "not applied"
    /// The result had no event for the ID, or an event that was not applied. The ledger no longer has the events of the
    /// chunk that were not applied. Usually, newer answers have superseded all of them.
    case superseded
    /// An event that the warehouse refused.
    case refused
    /// Event records as old as this chunk's were pruned. If the result had an event, its record was pruned, too.
    case pruned
    /// The chunk was set aside or given up before it had an answer.
    case failed
    case unanswered = "none yet"
  }

  /// An event record, or an event that has only a trace. It is about the ID itself, or about a row with this ID that
  /// another ID's event reached.
  public struct Event: Sendable {
    public let type: JobType
    public let reason: String
    public let action: String
    public let pipeline: String?
    public let dataset: String?
    public let chunkID: Int64
    public let job: Job
    public let createdAt: String?
    public let redactedAt: String?
    public let appliedAt: String
    /// The number of rows changed, by action and table.
    public let changed: [String: Int]
    /// The ID whose event reached the row. Nil if the event is about the row's own ID.
    public let causeID: Int64?
    /// The type of `causeID`.
    public let causeType: JobType?
    /// The job whose newer answer about the ID superseded this event.
    public let supersededBy: Job?
  }

  /// An event that was collected and is not applied.
  public struct Waiting: Sendable {
    public let chunkID: Int64
    /// `collected` if it waits to be applied, `failed` if it was set aside or given up with its chunk.
    public let state: ChunkState
    public let type: JobType
    public let reason: String
    public let createdAt: String?
    public let redactedAt: String?
    public let collectedAt: String
    public let restores: Bool
    public let supersededBy: Job?
  }

  /// A tombstone, or an entry of the queue of IDs to be fetched again.
  public struct IDEntry: Sendable {
    public let type: JobType
    public let reason: String
    public let job: Job
    public let at: String
  }

  /// A tombstone that was withdrawn, because it was created from a row whose ID is of another type.
  public struct Withdrawal: Sendable {
    public let type: JobType
    public let reason: String
    public let job: Job
    public let deletedAt: String
    /// The table of the row.
    public let table: String
    /// The number of the chain's record about the withdrawal. The properties below come from that record.
    public let sealNumber: Int64
    public let at: String
    public let by: String?
    public let note: String?
  }

  public struct Protection: Sendable {
    public let pipeline: String
    public let dataset: String
    public let chunkID: Int64
    public let protectedAt: String
    /// The time when the API created the job with the protecting answer.
    public let askedAt: String
  }

  /// An event that the warehouse refused.
  public struct Refusal: Sendable {
    public let chunkID: Int64
    public let type: JobType
    public let reason: String
    public let createdAt: String?
    public let redactedAt: String?
    public let why: String
    public let remedy: String
    public let at: String
    /// The number of rows changed before the refusal, by action and table. An event of many rows is applied in several
    /// transactions.
    public let changed: [String: Int]
    public let resolvedAt: String?
    public let resolution: String?
    public let supersededBy: Job?
  }

  /// An operator's approval of a chunk that a limit had stopped.
  public struct Approval: Sendable {
    public let chunkID: Int64
    public let stoppedReason: String
    public let by: String
    public let note: String?
    public let at: String
    /// The number of the approval's record in the chain.
    public let sealNumber: Int64?
  }

  /// An operator's decision that an open run adopts a newer definition.
  public struct Adoption: Sendable {
    public let runID: Int64
    /// The former value and the new value, by path in the definition.
    public let changes: [String: [String?]]
    public let by: String
    public let note: String?
    public let at: String
    /// The number of the adoption's record in the chain.
    public let sealNumber: Int64?
  }

  public struct QuarantinedLine: Sendable {
    public let chunkID: Int64
    public let type: JobType
    public let job: Job
    public let line: Int64
    public let raw: String
    public let why: String
    public let at: String
    public let resolvedAt: String?
    public let resolution: String?
    public let note: String?
  }
}
