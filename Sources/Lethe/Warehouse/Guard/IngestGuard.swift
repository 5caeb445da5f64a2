public import Definitions
public import Failures
public import Vocabulary

/// The trigger that keeps tombstoned IDs from coming back into a table: `lethe_guard`.
///
/// A row that is inserted while apply commits its tombstone can still pass the guard. The next run deletes
/// it.
public struct IngestGuard: Sendable, Equatable {
  /// What the guard does with a row with a tombstoned ID.
  public enum OnReturn: String, Sendable, CaseIterable {
    /// The row is not inserted, and the statement continues.
    case skip
    /// The statement fails with SQLSTATE 23L01.
    case raise
  }

  public let table: TableName
  /// The column whose IDs are looked up in `lethe.tombstone`.
  public let id: String
  /// The type of the tombstones.
  public let type: JobType
  public let onReturn: OnReturn

  public init(table: TableName, id: String, type: JobType, onReturn: OnReturn) {
    self.table = table
    self.id = id
    self.type = type
    self.onReturn = onReturn
  }
}

/// An installed guard, and its faults.
public struct InstalledGuard: Sendable, Equatable {
  public enum State: String, Sendable, Equatable, CaseIterable {
    case active
    /// A rule, a setting, or another trigger that the operator has not acknowledged can let rows bypass the guard.
    case unsure
    /// Some of the table's rows bypass the guard.
    case incomplete
    /// The table's trigger is disabled, or fires for replicated rows only.
    case disabled
    /// The column's name or type was changed after the installation, so the function may fail.
    case outdated
    /// The function was changed, or it fails, or it does not see the ID because the column is generated.
    case broken
  }

  /// A fault of a guard: rows may bypass the guard, or its function fails.
  public struct Fault: Sendable, Equatable {
    public let state: State
    public let message: String
    public let remedy: String
  }

  public let guarding: IngestGuard
  /// The faults that the catalog shows.
  public let faults: [Fault]

  /// The state of the worst fault.
  public var state: State {
    let states = Set(faults.map(\.state))
    return State.allCases.last { states.contains($0) } ?? .active
  }

  public init(guarding: IngestGuard, faults: [Fault]) {
    self.guarding = guarding
    self.faults = faults
  }
}

/// An error while a guard is read, installed or removed. A former guard is unchanged unless the message reports a
/// change.
public struct GuardError: ExplainedError, Sendable {
  public let message: String
  public let remedy: String
  public let disposition: Disposition

  init(_ message: String, remedy: String, disposition: Disposition = .failed) {
    self.message = message
    self.remedy = remedy
    self.disposition = disposition
  }
}
