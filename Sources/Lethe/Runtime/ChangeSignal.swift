/// Tells the stages of a run that there may be something new for them in the ledger. It carries no
/// work itself.
actor ChangeSignal {
  /// What a stage knows before it looks into the ledger.
  struct View {
    let generation: Int
    let isExportDone: Bool
  }

  private var generation = 0
  private var isExportDone = false
  private var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
  private var lastWaiter = 0

  var view: View { View(generation: generation, isExportDone: isExportDone) }

  /// Something in the ledger has changed.
  func notify() {
    generation += 1
    let woken = waiters.values
    waiters.removeAll()
    for waiter in woken { waiter.resume() }
  }

  /// No more chunks will come.
  func exportDone() {
    isExportDone = true
    notify()
  }

  /// Returns once something has changed since `view`, or the task was cancelled.
  func change(since view: View) async throws {
    guard generation == view.generation else { return }
    lastWaiter += 1
    let waiter = lastWaiter
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        // Cancelled before it could wait: the handler below has run and found nobody.
        if Task.isCancelled { continuation.resume() } else { waiters[waiter] = continuation }
      }
    } onCancel: {
      Task { await self.wake(waiter) }
    }
    try Task.checkCancellation()
  }

  private func wake(_ waiter: Int) {
    waiters.removeValue(forKey: waiter)?.resume()
  }
}
