public import Failures

/// An error: the database lacks a table or a column that the definition names.
public struct PlanError: ExplainedError, Sendable {
  public let message: String
  public let remedy = "run lethe check: it reports what does not match the database"

  public var disposition: Disposition { .refused }
}
