/// Wakes the stages of a run when the ledger has changed and can have new work for them. The signal does not say what
/// the work is.
actor ChangeSignal {
  /// The state of the signal before a stage reads the ledger.
  struct View {
    let generation: Int
    let isExportDone: Bool
  }

  private var generation = 0
  private var isExportDone = false
  private var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
  private var lastWaiter = 0

  var view: View { View(generation: generation, isExportDone: isExportDone) }

  /// Reports a change of the ledger.
  func notify() {
    generation += 1
    let woken = waiters.values
    waiters.removeAll()
    for waiter in woken { waiter.resume() }
  }

  /// Reports that this process exports no more chunks.
  func exportDone() {
    isExportDone = true
    notify()
  }

  /// Waits until the ledger has changed since `view`, or until the task is cancelled.
  func change(since view: View) async throws {
    guard generation == view.generation else { return }
    lastWaiter += 1
    let waiter = lastWaiter
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        // The handler below runs `wake` on this actor, so only after the waiter is stored. A task that is cancelled
        // already does not have to wait for it.
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
