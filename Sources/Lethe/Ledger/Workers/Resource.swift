import PostgreSQL
public import Vocabulary

/// What only one worker at a time may work on. Each is one row of `lethe.lease` while a worker has it.
public enum Resource: Sendable, Hashable, CustomStringConvertible {
  /// The export of one dataset of a run.
  case export(runID: Int64, dataset: String)
  /// The slot of one type at one account of the API. `account` identifies the account, but does not reveal the token.
  case slot(JobType, account: String)
  case chunk(Int64)
  /// The changes of the warehouse for a pipeline. Two batches that change the same row at the same time could lose a
  /// protection.
  case apply(pipeline: String)
  /// The end of a run.
  case settlement(runID: Int64)

  /// The value of `lethe.lease.resource`.
  public var description: String {
    switch self {
    case .export(let runID, let dataset): "export \(runID) \(dataset)"
    case .slot(let type, let account): "slot \(type.rawValue) \(account)"
    case .chunk(let id): "chunk \(id)"
    case .apply(let pipeline): "apply \(pipeline)"
    case .settlement(let runID): "settlement \(runID)"
    }
  }
}

extension Lease {
  /// SQL: whether this worker has the whole run `r`, or the resource.
  func isHeld(_ resource: Resource) -> SQL {
    """
    (r.lease = \(token) OR EXISTS (SELECT FROM lethe.lease AS held
                                   WHERE held.resource = \(resource.description) AND held.lease = \(token)::uuid))
    """
  }
}
