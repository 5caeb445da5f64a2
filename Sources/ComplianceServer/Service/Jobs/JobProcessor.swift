internal import Logging
internal import PostgreSQL
internal import ServiceLifecycle
internal import Synchronization

/// Processes the jobs that are in progress: oldest upload first, a few at a time.
///
/// The list of jobs is always read from the database, so a crash loses nothing. After a crash, an unfinished job is
/// processed again from the beginning.
final class JobProcessor: Service {
  private let store: JobStore
  private let spool: Spool
  private let processing: Processing
  private let jobsMax: Int
  private let gate: ComplianceServer.Gate?
  private let faults: FaultInjector?
  private let metrics: Metrics
  private let logger: Logger

  private let wakeUps: AsyncStream<Void>
  private let wakeUp: AsyncStream<Void>.Continuation
  /// The jobs being processed.
  private let running = Mutex<[Int64: RunningJob]>([:])

  private struct RunningJob {
    /// Call `finish` to stop the processing.
    let stop: AsyncStream<Never>.Continuation
    /// From 0 to 1.
    var progress = 0.0
  }

  init(
    store: JobStore, database: Database, spool: Spool, faults: FaultInjector?, metrics: Metrics,
    configuration: ComplianceServer.Configuration
  ) {
    self.store = store
    self.spool = spool
    processing = Processing(
      database: database, spool: spool, lookUpsMax: configuration.lookUpsMax,
      idsInMemoryMax: configuration.idsInMemoryMax, vocabulary: configuration.vocabulary)
    jobsMax = configuration.processingMax
    gate = configuration.gate
    self.faults = faults
    self.metrics = metrics
    logger = configuration.logger
    (wakeUps, wakeUp) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    wakeUp.yield()
  }

  /// Starts a search for jobs in the background. An unnecessary call costs one query.
  func wake() {
    wakeUp.yield()
  }

  /// Stops the processing of a job that was cancelled.
  func stop(_ jobID: Int64) {
    running.withLock { $0[jobID]?.stop.finish() }
  }

  /// The progress of each job that is being processed, from 0 to 1.
  var progress: [Int64: Double] { running.withLock { $0.mapValues(\.progress) } }

  /// Processes jobs until the server stops. Unfinished jobs stay in progress until the next start.
  func run() async throws {
    await cancelWhenGracefulShutdown {
      await withDiscardingTaskGroup { group in
        for await _ in self.wakeUps {
          for job in await self.jobsInProgress() {
            guard let stopped = self.begin(job.id) else { continue }
            group.addTask { await self.run(job, until: stopped) }
          }
        }
      }
    }
  }

  private func jobsInProgress() async -> [Job] {
    do {
      return try await store.inProgress()
    } catch {
      // The next sweep wakes the processor again.
      logger.warning("cannot look for jobs to process", metadata: ["error": "\(error)"])
      return []
    }
  }

  /// Adds a job to the running jobs.
  /// - Returns: the signal to stop; nil if the job is already being processed, or if `jobsMax` jobs are running.
  private func begin(_ jobID: Int64) -> AsyncStream<Never>? {
    running.withLock { running in
      guard running.count < jobsMax, running[jobID] == nil else { return nil }
      let (stopped, stop) = AsyncStream.makeStream(of: Never.self)
      running[jobID] = RunningJob(stop: stop)
      return stopped
    }
  }

  private func run(_ job: Job, until stopped: AsyncStream<Never>) async {
    let isOver = await withTaskGroup(of: Bool.self) { group in
      group.addTask { await self.process(job) }
      group.addTask {
        for await _ in stopped {}
        return true
      }
      defer { group.cancelAll() }
      return await group.next() ?? true
    }
    running.withLock { _ = $0.removeValue(forKey: job.id) }
    await gate?(.processed(jobID: String(job.id)))
    // If the database was not available, the next sweep wakes the processor.
    if isOver { wake() }
  }

  /// Processes a job.
  /// - Returns: false if the job must be processed again.
  private func process(_ job: Job) async -> Bool {
    await gate?(.processing(jobID: String(job.id)))
    let began = ContinuousClock.now
    let jobFaults = faults?.faults(of: job.id)
    do {
      if let jobFaults { try await Task.sleep(for: jobFaults.delay) }
      if let error = jobFaults?.error { throw InjectedFailure(error: error) }
      try await spool.withNewName(of: job.id, .result) { name in
        var bytes = try await processing.writeResult(of: job, as: name) { [self] progress in
          running.withLock { $0[job.id]?.progress = progress }
        }
        if let jobFaults, let faults, jobFaults.addsLines {
          bytes = try await spool.rewrite(name) { try faults.insertLines(jobFaults, $0, to: $1) }
        }
        let hash =
          job.profile == .gcs ? try ObjectHash(of: spool.path(name), isComposite: true) : nil
        if try await store.complete(job.id, result: name, bytes: bytes, hash: hash) == nil {
          await spool.remove(name)  // The job was cancelled in the meantime.
        }
      }
      if let submission = job.submissionFile { await spool.remove(submission) }
      metrics.jobProcessed(seconds: (ContinuousClock.now - began) / .seconds(1))
      logger.info("processed job \(job.id)")
    } catch  where error is CancellationError || Task.isCancelled {
      logger.info("stopped processing job \(job.id)")
    } catch let error as PostgreSQLError where error.isRetryable {
      logger.warning(
        "cannot process job \(job.id) now, retrying at the next sweep",
        metadata: ["error": "\(error)"])
      return false
    } catch {
      return await fail(job, error)
    }
    return true
  }

  /// Marks a job as failed.
  /// - Returns: false if that was not possible and the job must be processed again.
  private func fail(_ job: Job, _ error: any Error) async -> Bool {
    let reason =
      switch error {
      case let injected as InjectedFailure: injected.error
      case is SubmissionMissing: "The submission's file is missing. Create a new job."
      case let error as SubmissionMalformed:
        "Line \(error.line) of the submission is not an ID of 1 to 19 digits, or is too large for a 64-bit integer. Create a new job."
      case let error as PostgreSQLError where error.state?.conditionClass == "53":
        "The platform's database is out of memory or disk space. Create a new job later."
      case is PostgreSQLError: "The platform's state could not be read. Create a new job."
      case let error where error.isStorageFull:
        "The service has no space left to store the result. Create a new job later."
      default: "The result could not be written. Create a new job."
      }
    do {
      // Nil means that the job was cancelled in the meantime.
      guard try await store.fail(job.id, error: reason) != nil else { return true }
      logger.error("processing job \(job.id) failed", metadata: ["error": "\(error)"])
      if let submission = job.submissionFile { await spool.remove(submission) }
      return true
    } catch {
      logger.warning("cannot mark job \(job.id) as failed", metadata: ["error": "\(error)"])
      return false
    }
  }
}

/// The fault plan makes the job fail.
private struct InjectedFailure: Error {
  let error: String
}

extension PostgreSQLError {
  /// Whether a retry on another connection might succeed, because the error is temporary. If PostgreSQL lacks resources
  /// other than connections, the job fails.
  fileprivate var isRetryable: Bool {
    isTemporary && (state?.conditionClass != "53" || state == .tooManyConnections)
  }
}
