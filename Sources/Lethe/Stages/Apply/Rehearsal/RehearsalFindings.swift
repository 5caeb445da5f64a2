import Definitions
import PostgreSQL
import Warehouse

/// Collects the results of one change on the parts of its table, and returns them as findings.
struct RehearsalFindings {
  private let rehearsed: Rehearsal.Rehearsed
  private let parts: Int
  private var refusals: [Finding] = []
  private var skipped: [(part: String, why: String)] = []
  private var copies: Set<String> = []
  private var changes: Set<String> = []
  private var isUncounted = false
  /// The target tables, and their parts, from which the plan deletes rows.
  private let targets: Set<String>

  /// The largest number of parts that a note names.
  private static let namedPartsMax = 5

  init(_ rehearsed: Rehearsal.Rehearsed, parts: Int, targets: Set<String>) {
    self.rehearsed = rehearsed
    self.targets = targets
    self.parts = parts
  }

  private var label: String { rehearsed.change.label }
  private var table: WarehouseTable { rehearsed.change.target.table }

  mutating func rehearsed(
    _ part: TablePart, copiedTo tables: [String], changing others: [String], isCounted: Bool
  ) {
    copies.formUnion(tables)
    changes.formUnion(others)
    if !isCounted { isUncounted = true }
  }

  mutating func skipped(_ part: TablePart, _ why: String) {
    skipped.append(("\(part.name)", why))
  }

  /// Adds the error that the row is unchanged, although no statement failed.
  mutating func kept(_ part: TablePart) {
    add(
      "\(label) was rehearsed on a row of \(part.name), and the row is unchanged\(mention(of: rehearsed.triggers))",
      "change the trigger, rule or policy that undoes or skips the change")
  }

  /// Adds the result of restoring the row after it was hidden.
  mutating func restored(_ restoration: RehearsalStage.Restoration, on part: TablePart) {
    switch restoration {
    case .done: break
    case .untried(let why): skipped(part, "restoring a hidden row: \(why)")
    case .refused(let message, let remedy, let mayDependOnTransaction):
      let note =
        "; the rehearsal hid and restored the row in one transaction, but a run uses two"
      add(
        """
        \(label) was rehearsed on a row of \(part.name), but the row could not be restored: \(message)\
        \(mention(of: rehearsed.triggers))\(mayDependOnTransaction ? note : "")
        """,
        mayDependOnTransaction
          ? "do nothing if that is the only cause; otherwise \(remedy)" : remedy,
        mayDependOnTransaction ? .warning : .error)
    }
  }

  /// Adds the finding that the change was refused.
  /// - Parameters:
  ///   - part: nil if a statement outside of the tries was refused, such as a statement on the ledger.
  ///   - succeededOnAnotherRow: whether the change succeeded on another row.
  mutating func refused(
    _ error: PostgreSQLError, on part: TablePart?, succeededOnAnotherRow: Bool = false
  ) {
    guard let part else {
      if error.isTemporary {
        skipped.append(
          (
            "\(table.name)",
            error.isRetryableTransaction
              ? "the ledger is locked by others"
              : "a temporary error: \(error.messageWithoutValues)"
          ))
        return
      }
      add(
        "\(label) cannot be rehearsed: \(error.messageWithoutValues)",
        """
        fix the cause, because a run would also be refused; lethe check --no-rehearsal skips the rehearsal
        """)
      return
    }
    if let why = reasonToSkip(after: error) {
      skipped(part, why)
      return
    }
    let severity: Finding.Severity = succeededOnAnotherRow ? .warning : .error
    let culprits = culprits(of: error)
    let constraint = error.constraint.flatMap {
      error.messageWithoutValues.contains($0) ? nil : " (constraint \($0))"
    }
    add(
      """
      \(label) was rehearsed on a row of \(part.name), and was refused: \(error.messageWithoutValues)\
      \(constraint ?? "")\(mention(of: culprits))\(succeededOnAnotherRow ? "; on another row it succeeded" : "")
      """,
      succeededOnAnotherRow
        ? "do nothing: refused events are set aside; or \(remedy(for: error, isOfTrigger: !culprits.isEmpty))"
        : remedy(for: error, isOfTrigger: !culprits.isEmpty), severity)
  }

  /// Why the change counts as not rehearsed after an error: the error is temporary, the change takes too long, or a
  /// foreign key refers to the row. Nil for other errors.
  private func reasonToSkip(after error: PostgreSQLError) -> String? {
    // An error that a trigger raised can have any SQLSTATE.
    guard !error.isRaised else { return nil }
    return switch error.state {
    case .lockNotAvailable?, .deadlockDetected?, .serializationFailure?: "rows locked by others"
    case .queryCanceled?: "it takes longer than \(Rehearsal.statementTimeoutSeconds) s"
    case .foreignKeyViolation?
    where table.references.contains {
      $0.constraint == error.constraint || "\($0.table)" == error.table
    }:
      "no unreferenced row"
    default: error.isTemporary ? error.messageWithoutValues : nil
    }
  }

