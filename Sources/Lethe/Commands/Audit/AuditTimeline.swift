import Definitions
import Evidence
import Ledger
import Vocabulary

/// All records of an ID as text, in order of time.
struct AuditTimeline {
  private struct Entry {
    let at: String
    let what: String
    let lines: [String]
  }

  private let trail: AuditTrail

  init(_ trail: AuditTrail) {
    self.trail = trail
  }

  var text: String {
    guard !trail.isEmpty else {
      return """
        the ledger has no record of ID \(trail.id): no chunk's key range contains it, and no event, tombstone, \
        protection, rehydration or quarantined line is about it
        """
    }
    let entries = entries.enumerated().sorted {
      ($0.element.at, $0.offset) < ($1.element.at, $1.offset)
    }.map(\.element)
    let width = entries.map(\.what.count).max() ?? 0
    let indent = String(repeating: " ", count: 22 + width + 2)
    let lines = entries.map { entry in
      let what = entry.what + String(repeating: " ", count: width - entry.what.count)
      return "\(seconds(entry.at))  \(what)  \(entry.lines.joined(separator: "\n" + indent))"
    }
    return (["ID \(trail.id), in order of time (UTC)", ""] + lines).joined(separator: "\n")
  }

  /// The entries of all records. For records with the same time, this order is from cause to effect.
  private var entries: [Entry] {
    trail.checks.map(entry) + trail.lastChecks.map(entry) + trail.quarantined.map(entry)
      + trail.waiting.map(entry) + trail.approvals.map(entry) + trail.adoptions.map(entry)
      + trail.refusals.map(entry) + trail.events.map(entry)
      + trail.protections.map(entry) + trail.holds.map(entry) + trail.releases.map(entry)
      + trail.rehydrations.map {
        Entry(
          at: $0.at, what: "queued",
          lines: ["\($0.type) to be fetched again: \($0.reason), \(name($0.job))"])
      }
      + trail.tombstones.map {
        Entry(
          at: $0.at, what: "tombstone", lines: ["\($0.type): \($0.reason), \(name($0.job))"])
      } + trail.withdrawals.map(entry)
  }

  // MARK: Entries

  private func entry(_ check: AuditTrail.Check) -> Entry {
    let chunk = """
      \(check.pipeline)/\(check.dataset) (\(check.type)), run \(check.runID), \
      chunk \(check.chunkID): IDs \(check.firstID) to \(check.lastID)
      """
    var lines = [chunk]
    if let job = check.job { lines[0] += ", \(name(job))" }
    let steps = [("complete", check.completedAt), ("applied", check.appliedAt)]
      .compactMap { word, time in time.map { "\(word) \(seconds($0))" } }
    if !steps.isEmpty { lines.append(steps.joined(separator: ", ")) }
    if let hash = check.resultSHA256 {
      let seal = check.seal.map { ", sealed by record \($0.number)" } ?? ", not sealed"
      lines.append("result SHA-256 \(hash)\(seal)")
    }
    if let halt = check.halt { lines.append("\(check.state): \(halt)") }
    switch check.answer {
    case .event, .waiting, .notApplied, .refused: break
    case .noEvent:
      lines.append(
        "no event about the ID: clean, or not asked about (the ledger stores the range, not each ID)"
      )
    case .unclear:
      lines.append(
        """
        not told: the result has no event about the ID, but a line that must not be applied is about the ID, or might \
        be about it
        """)
    case .superseded:
      lines.append(
        "no event of the result is left to apply: newer answers have superseded them, unless the ledger has lost them"
      )
    case .pruned: lines.append("unknown: the event records of that time were pruned")
    case .failed: lines.append("the chunk failed before it had an answer")
    case .unanswered: lines.append("no answer yet: the chunk is \(check.state)")
    }
    return Entry(at: check.askedAt ?? check.exportedAt, what: "asked", lines: lines)
  }

  private func entry(_ check: AuditTrail.LastCheck) -> Entry {
    Entry(
      at: check.at, what: "checked",
      lines: ["\(check.pipeline)/\(check.dataset) (\(check.type)): last by chunk \(check.chunkID)"])
  }

