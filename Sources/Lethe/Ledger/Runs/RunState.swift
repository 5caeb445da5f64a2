public import PostgreSQL

/// What `lethe.run.status` says of a run.
public enum RunState: String, Sendable, CaseIterable {
  /// Stages have work left.
  case running
  /// A limit stopped a chunk, and the run waits for an operator.
  case stopped
  /// All chunks are applied, no dataset failed or was stopped, and no event is refused. Final, unless quarantined lines
  /// are retried.
  case done
  /// A chunk failed, a dataset was not completely exported, events were refused, or the run was given up. Final, unless
  /// a chunk, refused events or quarantined lines are retried.
  case failed
}

extension RunState: ColumnDecodable {
  public static func decode(columnText text: String?) -> RunState? {
    text.flatMap(RunState.init(rawValue:))
  }
}

extension SQL.StringInterpolation {
  /// A run's state as a literal.
  public mutating func appendInterpolation(run state: RunState) {
    appendInterpolation(literal: state.rawValue)
  }
}
