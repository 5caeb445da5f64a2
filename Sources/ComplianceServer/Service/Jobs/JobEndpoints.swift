internal import Hummingbird

/// The endpoints that create, list, show and cancel jobs. Their responses are JSON.
struct JobEndpoints: Sendable {
  let store: JobStore
  let urls: JobURLs
  let spool: Spool
  let processor: JobProcessor
  /// The profile of new jobs, unless a fault plan gives another one.
  let profile: WireProfile
  let gate: ComplianceServer.Gate?

  func create(_ call: Call) async throws -> Response {
    let fields = try fields(of: call.request)
    let profile = call.exchange.facts.profile ?? profile
    let create = try await CreateRequest(call, profile: profile)
    await gate?(.createReceived(type: create.type.rawValue))
    guard
      let job = try await store.create(
        create.type, name: create.name, profile: profile, isResumable: create.isResumable,
        for: call.app)
    else {
      throw Problem.conflict(
        "There is an active job of type \(create.type.rawValue). Only one job of a type can have the "
          + "status created or in_progress at a time. Wait until it finishes, or cancel it.")
    }
    call.exchange.note { $0.jobID = job.id }
    await gate?(.createCommitted(jobID: String(job.id)))
    return .json(JobResponse(data: JobBody(job: job, fields: fields, urls: urls)))
  }

  func list(_ call: Call) async throws -> Response {
    let query = try QueryParameters(call.request, allowed: ["type", "status", JobField.parameter])
    let fields = try JobField.selected(by: query)
    let type = try query.requiredOneOf(JobType.allCases, "type")
    let status = try query.oneOf(JobStatus.filters, "status")
    let jobs = try await store.list(type, status, of: call.app)
    return .json(JobListResponse(jobs.map { JobBody(job: $0, fields: fields, urls: urls) }))
  }

  func show(_ call: Call, _ id: Int64) async throws -> Response {
    let fields = try fields(of: call.request)
    guard let job = try await store.job(id, of: call.app) else { throw Problem.unknownJob("\(id)") }
    return .json(JobResponse(data: JobBody(job: job, fields: fields, urls: urls)))
  }

  func cancel(_ call: Call, _ id: Int64) async throws -> Response {
    let fields = try fields(of: call.request)
    guard let job = try await store.cancel(id, of: call.app) else {
      guard let job = try await store.job(id, of: call.app) else {
        throw Problem.unknownJob("\(id)")
      }
      throw Problem.conflict(
        "The job is \(job.status.rawValue). Only a job with the status created or in_progress can "
          + "be cancelled.")
    }
    processor.stop(id)
    if let submission = job.submissionFile { await spool.remove(submission) }
    return .json(JobResponse(data: JobBody(job: job, fields: fields, urls: urls)))
  }

  private func fields(of request: Request) throws -> [JobField] {
    try JobField.selected(by: QueryParameters(request, allowed: [JobField.parameter]))
  }
}