  private func entry(_ event: AuditTrail.Event) -> Entry {
    let times = times(event.createdAt, event.redactedAt)
    let what = event.causeID == nil ? "answered" : "reached"
    var lines: [String]
    if let cause = event.causeID {
      lines = [
        """
        \(event.type) row reached by the event of \(event.causeType.map { "\($0) " } ?? "")ID \
        \(cause): \(event.reason), \(name(event.job)), chunk \(event.chunkID)
        """
      ]
    } else if event.reason == "clean" {
      lines = ["\(event.type): clean again, \(name(event.job)), chunk \(event.chunkID)"]
    } else {
      lines = [
        "\(event.type): \(event.reason)\(times), \(name(event.job)), chunk \(event.chunkID)"
      ]
    }
    if let newer = event.supersededBy {
      lines.append("not applied: superseded by the newer answer of \(name(newer))")
    }
    lines.append(
      event.changed.isEmpty ? "\(event.action): no row was changed" : counted(event.changed))
    return Entry(at: event.appliedAt, what: what, lines: lines)
  }

  private func entry(_ event: AuditTrail.Waiting) -> Entry {
    let isSetAside = event.state == .failed
    var lines = [
      """
      \(event.type): \(event.reason)\(times(event.createdAt, event.redactedAt)) in chunk \
      \(event.chunkID); \(isSetAside ? "not applied: the chunk has failed" : "not applied yet")\
      \(event.restores ? "; ends a protection" : "")
      """
    ]
    if let newer = event.supersededBy {
      lines.append("will not be applied: superseded by the newer answer of \(name(newer))")
    }
    return Entry(
      at: event.collectedAt, what: isSetAside ? "set aside" : "waiting", lines: lines)
  }

  private func entry(_ withdrawal: AuditTrail.Withdrawal) -> Entry {
    let decision = [withdrawal.by.map { "by \(printable($0))" }, withdrawal.note.map(printable)]
      .compactMap { $0 }.joined(separator: ": ")
    return Entry(
      at: withdrawal.at, what: "withdrawn",
      lines: [
        """
        \(withdrawal.type): the tombstone of \(seconds(withdrawal.deletedAt)), \(withdrawal.reason), \
        \(name(withdrawal.job)): it was created for a row of \(withdrawal.table), which has IDs of another type
        """, "\(decision.isEmpty ? "" : "\(decision); ")sealed by record \(withdrawal.sealNumber)",
      ])
  }

  private func entry(_ refusal: AuditTrail.Refusal) -> Entry {
    var lines = [
      """
      \(refusal.type): \(refusal.reason)\(times(refusal.createdAt, refusal.redactedAt)) in chunk \
      \(refusal.chunkID): \(printable(refusal.why))
      """
    ]
    if !refusal.changed.isEmpty { lines.append("before that, \(counted(refusal.changed))") }
    switch (refusal.resolution, refusal.resolvedAt) {
    case ("superseded"?, let at?):
      let newer = refusal.supersededBy.map { " of \(name($0))" } ?? ""
      lines.append("superseded by the newer answer\(newer), \(seconds(at))")
    case (_, let at?): lines.append("retried \(seconds(at))")
    case (_, nil): lines.append("set aside, and not applied")
    }
    return Entry(at: refusal.at, what: "refused", lines: lines)
  }

  private func entry(_ approval: AuditTrail.Approval) -> Entry {
    var lines = [
      """
      chunk \(approval.chunkID), by \(printable(approval.by))\
      \(approval.note.map { ": \(printable($0))" } ?? "")
      """,
      "a limit had stopped the chunk: \(approval.stoppedReason)",
    ]
    if let number = approval.sealNumber { lines.append("sealed by record \(number)") }
    return Entry(at: approval.at, what: "approved", lines: lines)
  }

