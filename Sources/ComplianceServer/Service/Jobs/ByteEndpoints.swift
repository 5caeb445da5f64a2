internal import HTTPTypes
internal import Hummingbird

/// The upload and download endpoints.
struct ByteEndpoints: Sendable {
  let store: JobStore
  let urls: JobURLs
  let spool: Spool
  let processor: JobProcessor
  let uploadBytesMax: Int
  let gate: ComplianceServer.Gate?

  private static let parameters: Set<String> = ["token", JobField.parameter]

  func upload(_ call: Call, _ id: Int64) async throws -> Response {
    let request = call.request
    let query = try QueryParameters(request, allowed: Self.parameters)
    let fields = try JobField.selected(by: query)
    let job = try await authorize(.upload, query, call.app, id)
    guard job.status == .created else { throw Self.alreadyUploaded(job) }
    try Self.requirePlainBytes(request.headers)
    // Without this check, a part of an upload would be stored as the complete upload (RFC 9110, section 14.5).
    if let range = request.headers[.contentRange] {
      throw Problem.invalid(
        "Content-Range", range, "Send the upload in one piece, without Content-Range.")
    }
    guard request.announcesBody else {
      throw Problem.invalid(nil, nil, "The upload has no body. Send the IDs, one on each line.")
    }
    let bytesExpected = request.headers[.contentLength].flatMap { Int($0) }
    guard bytesExpected ?? 0 <= uploadBytesMax else { throw Problem.tooLarge(uploadBytesMax) }

    let submitted = try await spool.withNewName(of: id, .submission) { name in
      _ = try await spool.storeUpload(
        request.body, as: name, bytesExpected: bytesExpected, bytesMax: uploadBytesMax,
        exchange: call.exchange)
      await gate?(.uploadReceived(jobID: String(id)))
      if let started = try await store.beginProcessing(id, submission: name) { return started }
      // The job expired, was cancelled or got another upload while this upload arrived.
      await spool.remove(name)
      throw Self.alreadyUploaded(try await store.job(id, of: call.app) ?? job)
    }
    processor.wake()
    await gate?(.uploadCommitted(jobID: String(id)))
    return .json(JobResponse(data: JobBody(job: submitted, fields: fields, urls: urls)))
  }

  func download(_ call: Call, _ id: Int64) async throws -> Response {
    let query = try QueryParameters(call.request, allowed: Self.parameters)
    let job = try await authorize(.download, query, call.app, id)
    await gate?(.downloadRequested(jobID: String(id)))
    return try await spool.download(
      of: job, entityTag: "\"\(id)-\(job.resultBytes ?? 0)\"", headers: [:]
    ).response(to: call.request)
  }

  /// Returns the job if the query's token permits the operation.
  /// - Throws: a 400 problem without a token; 404 if the App has no native job with this ID; 403 for a token that does
  ///   not permit this operation on this job now.
  private func authorize(
    _ operation: SignedURLs.Operation, _ query: QueryParameters, _ app: AppID, _ id: Int64
  ) async throws -> Job {
    let token = try query.required("token")
    // A job of the gcs profile is unknown here, because its uploads and downloads use the storage host.
    guard let job = try await store.job(id, of: app), job.profile == .native else {
      throw Problem.unknownJob("\(id)")
    }
    try urls.native.require(token, for: operation, of: job)
    return job
  }

  private static func alreadyUploaded(_ job: Job) -> Problem {
    switch job.status {
    case .created, .inProgress, .complete, .failed:
      Problem.conflict(
        "The job is \(job.status.rawValue). A job accepts an upload only in the status created. "
          + "Create a new job.")
    case .expired:
      Problem.forbidden(job.id, "The job has expired. Create a new job.")
    }
  }

  private static func requirePlainBytes(_ headers: HTTPFields) throws {
    let mediaType = headers[.contentType]?.split(separator: ";").first?.lowercased()
    let encoding = headers[.contentEncoding]?.lowercased()
    guard [nil, "text/plain", "application/octet-stream"].contains(mediaType),
      [nil, "identity"].contains(encoding)
    else {
      throw Problem(
        kind: .unsupportedMediaType,
        detail: "Send the IDs as text/plain or application/octet-stream, without Content-Encoding.")
    }
  }
}
