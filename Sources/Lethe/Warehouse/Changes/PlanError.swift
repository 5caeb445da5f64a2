public import Failures

/// The database has no such table or column as the definition names.
public struct PlanError: ExplainedError, Sendable {
  public let message: String
  public let remedy = "lethe check tells what does not fit"

  public var disposition: Disposition { .refused }
}
