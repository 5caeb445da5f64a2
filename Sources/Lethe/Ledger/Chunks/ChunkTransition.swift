public import PostgreSQL
public import Vocabulary

/// A change of a chunk from one state to another. `all` contains every transition. The guarded updates, the diagram in
/// docs/reference/ledger.md and the tests use these transitions.
public struct ChunkTransition: Sendable, Equatable {
  /// The stage, or the operator, that may make the transition.
  public enum Actor: String, Sendable, CaseIterable {
    case submit, await, collect, apply
    /// An operator decides to retry work, or to give up a run.
    case `operator`
  }

  public let from: [ChunkState]
  public let to: ChunkState
  public let by: [Actor]

  public static let jobCreated = ChunkTransition(from: [.exported], to: .created, by: [.submit])
  public static let fileUploaded = ChunkTransition(from: [.created], to: .uploaded, by: [.submit])
  public static let jobCompleted = ChunkTransition(from: [.uploaded], to: .complete, by: [.await])
  public static let resultCollected = ChunkTransition(
    from: [.complete], to: .collected, by: [.collect])
  /// The chunk's last batch is applied.
  public static let applied = ChunkTransition(from: [.collected], to: .applied, by: [.apply])
  /// The job ended without a result. The chunk gets another attempt.
  public static let jobFailed = ChunkTransition(
    from: [.created, .uploaded, .complete], to: .exported, by: [.submit, .await, .collect])
  /// The host refused the chunk as too large, and the chunk is cut in two.
  public static let cut = ChunkTransition(from: [.created], to: .exported, by: [.submit])
  /// The chunk is set aside, or its run is given up.
  public static let failed = ChunkTransition(
    from: [.exported, .created, .uploaded, .complete, .collected], to: .failed,
    by: Actor.allCases)
  /// The chunk, or some of its refused events, are retried.
  public static let retried = ChunkTransition(
    from: [.applied, .failed], to: .collected, by: [.operator])
  /// Lines of the chunk's quarantine became events.
  public static let quarantineRead = ChunkTransition(
    from: [.applied], to: .collected, by: [.operator])

  public static let all = [
    jobCreated, fileUploaded, jobCompleted, resultCollected, applied, jobFailed, cut, failed,
    retried, quarantineRead,
  ]

  /// Whether the chunk goes back to an earlier state.
  public var goesBack: Bool { from.allSatisfy { $0.position > to.position } }

  /// The column of the time that the transition sets. Nil if the chunk goes back.
  public var timeSet: String? { goesBack ? nil : to.timeColumn }

  /// The columns of the times that the transition clears: the times of the states after the new state.
  public var timesCleared: [String] {
    guard goesBack, let last = from.map(\.position).max() else { return [] }
    return ChunkState.allCases[(to.position + 1)...last].map(\.timeColumn)
  }

  /// SQL: the assignments for an UPDATE of `lethe.chunk`.
  var assignments: SQL {
    var all: [SQL] = ["state = \(state: to)"]
    if let timeSet { all.append("\(identifier: timeSet) = clock_timestamp()") }
    all += timesCleared.map { "\(identifier: $0) = NULL" }
    return all.joined(separator: ", ")
  }

  /// SQL: an update that makes the transition if the chunk is in one of the `from` states.
  ///
  /// - Parameters:
  ///   - staying: other states from which the transition is allowed.
  ///   - lease: the lease that the chunk must have. Nil for a chunk that no process works on.
  ///   - also: more assignments.
  ///   - condition: one more condition that must be true.
  func update(
    of chunk: Chunk, orIn staying: [ChunkState] = [], heldBy lease: Lease?, setting also: SQL = "",
    where condition: SQL? = nil
  ) -> SQL {
    let assignments = also.isEmpty ? assignments : "\(assignments), \(also)"
    var conditions: [SQL] = [
      "c.chunk_id = \(chunk.id)", "c.state IN (\(states: staying + from))",
    ]
    if let lease { conditions.append("c.lease = \(lease.token)") }
    if let condition { conditions.append(condition) }
    return """
      UPDATE lethe.chunk AS c SET \(assignments) WHERE \(conditions.joined(separator: " AND "))
      """
  }
}

extension ChunkState {
  /// The column with the time when a chunk entered the state. CHECK constraints keep state and time consistent.
  public var timeColumn: String {
    switch self {
    case .exported: "exported_at"
    case .created: "created_at"
    case .uploaded: "uploaded_at"
    case .complete: "completed_at"
    case .collected: "collected_at"
    case .applied: "applied_at"
    case .failed: "failed_at"
    }
  }

  /// The state's position in the order of the enum type.
  fileprivate var position: Int { Self.allCases.firstIndex(of: self) ?? 0 }

  /// The states in which a chunk can have events in `lethe.collected`: events that wait, or events that waited when the
  /// chunk failed.
  public static let withEvents: [ChunkState] = [.collected, .failed]

  /// The states in which no stage has work left for a chunk.
  static let ended: [ChunkState] = [.applied, .failed]
}

extension SQL.StringInterpolation {
  /// The label of a chunk's state, as a literal. PostgreSQL uses a partial index only for literals.
  public mutating func appendInterpolation(state: ChunkState) {
    appendInterpolation(literal: state.rawValue)
  }

  /// The labels of several states, for `IN (…)`.
  public mutating func appendInterpolation(states: [ChunkState]) {
    appendInterpolation(states.map { "\(state: $0)" as SQL }.joined(separator: ", "))
  }
}

extension ChunkLedger {
  /// Makes the transition.
  /// - Throws: `LedgerError` (`.leaseLost`) if the chunk is in another state, or another process has its lease.
  func make(
    _ transition: ChunkTransition, of chunk: Chunk, setting also: SQL = "", on session: some Session
  ) async throws {
    try await ChunkQueries.guarded(
      session, chunk.label, transition.update(of: chunk, heldBy: lease, setting: also))
  }
}
