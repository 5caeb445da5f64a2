import Ledger
import PostgreSQL

/// The warehouse does not take a change. Nothing of the batch was kept.
public struct ApplyError: Error, Sendable, CustomStringConvertible {
  public let message: String
  public let remedy: String
  /// Whether another try may succeed: a writer beside us may be the cause.
  let mayPass: Bool

  public var description: String { "\(message)\n  remedy: \(remedy)" }

  init(message: String, remedy: String, mayPass: Bool = false) {
    self.message = message
    self.remedy = remedy
    self.mayPass = mayPass
  }

  /// What the server says of a statement, and what to do about it.
  init(_ error: PostgreSQLError, _ chunk: Chunk, _ change: String) {
    self.init(error, "\(chunk.label): \(change)")
  }

  init(_ error: PostgreSQLError, _ statement: String) {
    let what = "\(statement)\(error.message)"
    if error.state == .foreignKeyViolation, let constraint = error.constraint {
      self.init(
        message: "\(what) (constraint \(constraint))",
        remedy: Self.remedy(declaring: error.table ?? "the referencing table"), mayPass: true)
    } else {
      self.init(
        message: "\(what)\(error.detail.map { " (\($0))" } ?? "")",
        remedy: error.hint ?? """
          make the table take the change; or change the dataset's actions, and lethe run --give-up, \
          for a run that has begun keeps its definition
          """)
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
    return """
      \(what); a run that has begun keeps its definition: lethe run --give-up ends it and begins anew
      """
  }
}
