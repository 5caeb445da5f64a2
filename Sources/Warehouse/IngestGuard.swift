public import Definitions
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
  public enum State: Sendable, Equatable {
    case active
    /// Somebody has disabled the trigger.
    case disabled
    /// The column has another name or type than when the guard was made, so that its function fails.
    case outdated
  }

  public let guarding: IngestGuard
  public let state: State

  public init(guarding: IngestGuard, state: State) {
    self.guarding = guarding
    self.state = state
  }
}

/// A guard cannot be installed or removed. Nothing was changed.
public struct GuardError: Error, Sendable, CustomStringConvertible {
  public let message: String
  public let remedy: String
  /// Whether the same may succeed at another moment.
  public let isTemporary: Bool

  init(_ message: String, remedy: String, isTemporary: Bool = false) {
    self.message = message
    self.remedy = remedy
    self.isTemporary = isTemporary
  }

  public var description: String { "\(message)\n  remedy: \(remedy)" }
}