  private func culprits(of error: PostgreSQLError) -> [FiringTrigger] {
    guard error.isWithinFunction || error.isRaised else { return [] }
    let named = rehearsed.triggers.filter { trigger in
      error.function.map { trigger.function == $0 || trigger.function.hasSuffix(".\($0)") } ?? false
    }
    return named.isEmpty ? rehearsed.triggers : named
  }

  private func mention(of triggers: [FiringTrigger]) -> String {
    guard let first = triggers.first else { return "" }
    return triggers.count == 1
      ? " (trigger \(first.label))"
      : " (one of the triggers \(triggers.map(\.label).joined(separator: ", ")))"
  }

  private func remedy(for error: PostgreSQLError, isOfTrigger: Bool) -> String {
    switch error.state {
    case .insufficientPrivilege?:
      isOfTrigger
        ? "GRANT the privilege to Lethe's role, or declare the trigger's function as SECURITY DEFINER"
        : "GRANT the privilege to Lethe's role"
    case .checkViolation? where error.constraint == nil && !isOfTrigger:
      "create a partition for the value that the action sets, or set another value"
    case let state? where state.conditionClass == "23" && !isOfTrigger:
      "set values that the constraint allows, or change the constraint"
    default:
      isOfTrigger
        ? "change the trigger to allow Lethe's changes"
        : "change the table so that it accepts the change"
    }
  }

  private mutating func add(
    _ message: String, _ remedy: String, _ severity: Finding.Severity = .error
  ) {
    refusals.append(
      Finding(severity: severity, path: rehearsed.path, message: message, remedy: remedy))
  }

  // MARK: Findings

  /// The triggers that probably copy rows. All triggers that fire, if no trigger's source shows that it writes rows.
  /// Empty if no copies were found, or if the change neither deletes nor erases data.
  var copying: Set<FiringTrigger> {
    guard isCopying else { return [] }
    let seeming = rehearsed.triggers.filter(\.seemsToCopy)
    return Set(seeming.isEmpty ? rehearsed.triggers : seeming)
  }

  private var isCopying: Bool {
    !copies.isEmpty && (rehearsed.change.kind.isRemoving || rehearsed.change.kind.erasure != nil)
  }

  var all: [Finding] {
    var findings = refusals
    let again = copies.intersection(targets).sorted()
    if isCopying, !again.isEmpty {
      findings.append(
        Finding(
          severity: .error, path: "\(rehearsed.change.target.path).table",
          message: """
            when \(label) runs, a trigger writes rows into \(again.joined(separator: ", ")), but the same events \
            delete rows from there, so each event would be refused
            """,
          remedy: """
            change the trigger to leave out what Lethe deletes, or define that table as a dataset of its own, not a target
            """))
    } else if isCopying {
      let triggers = copying.map(\.label).sorted().joined(separator: ", ")
      findings.append(
        Finding(
          severity: .warning, path: "\(rehearsed.change.target.path).table",
          message: """
            \(copies.sorted().joined(separator: ", ")) gets copies of what Lethe deletes: a rehearsal of \
            \(label) has written rows there\(triggers.isEmpty ? "" : " (trigger \(triggers))")
            """,
          remedy: """
            change the trigger to leave out what Lethe deletes; or, if the table with the copies has the IDs, define \
            it as a dataset of its own
            """))
    }
    return findings + otherFindings + skippedFindings + cascadeFindings
  }

  /// Notes on rows that may be copies.
  private var otherFindings: [Finding] {
    var notes: [Finding] = []
    let others = changes.subtracting(copies).sorted()
    if !others.isEmpty, rehearsed.change.kind.isRemoving || rehearsed.change.kind.erasure != nil {
      notes.append(
        note(
          "\(label) fires triggers that change rows of \(others.joined(separator: ", "))",
          "check that they contain no copies of what Lethe deletes"))
    }
    if isUncounted, !rehearsed.triggers.isEmpty {
      notes.append(
        note(
          "it is unknown whether triggers of \(label) copy rows: track_counts is off",
          "set track_counts = on in the server, and check again"))
    }
    return notes
  }

  private var skippedFindings: [Finding] {
    Set(skipped.map(\.why)).sorted().map { why in
      let names = skipped.filter { $0.why == why }.map(\.part)
      let named = names.prefix(Self.namedPartsMax).joined(separator: ", ")
      let more = names.count > Self.namedPartsMax ? ", …" : ""
      let place = parts > 1 ? " on \(names.count) of \(parts) parts of the table" : ""
      return note(
        "\(label) was not rehearsed\(place): \(why)\(parts > 1 ? " (\(named)\(more))" : "")",
        "check again when there is a suitable row; a run also reports refusals")
    }
  }

  private var cascadeFindings: [Finding] {
    guard rehearsed.change.isDelete else { return [] }
    return table.references.filter { !$0.isRestricting }.map { key in
      note(
        """
        the effect on rows of \(key.table) that refer to a deleted row of \(table.name) was not rehearsed \
        (constraint \(key.constraint))
        """, "check the triggers and constraints of \(key.table)")
    }
  }

  private func note(_ message: String, _ remedy: String) -> Finding {
    Finding(severity: .note, path: rehearsed.path, message: message, remedy: remedy)
  }
}
