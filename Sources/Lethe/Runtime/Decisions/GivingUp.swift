import ComplianceAPI
import Definitions
import Foundation
import Ledger
import Logging
import PostgreSQL
import Vocabulary

/// `lethe run --give-up`: ends earlier runs without finishing them.
extension PipelineRuntime {
  /// A run that was given up.
  public struct GivenUp: Sendable, Codable, Equatable {
    public let runID: Int64
    /// The API jobs that were cancelled. They are cancelled, because the API accepts no new job of a type until the
    /// previous job has ended.
    public var cancelled: [String] = []
    /// Jobs that might still be running at the API.
    public var left: [JobLeft] = []

    enum CodingKeys: String, CodingKey {
      case cancelled, left
      case runID = "run_id"
    }

    public struct JobLeft: Sendable, Codable, Equatable {
      public let name: String
      /// Nil if it is unknown whether the API has created the job.
      public let job: String?
      public let why: String
      public let command: String
    }
  }

  /// Ends all unfinished runs of the pipeline, even if their definitions do not fit the database. Their applied changes
  /// and the records of these changes stay. Their jobs are cancelled. If the creation of a job got no usable response,
  /// the job is found by its name. If a job cannot be cancelled, its run is given up nevertheless, and the job is
  /// reported.
  public func giveUp() async throws -> [GivenUp] {
    let ledger = RunLedger(connection: lockConnection)
    var outcomes: [GivenUp] = []
    var why: String?
    for run in try await ledger.unfinished(pipeline: pipeline.definition.name) {
      try await ledger.takeOver(run.id, lease: lease, file: pipeline.file)
      var outcome = GivenUp(runID: run.id)
      for job in try await ledger.liveJobs(of: run.id) {
        try await ledger.jobGivenUp(job, try await end(job, &outcome, &why))
      }
      for path in [run.workDirectory, folder(of: run.pipeline, run.key)] {
        try? FileManager.default.removeItem(atPath: path)
      }
      try await ledger.runGivenUp(run.id, lease: lease)
      logger.warning("run \(run.id) is given up; its IDs are checked again by the next run")
      outcomes.append(outcome)
    }
    return outcomes
  }

  /// - Parameter outage: the error of an earlier call, if the error concerns all jobs. Then the API is not called
  ///   again, because one call for each job could take minutes.
  /// - Returns: how the job ended, for the ledger.
  private func end(
    _ job: RunLedger.LiveJob, _ outcome: inout GivenUp, _ outage: inout String?
  ) async throws -> String {
    var apiID = job.apiID
    do {
      if let outage { return left(job, apiID, outage, &outcome) }
      if apiID == nil {
        apiID = try await client.jobs(type: job.type)
          .first { $0.name == job.name && $0.status.isActive }?.id
      }
      guard let apiID else { return "the API has no live job with its name" }
      try await client.cancelJob(id: apiID)
      outcome.cancelled.append(apiID)
      logger.notice("job \(apiID) (\(job.name)) is cancelled")
      return "job \(apiID) was cancelled"
    } catch let error as APIError {
      switch error.kind {
      case .notFound, .conflict:
        logger.notice("job \(apiID ?? job.name) does not have to be cancelled: \(error.message)")
        return "job \(apiID ?? job.name) had already ended"
      case .invalidRequest, .jobRefused: break
      case .credentials, .creditsDepleted, .capped, .redirected, .proxyRefused, .wrongProxyProtocol,
        .clientCertificateRequired, .untrusted, .unknownHost, .urlRefused, .tooLarge, .rateLimited,
        .temporary, .unconfirmed,
        .hostNotAllowed, .incompleteResult, .noResult:
        outage = error.message
      }
      return left(job, apiID, error.message, &outcome)
    }
  }

  private func left(
    _ job: RunLedger.LiveJob, _ apiID: String?, _ why: String, _ outcome: inout GivenUp
  ) -> String {
    let file = shellWord(pipeline.file)
    let command =
      apiID.map { "lethe jobs cancel \(file) \($0)" }
      ?? "run lethe jobs list \(file) to look for its name; if it is listed, run lethe jobs cancel"
    outcome.left.append(.init(name: job.name, job: apiID, why: why, command: command))
    let what = apiID.map { "job \($0) (\(job.name))" } ?? "a job named \(job.name)"
    logger.warning(
      """
      \(what) was not cancelled, and might block new jobs of type \(job.type.rawValue) until it ends: \(why)
        remedy: \(command)
      """)
    return "\(what) was not cancelled: \(why)"
  }
}
