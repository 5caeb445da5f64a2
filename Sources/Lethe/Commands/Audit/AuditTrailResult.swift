import Evidence
import Ledger
import Vocabulary

/// All records of an ID as JSON. The IDs of posts and users are strings, because many JSON readers cannot represent all
/// 64-bit integers. A key without a value is left out.
struct AuditTrailResult: Encodable {
  let id: String
  let is_known: Bool
  let checks: [Check]
  let last_checks: [LastCheck]
  let events: [Event]
  let waiting: [Waiting]
  let tombstones: [IDEntry]
  let withdrawals: [Withdrawal]
  let rehydrations: [IDEntry]
  let protections: [Protection]
  let holds: [Hold]
  let releases: [Release]
  let quarantined: [Line]
  let refusals: [Refusal]
  let approvals: [Approval]
  let adoptions: [Adoption]

  init(_ trail: AuditTrail) {
    id = "\(trail.id)"
    is_known = !trail.isEmpty
    checks = trail.checks.map(Check.init)
    last_checks = trail.lastChecks.map(LastCheck.init)
    events = trail.events.map(Event.init)
    waiting = trail.waiting.map(Waiting.init)
    tombstones = trail.tombstones.map(IDEntry.init)
    withdrawals = trail.withdrawals.map(Withdrawal.init)
    rehydrations = trail.rehydrations.map(IDEntry.init)
    protections = trail.protections.map(Protection.init)
    holds = trail.holds.map(Hold.init)
    releases = trail.releases.map(Release.init)
    quarantined = trail.quarantined.map(Line.init)
    refusals = trail.refusals.map(Refusal.init)
    approvals = trail.approvals.map(Approval.init)
    adoptions = trail.adoptions.map(Adoption.init)
  }

  struct Job: Encodable {
    let job_id: Int64
    let api_id: String?

    init(_ job: AuditTrail.Job) {
      job_id = job.id
      api_id = job.apiID
    }
  }

  struct Check: Encodable {
    let chunk_id, run_id: Int64
    let pipeline, dataset, type, first_id, last_id, state: String
    let halt: String?
    let exported_at: String
    let asked_at, completed_at, collected_at, applied_at: String?
    let job: Job?
    let result_sha256: String?
    let seal: Int64?
    let seal_sha256: String?
    /// `event`, `waiting`, `not applied`, `refused`, `clean or not asked about`, `not told`, `superseded`,
    /// `pruned`, `failed` or `none yet`.
    let answer: String

    init(_ check: AuditTrail.Check) {
      chunk_id = check.chunkID
      run_id = check.runID
      pipeline = check.pipeline
      dataset = check.dataset
      type = check.type.rawValue
      first_id = "\(check.firstID)"
      last_id = "\(check.lastID)"
      state = check.state.rawValue
      halt = check.halt
      exported_at = check.exportedAt
      asked_at = check.askedAt
      completed_at = check.completedAt
      collected_at = check.collectedAt
      applied_at = check.appliedAt
      job = check.job.map(Job.init)
      result_sha256 = check.resultSHA256
      seal = check.seal?.number
      seal_sha256 = check.seal?.sha256
      answer = check.answer.rawValue
    }
  }

  struct LastCheck: Encodable {
    let pipeline, dataset, type, checked_at: String
    let chunk_id: Int64

    init(_ check: AuditTrail.LastCheck) {
      pipeline = check.pipeline
      dataset = check.dataset
      type = check.type.rawValue
      checked_at = check.at
      chunk_id = check.chunkID
    }
  }

  struct Event: Encodable {
    let type, reason, action: String
    let pipeline, dataset: String?
    let chunk_id: Int64
    let job: Job
    let created_at, redacted_at: String?
    let applied_at: String
    let changed: [String: Int]
    let cause_id, cause_type: String?
    let superseded_by: Job?

    init(_ event: AuditTrail.Event) {
      type = event.type.rawValue
      reason = event.reason
      action = event.action
      pipeline = event.pipeline
      dataset = event.dataset
      chunk_id = event.chunkID
      job = Job(event.job)
      created_at = event.createdAt
      redacted_at = event.redactedAt
      applied_at = event.appliedAt
      changed = event.changed
      cause_id = event.causeID.map { "\($0)" }
      cause_type = event.causeType?.rawValue
      superseded_by = event.supersededBy.map(Job.init)
    }
  }

  struct Waiting: Encodable {
    let chunk_id: Int64
    /// `failed` if the event was set aside or given up with its chunk.
    let state: String
    let type, reason: String
    let created_at, redacted_at: String?
    let collected_at: String
    let restores: Bool
    let superseded_by: Job?

    init(_ event: AuditTrail.Waiting) {
      chunk_id = event.chunkID
      state = event.state.rawValue
      type = event.type.rawValue
      reason = event.reason
      created_at = event.createdAt
      redacted_at = event.redactedAt
      collected_at = event.collectedAt
      restores = event.restores
      superseded_by = event.supersededBy.map(Job.init)
    }
  }

