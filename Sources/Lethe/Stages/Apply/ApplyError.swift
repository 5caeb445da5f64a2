public import Failures
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// The warehouse does not take a change. Nothing of the batch was kept.
///
/// Its text names tables, keys and constraints. It never has the content of a row: of what the server says,
/// it leaves out what quotes values.
public struct ApplyError: ExplainedError, Sendable {
  public let message: String
  public let remedy: String
  /// Whether another try may succeed: a writer beside us may be the cause.
  let mayPass: Bool
  /// Whether a statement took longer than the session's own timeouts allow: no event is to blame, and to look
  /// for one would take as long again and again.
  let isTimeout: Bool
  /// Whether it may be for what the same transaction has done before: rows of a history that have `now()` in their key.
  private(set) var isOfTransaction = false
  public let context: ErrorContext

  public var disposition: Disposition { .refused }

  /// - Parameter chunk: whose change it is; nil for a change of an operator's.
  init(
    _ chunk: Chunk?, message: String, remedy: String, mayPass: Bool = false, isTimeout: Bool = false
  ) {
    context = chunk?.errorContext ?? ErrorContext()
    self.message = message
    self.remedy = remedy
    self.mayPass = mayPass
    self.isTimeout = isTimeout
  }

  /// What the server says of a statement, and what to do about it.
  /// - Parameter change: what the statement does; with a colon and a blank at its end if it is not empty.
  init(_ error: PostgreSQLError, _ chunk: Chunk?, _ change: String) {
    let what = "\(change)\(error.messageWithoutValues.withoutSecrets())"
    if error.state == .foreignKeyViolation, let constraint = error.constraint {
      self.init(
        chunk, message: "\(what) (constraint \(constraint))",
        remedy: Self.remedy(declaring: error.table ?? "the referencing table"), mayPass: true)
    } else {
      self.init(
        chunk, message: what, remedy: Self.remedy(for: error), isTimeout: error.isOwnTimeout)
      isOfTransaction = ["23505", "23P01"].contains(error.state?.rawValue)
    }
  }

  /// The same for whatever a batch has thrown; nil if it is no refusal of the warehouse's.
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
      "\(error.hint ?? "raise it"); a run with a smaller batch: and batch_rows: needs less, too"
    case "42" where error.state == .insufficientPrivilege:
      "give Lethe's user the right; lethe check names what is missing"
    case "42": "lethe check tells what does not fit the definition any more"
    case "22":
      "PostgreSQL's log has the value: correct it (changed actions count from the next run on)"
    default: "make the table take the change (changed actions count from the next run on)"
    }
  }

  /// For rows that a foreign key holds.
  /// - Parameter isOwn: whether they are held by rows of their own table.
  static func remedy(declaring table: String, isOwn: Bool = false) -> String {
    let what =
      isOwn
      ? """
      have the constraint empty its columns (ON DELETE SET NULL); or declare \(table) as a target of \
      the dataset once more, matching them, if what refers to a deleted row is to be deleted with it
      """
      : """
      declare \(table) as a target of the dataset, before the table that it refers to, with the same \
      reasons mapped to delete
      """
    return "\(what): the next run goes by that; or take away the rows that refer to it"
  }
}
