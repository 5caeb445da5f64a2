public import Definitions
public import Failures
public import Vocabulary

/// The trigger that keeps tombstoned IDs from coming back into a table: `lethe_guard`.
///
/// A row that is inserted in the same moment in which apply commits its tombstone may still get in; the
/// next run finds it.
public struct IngestGuard: Sendable, Equatable {
  /// What becomes of a row with a tombstoned ID.
  public enum OnReturn: String, Sendable, CaseIterable {
    /// It is left out, and the statement goes on.
    case skip
    /// The statement fails with SQLSTATE 23L01.
    case raise
  }

  public let table: TableName
  /// The column whose IDs are looked up.
  public let id: String
  /// Whose tombstones count.
  public let type: JobType
  public let onReturn: OnReturn

  public init(table: TableName, id: String, type: JobType, onReturn: OnReturn) {
    self.table = table
    self.id = id
    self.type = type
    self.onReturn = onReturn
  }
}

/// A guard as the database has it.
public struct InstalledGuard: Sendable, Equatable {
  public enum State: String, Sendable, Equatable, CaseIterable {
    case active
    /// Something else acts on new rows, too, and nobody has said that it may.
    case unsure
    /// Some of the table's rows pass it by.
    case incomplete
    /// Somebody has disabled the trigger.
    case disabled
    /// The column has another name or type than when the guard was made, so that its function fails.
    case outdated
    /// Its function does something else, or fails.
    case broken
  }

  /// Something because of which the guard may not guard.
  public struct Fault: Sendable, Equatable {
    public let state: State
    public let message: String
    public let remedy: String
  }

  public let guarding: IngestGuard
  /// What the catalog has against it; empty if nothing.
  public let faults: [Fault]

  /// The worst of its faults.
  public var state: State {
    let states = Set(faults.map(\.state))
    return State.allCases.last { states.contains($0) } ?? .active
  }

  public init(guarding: IngestGuard, faults: [Fault]) {
    self.guarding = guarding
    self.faults = faults
  }
}

/// A guard cannot be installed or removed. What was there before is there still, unless the message says
/// otherwise.
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
