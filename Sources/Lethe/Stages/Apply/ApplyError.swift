public import Failures
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// The error that a chunk, a part of it, or an operator's release cannot be applied: the warehouse refused a change,
/// rows do not have the expected values after it, too many events are refused, or the tables no longer fit the
/// definition. The transaction was rolled back.
///
/// The text contains the names of tables and constraints, and the keys of rows. It never contains other content of a
/// row: parts of the server's message that quote values are left out.
public struct ApplyError: ExplainedError, Sendable {
  public let message: String
  public let remedy: String
  /// Whether a retry can succeed, because a concurrent writer might be the cause.
  let isTemporary: Bool
  /// Whether a statement exceeded the session's own timeouts. Then no single event is the cause. A
  /// search for such an event would exceed the timeout again and again.
  let isTimeout: Bool
  /// Whether an earlier change of the same transaction can be the cause. For example, a trigger writes history
  /// rows with `now()` in their key, and two changes of one row then write the same key.
  private(set) var mayDependOnTransaction = false
  public let context: ErrorContext

  /// The end of the remedy for a change that did not have its effect. The rehearsal leaves it out, because it always
  /// rolls back.
  static let rolledBackNote = "; the transaction was rolled back"

  public var disposition: Disposition { .refused }

  /// - Parameter chunk: the chunk of the change; nil for an operator's change.
  init(
    _ chunk: Chunk?, message: String, remedy: String, isTemporary: Bool = false,
    isTimeout: Bool = false
  ) {
    context = chunk?.errorContext ?? ErrorContext()
    self.message = message
    self.remedy = remedy
    self.isTemporary = isTemporary
    self.isTimeout = isTimeout
  }

  /// The server's message about a statement, with a remedy.
  /// - Parameter change: what the statement does, with a colon and a space at its end. May be empty.
  init(_ error: PostgreSQLError, _ chunk: Chunk?, _ change: String) {
    let what = "\(change)\(error.messageWithoutValues.withoutSecrets())"
    if error.state == .foreignKeyViolation, let constraint = error.constraint {
      self.init(
        chunk, message: "\(what) (constraint \(constraint))",
        remedy: Self.remedy(declaring: error.table ?? "the referencing table"), isTemporary: true)
    } else {
      self.init(
        chunk, message: what, remedy: Self.remedy(for: error), isTimeout: error.isOwnTimeout)
      mayDependOnTransaction = ["23505", "23P01"].contains(error.state?.rawValue)
    }
  }

  /// Converts any error of a batch. Nil if the error is not a refusal by the warehouse.
  init?(refusing chunk: Chunk, _ error: any Error) {
    switch error {
    case let error as ApplyError: self = error
    case let error as PlanError: self.init(chunk, message: error.message, remedy: error.remedy)
    case let error as PostgreSQLError where error.isRefusal:
      self.init(error, chunk, "")
    default: return nil
    }
  }

  private static func remedy(for error: PostgreSQLError) -> String {
    switch error.state?.conditionClass {
    case _ where error.isOwnTimeout:
      "\(error.hint ?? "raise the timeout"); or start a run with smaller values of batch: and batch_rows:"
    case "42" where error.state == .insufficientPrivilege:
      "grant the privilege to Lethe's role; lethe check lists what is missing"
    case "42", "3F": "run lethe check to see what does not fit the definition any more"
    case "22":
      "correct the value, which is in PostgreSQL's log (changed actions apply from the next run on)"
    default:
      "change the table so that it accepts the change (changed actions apply from the next run on)"
    }
  }

  /// The remedy for rows that cannot be deleted because a foreign key refers to them.
  /// - Parameters:
  ///   - table: the table with the referring rows.
  ///   - isOwn: whether the foreign key refers to its own table.
  static func remedy(declaring table: String, isOwn: Bool = false) -> String {
    let what =
      isOwn
      ? """
      change the constraint to ON DELETE SET NULL; or, to delete the referring rows, too, declare \(table) once \
      more as a target of the dataset, matched by the constraint's columns
      """
      : """
      declare \(table) as a target of the dataset, before the table that it refers to, with the same \
      reasons mapped to delete
      """
    return "\(what), and the next run uses the change; or delete the referring rows"
  }
}