  struct IDEntry: Encodable {
    let type, reason, at: String
    let job: Job

    init(_ entry: AuditTrail.IDEntry) {
      type = entry.type.rawValue
      reason = entry.reason
      at = entry.at
      job = Job(entry.job)
    }
  }

  struct Withdrawal: Encodable {
    let type, reason, deleted_at, table, withdrawn_at: String
    let job: Job
    let seal: Int64
    let by, note: String?

    init(_ withdrawal: AuditTrail.Withdrawal) {
      type = withdrawal.type.rawValue
      reason = withdrawal.reason
      deleted_at = withdrawal.deletedAt
      table = withdrawal.table
      withdrawn_at = withdrawal.at
      job = Job(withdrawal.job)
      seal = withdrawal.sealNumber
      by = withdrawal.by
      note = withdrawal.note
    }
  }

  struct Protection: Encodable {
    let pipeline, dataset: String
    let chunk_id: Int64
    let protected_at, asked_at: String

    init(_ protection: AuditTrail.Protection) {
      pipeline = protection.pipeline
      dataset = protection.dataset
      chunk_id = protection.chunkID
      protected_at = protection.protectedAt
      asked_at = protection.askedAt
    }
  }

  /// The hold of a row. `outcome` is `held` if the hold is open; otherwise it is the reason why the hold ended. `type`
  /// and `id` name a holder, or the ID whose answer ended the hold.
  struct Hold: Encodable {
    let at, table, key, outcome: String
    let columns: [String]?
    let type, id: String?
    let job_id: Int64?

    init(_ history: HoldHistory) {
      at = history.at
      table = history.table
      key = history.key
      switch history.what {
      case .held(let columns, let type, let id, let job):
        outcome = "held"
        self.columns = columns
        self.type = type.rawValue
        self.id = "\(id)"
        job_id = job
      case .closed(let outcome, let type, let id, let job):
        self.outcome = outcome
        columns = nil
        self.type = type?.rawValue
        self.id = id.map { "\($0)" }
        job_id = job
      }
    }
  }

  /// A release of holds by an operator.
  struct Release: Encodable {
    let record: Int64
    let at, type, by, note: String
    let keep_hidden: Bool

    init(_ release: SealedReleaseRecord) {
      record = release.number
      at = release.at
      type = release.type
      by = release.by
      note = release.note
      keep_hidden = release.keepsHidden
    }
  }

  struct Line: Encodable {
    let chunk_id: Int64
    let type: String
    let job: Job
    let line: Int64
    let raw, why, quarantined_at: String
    let resolved_at, resolution, note: String?

    init(_ line: AuditTrail.QuarantinedLine) {
      chunk_id = line.chunkID
      type = line.type.rawValue
      job = Job(line.job)
      self.line = line.line
      raw = line.raw
      why = line.why
      quarantined_at = line.at
      resolved_at = line.resolvedAt
      resolution = line.resolution
      note = line.note
    }
  }

  struct Refusal: Encodable {
    let chunk_id: Int64
    let type, reason: String
    let created_at, redacted_at: String?
    let why, remedy, refused_at: String
    let changed: [String: Int]
    let resolved_at, resolution: String?
    let superseded_by: Job?

    init(_ refusal: AuditTrail.Refusal) {
      chunk_id = refusal.chunkID
      type = refusal.type.rawValue
      reason = refusal.reason
      created_at = refusal.createdAt
      redacted_at = refusal.redactedAt
      why = refusal.why
      remedy = refusal.remedy
      refused_at = refusal.at
      changed = refusal.changed
      resolved_at = refusal.resolvedAt
      resolution = refusal.resolution
      superseded_by = refusal.supersededBy.map(Job.init)
    }
  }

  struct Adoption: Encodable {
    let run_id: Int64
    /// By path in the definition: the former text and the new text. Null if the definition has no such text.
    let changes: [String: [String?]]
    let adopted_by: String
    let note: String?
    let adopted_at: String
    let seal: Int64?

    init(_ adoption: AuditTrail.Adoption) {
      run_id = adoption.runID
      changes = adoption.changes
      adopted_by = adoption.by
      note = adoption.note
      adopted_at = adoption.at
      seal = adoption.sealNumber
    }
  }

  struct Approval: Encodable {
    let chunk_id: Int64
    let stopped_reason, approved_by: String
    let note: String?
    let approved_at: String
    let seal: Int64?

    init(_ approval: AuditTrail.Approval) {
      chunk_id = approval.chunkID
      stopped_reason = approval.stoppedReason
      approved_by = approval.by
      note = approval.note
      approved_at = approval.at
      seal = approval.sealNumber
    }
  }
}