  private func entry(_ adoption: AuditTrail.Adoption) -> Entry {
    var lines = [
      """
      run \(adoption.runID) adopted a newer definition, by \(printable(adoption.by))\
      \(adoption.note.map { ": \(printable($0))" } ?? "")
      """
    ]
    lines += adoption.changes.sorted { $0.key < $1.key }.map { path, texts in
      let values = texts.map { $0.map(printable) }
      let words = DefinitionDifference.words(values.first ?? nil, values.last ?? nil)
      return "\(printable(path)): \(words)"
    }
    if let number = adoption.sealNumber { lines.append("sealed by record \(number)") }
    return Entry(at: adoption.at, what: "adopted", lines: lines)
  }

  private func entry(_ protection: AuditTrail.Protection) -> Entry {
    Entry(
      at: protection.protectedAt, what: "protected",
      lines: [
        """
        by \(protection.pipeline)/\(protection.dataset), chunk \(protection.chunkID), asked \
        \(seconds(protection.askedAt)); the protection lasts until an answer ends it
        """
      ])
  }

  private func entry(_ history: HoldHistory) -> Entry {
    let row = "\(history.table) \(printable(history.key))"
    switch history.what {
    case .held(let columns, let type, let id, let job):
      return Entry(
        at: history.at, what: "hidden",
        lines: [
          "\(row): \(columns.map(printable).joined(separator: ", ")) held by \(type) ID \(id), job \(job)",
          "the row is restored when no ID holds it any more",
        ])
    case .closed(let outcome, let type, let id, let job):
      // Without an ID, Lethe itself ended the hold, because the row or its columns were gone.
      let source =
        switch (type, id, job) {
        case (let type?, let id?, let job?): ", by the answer about \(type) ID \(id), job \(job)"
        case (_?, _?, nil): ", by an operator's decision"
        default: ""
        }
      return Entry(
        at: history.at, what: "hold ended",
        lines: ["\(row): \(Self.meaning(of: outcome))\(source)"])
    }
  }

  private static func meaning(of outcome: String) -> String {
    switch outcome {
    case "restored": "the row has its former values again"
    case "deleted": "the row was deleted"
    case "gone": "the row did not exist any more"
    case "dropped": "its columns were dropped from the table"
    case "changed": "somebody else had changed the row, so Lethe did not change it"
    case "erased": "all values that the hold kept were removed"
    case "kept": "the row stays hidden: an action without restore has hidden it, too"
    default: "the row stays hidden, and the hold was deleted"
    }
  }

  private func entry(_ release: SealedReleaseRecord) -> Entry {
    Entry(
      at: release.at, what: "released",
      lines: [
        """
        \(release.type): holds \(release.keepsHidden ? "deleted" : "released") by \
        \(printable(release.by)): \(printable(release.note)) (record \(release.number))
        """
      ])
  }

  private func entry(_ line: AuditTrail.QuarantinedLine) -> Entry {
    var lines = [
      "\(line.type): line \(line.line) of the result of \(name(line.job)): \(printable(line.why))"
    ]
    if let resolution = line.resolution {
      let note = line.note.map { ": \(printable($0))" } ?? ""
      lines.append("\(resolution) \(line.resolvedAt.map(seconds) ?? "")\(note)")
    } else {
      lines.append("not applied, and not resolved")
    }
    return Entry(at: line.at, what: "quarantine", lines: lines)
  }

  // MARK: Texts

  private func name(_ job: AuditTrail.Job) -> String {
    "job \(job.id)" + (job.apiID.map { " (the API's \($0))" } ?? "")
  }

  private func counted(_ changed: [String: Int]) -> String {
    let changes = changed.sorted { $0.key < $1.key }
      .map { "\($0.key): \($0.value) \($0.value == 1 ? "row" : "rows")" }
    return "changed: \(changes.joined(separator: ", "))"
  }

  private func times(_ createdAt: String?, _ redactedAt: String?) -> String {
    let times = [("created", createdAt), ("redacted", redactedAt)]
      .compactMap { word, time in time.map { "\(word) \(seconds($0))" } }
    return times.isEmpty ? "" : " (\(times.joined(separator: ", ")))"
  }

  /// Replaces control characters with spaces, because text from results and operators must not control the terminal.
  private func printable(_ text: String) -> String {
    String(
      String.UnicodeScalarView(
        text.unicodeScalars.map { $0.properties.generalCategory == .control ? " " : $0 }))
  }
}
