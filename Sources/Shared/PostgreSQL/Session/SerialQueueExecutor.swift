import Dispatch

/// Runs an actor's jobs one after another on a private serial queue.
///
/// libpq's calls block. On a two-core machine, two such calls would block all threads of the cooperative pool. So each
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
