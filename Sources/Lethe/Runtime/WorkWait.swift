/// Waits until a stage can have new work.
///
/// The tasks of this process send a signal. The other processes of its team send none. So if the team has had other
/// processes, the ledger is read again and again, at growing intervals. Otherwise, it is read as often as the lease is
/// renewed: a process that joins and leaves the team between two renewals is not noticed, and it may have done the last
/// work.
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

  /// Waits for a change since `view`, or until the ledger has to be read again.
  mutating func change(since view: ChangeSignal.View) async throws {
    let (keeper, changes, delay) = (keeper, changes, delay)
    self.delay = min(delay * 2, Self.longest)
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await changes.change(since: view) }
      group.addTask {
        let end = ContinuousClock.now + keeper.renewalInterval
        repeat {
          try await Task.sleep(for: delay)
          if await keeper.hasHadTeammates { return }
        } while ContinuousClock.now < end
      }
      defer { group.cancelAll() }
      _ = try await group.next()
    }
  }
}
