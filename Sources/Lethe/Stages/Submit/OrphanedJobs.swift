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

  /// Cancels a job that this process has just created, and that the ledger refuses because another process has taken
  /// over. The task may be cancelled already, so this uses its own task.
  ///
  /// - Parameter isRecorded: whether an attempt uses the job: the other process may have found it.
  func undo(
    _ job: APIJob, for chunk: Chunk, unless isRecorded: @escaping @Sendable (String) async -> Bool
  ) async {
    let (client, logger) = (client, logger)
    await Task {
      guard await !isRecorded(job.id) else { return }
      do {
        try await client.cancelJob(id: job.id, undoing: true)
        logger.warning(
          "\(chunk.label): job \(job.id) is cancelled, because this process has lost its lease")
      } catch {
        logger.warning(
          """
          \(chunk.label): job \(job.id) was created after this process had lost its lease, and could not be cancelled; \
          the next process that finds it in the API's slot cancels it
          """)
      }
    }.value
  }
}
