import ComplianceAPI
import Ledger
import Logging
import Vocabulary

/// Jobs of this ledger's runs that no attempt uses. They would hold the API's slot until they expire.
///
/// Such a job comes from a process that was stopped for longer than its lease lasts, between the look at its lease and
/// its call of the API.
struct OrphanedJobs {
  let ledger: ChunkLedger
  let client: ComplianceClient
  let logger: Logger

  /// Cancels the orphaned ones among the API's jobs.
  /// - Returns: whether a job was cancelled.
  func cancel(among jobs: [APIJob], for chunk: Chunk) async throws -> Bool {
    let named = jobs.filter(\.status.isActive).compactMap { job in
      job.name.map { (apiID: job.id, name: $0) }
    }
    let unwanted = try await ledger.unwanted(named)
    var hasCancelled = false
    for job in named where unwanted.contains(job.apiID) {
      do {
        try await client.cancelJob(id: job.apiID)
        hasCancelled = true
        logger.warning(
          """
          \(chunk.label): job \(job.apiID) (\(job.name)) held the slot of \(chunk.type.rawValue), and no chunk uses \
          it: cancelled
          """, metadata: ["stage": "submit", "chunk": "\(chunk.id)", "job": "\(job.apiID)"])
      } catch let error as APIError
        where [.notFound, .conflict, .jobRefused].contains(error.kind)
      {
        logger.notice("\(chunk.label): job \(job.apiID) was not cancelled: \(error.message)")
      }
    }
    return hasCancelled
  }

  /// Cancels a job that this process has created although another process has taken over: the ledger refuses the job, or the
  /// call was cut off. The task may be cancelled already, so this uses its own task.
  ///
  /// - Parameter apiID: nil if there was no response. Then the job is found by its name.
  func undo(_ name: String, _ apiID: String?, for chunk: Chunk, _ lease: any LeaseStatus) async {
    let (client, logger) = (client, logger)
    await Task {
      do {
        for look in 1...Self.looksMax {
          let jobs =
            if let apiID { [apiID] } else { try await Self.active(name, of: chunk, client) }
          var hasCancelled = false
          for job in jobs where await !lease.isRecorded(job) {
            try await client.cancelJob(id: job, undoing: true)
            hasCancelled = true
            logger.warning(
              "\(chunk.label): job \(job) is cancelled, because this process has lost its lease")
          }
          // The API may still be creating the job.
          if apiID != nil || hasCancelled || look == Self.looksMax { return }
          try await Task.sleep(for: Self.lookInterval)
        }
      } catch {
        logger.warning(
          """
          \(chunk.label): job \(name) may have been created after this process had lost its lease, and was not \
          cancelled; the next process that finds it in the API's slot cancels it
          """)
      }
    }.value
  }
}

extension OrphanedJobs {
  private static let looksMax = 3
  private static let lookInterval = Duration.seconds(1)

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
  func isLostByNow() async -> Bool

  /// Whether an attempt of the ledger uses a job of the API.
  func isRecorded(_ apiID: String) async -> Bool
}
