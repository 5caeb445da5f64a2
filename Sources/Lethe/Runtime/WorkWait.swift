/// Waits until a stage can have new work.
///
/// The tasks of this process send a signal. The other processes of its team send none. So if the team has had other
/// processes, the ledger is read again and again, at growing intervals. Otherwise, no connection is used while the
/// stage waits.
struct WorkWait {
  private static let shortest = Duration.milliseconds(250)
  private static let longest = Duration.seconds(5)

  private let keeper: LeaseKeeper
  private let changes: ChangeSignal
  private var delay = shortest

  init(_ keeper: LeaseKeeper, _ changes: ChangeSignal) {
    (self.keeper, self.changes) = (keeper, changes)
  }

  /// The wait after a completed step: the intervals start again with the shortest.
  var afterStep: WorkWait { WorkWait(keeper, changes) }

  /// Waits for a change since `view`. If the team has had other processes, returns also when the interval has passed.
  mutating func change(since view: ChangeSignal.View) async throws {
    let (keeper, changes, delay) = (keeper, changes, delay)
    self.delay = min(delay * 2, Self.longest)
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await changes.change(since: view) }
      group.addTask {
        repeat { try await Task.sleep(for: delay) } while await !keeper.hasHadTeammates
      }
      defer { group.cancelAll() }
      _ = try await group.next()
    }
  }
}
