public import Failures

/// The error that the database does not have a table or a column that the definition names.
public struct PlanError: ExplainedError, Sendable {
  public let message: String
  public let remedy = "run lethe check: it reports what does not match the database"

  public var disposition: Disposition { .refused }
}
