internal import Logging
internal import ServiceLifecycle

/// The periodic work of the service: updates `used_at` of the upload sessions that are receiving a part, so that they
/// do not count as abandoned; expires unused jobs; removes files that are no longer needed; and wakes the processor for
/// jobs that it could not process before.
struct Sweeper: Service {
  let ownership: Ownership
  let store: JobStore
  let sessions: UploadSessions
  let spool: Spool
  let processor: JobProcessor
  let interval: Duration
  let logger: Logger

  /// Sweeps once at the start, because files of an earlier server might remain, and then after each interval.
  func run() async throws {
    await cancelWhenGracefulShutdown {
      repeat {
        do {
          try await sweep()
        } catch is CancellationError {
          return
        } catch {
          logger.warning(
            "cannot sweep: unused jobs and files remain until the next sweep",
            metadata: ["error": "\(error)"])
        }
        try? await Task.sleep(for: interval)
      } while !Task.isCancelled
    }
  }

  func sweep() async throws {
    try await sessions.markReceivingAsUsed()
    try await store.expireUnused()
    try await removeUnusedFiles()
    processor.wake()
  }

  /// Removes the files of jobs that no longer need them. A file of a job that is not in this database stays, because it
  /// might belong to the server of another database.
  ///
  /// If another server becomes the owner, its open files look unused to this server. So this server removes a file only
  /// if it was the owner of the database before it listed the files, and has been the owner all the time since then.
  private func removeUnusedFiles() async throws {
    let term = await ownership.term
    let names = try spool.closedNames()
    let ids = Set(names.compactMap(Spool.jobID))
    guard !ids.isEmpty else { return }
    let sessionFiles = try await sessions.openFiles()
    let jobs = Dictionary(
      uniqueKeysWithValues: try await store.jobs(Array(ids)).map { ($0.id, $0) })
    let unused = names.filter { name in
      guard let id = Spool.jobID(of: name), let job = jobs[id] else { return false }
      return !job.uses(name) && !sessionFiles.contains(name)
    }
    guard !unused.isEmpty else { return }
    try await ownership.confirm(term)
    for name in unused {
      await spool.remove(name)
      logger.debug("removed \(name)")
    }
  }
}

extension Job {
  fileprivate func uses(_ name: String) -> Bool {
    switch status {
    case .inProgress: name == submissionFile
    case .complete: name == resultFile && downloadIsOpen
    case .created, .failed, .expired: false
    }
  }
}
