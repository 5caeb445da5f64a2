import Dispatch

/// Runs an actor's jobs one after another on a private serial queue.
///
/// libpq's calls block. On the cooperative pool, two blocked calls would stop a two-core machine, so each
/// `Connection` has its own queue.
final class SerialQueueExecutor: SerialExecutor {
  let queue: DispatchQueue

  init(label: String) {
    queue = DispatchQueue(label: label)
  }

  func enqueue(_ job: consuming ExecutorJob) {
    let unowned = UnownedJob(job)
    queue.async {
      unowned.runSynchronously(on: self.asUnownedSerialExecutor())
    }
  }

  func checkIsolated() {
    dispatchPrecondition(condition: .onQueue(queue))
  }
}
