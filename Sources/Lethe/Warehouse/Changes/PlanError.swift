public import Failures

/// A dataset's tables are not what its definition says.
public struct PlanError: ExplainedError, Sendable {
  public let message: String
  public let remedy = "lethe check tells what does not fit"

  public var disposition: Disposition { .refused }
}
