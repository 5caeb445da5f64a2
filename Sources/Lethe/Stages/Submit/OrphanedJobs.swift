import ComplianceAPI
import CrashPoints
import Ledger
import Logging
import Vocabulary

/// Jobs of this ledger's runs that no open attempt uses. They would hold the API's slot until they end.
///
/// Such a job comes from a process that lost its lease before it could record the job, or from an attempt that ended
/// before its job.
struct OrphanedJobs {
  let ledger: ChunkLedger
  let client: ComplianceClient
  let logger: Logger

  /// Cancels those of the API's jobs that are orphaned.
  /// - Returns: whether a job was cancelled.
  func cancel(among jobs: [APIJob], for chunk: Chunk) async throws -> Bool {
    let named = jobs.filter(\.status.isActive).compactMap { job in
      job.name.map { (apiID: job.id, name: $0) }
    }
    let unwanted = try await ledger.unwanted(named)
    var hasCancelled = false
    for job in named where unwanted.contains(job.apiID) {
      do {
        try await CrashStep.cancelCallOfOrphan.around { try await client.cancelJob(id: job.apiID) }
        hasCancelled = true
        logger.warning(
          """
          \(chunk.label): job \(job.apiID) (\(job.name)) held the slot of \(chunk.type.rawValue), and no chunk uses \
          it: cancelled
          """, metadata: chunk.metadata("submit", job: job.apiID))
      } catch let error as APIError
        where [.notFound, .conflict, .jobRefused].contains(error.kind)
      {
        logger.notice("\(chunk.label): job \(job.apiID) was not cancelled: \(error.message)")
      }
    }
    return hasCancelled
  }

  /// Cancels a job that this process has created although another process has taken over: the ledger refuses the job,
  /// or the call was interrupted. The task may be cancelled already, so this uses its own task.
  ///
  /// - Parameter apiID: nil if the call was interrupted. Then the job is found by its name.
  func undo(_ name: String, _ apiID: String?, for chunk: Chunk, _ lease: any LeaseStatus) async {
    let (client, logger) = (client, logger)
    await Task {
      do {
        for search in 1...Self.searchesMax {
          let jobs =
            if let apiID { [apiID] } else { try await Self.active(name, of: chunk, client) }
          var hasCancelled = false
          for job in jobs where await !lease.isRecorded(job) {
            try await CrashStep.cancelCallOfLostLease.around {
              try await client.cancelJob(id: job, undoing: true)
            }
            hasCancelled = true
            logger.warning(
              "\(chunk.label): job \(job) is cancelled, because this process has lost its lease",
              metadata: chunk.metadata("submit", job: job))
          }
          // The API may still be creating the job.
          if apiID != nil || hasCancelled || search == Self.searchesMax { return }
          try await Task.sleep(for: Self.searchInterval)
        }
      } catch {
        logger.warning(
          """
          \(chunk.label): job \(name) may have been created after this process had lost its lease, and was not \
          cancelled; the next process that finds it in the API's slot cancels it
          """, metadata: chunk.metadata("submit", job: apiID ?? name))
      }
    }.value
  }
}

extension OrphanedJobs {
  private static let searchesMax = 3
  private static let searchInterval = Duration.seconds(1)

  private static func active(
    _ name: String, of chunk: Chunk, _ client: ComplianceClient
  ) async throws -> [String] {
    try await client.jobs(type: chunk.type).filter { $0.name == name && $0.status.isActive }
      .map(\.id)
  }
}

/// What the submit stage asks about the lease of its process, also after the lease is lost.
public protocol LeaseStatus: Sendable {
  /// Asks the ledger whether another process has taken over. The task may be cancelled already.
  func checkIsLost() async -> Bool

  /// Whether an attempt of the ledger has this job of the API. True if the ledger cannot be read.
  func isRecorded(_ apiID: String) async -> Bool
}
