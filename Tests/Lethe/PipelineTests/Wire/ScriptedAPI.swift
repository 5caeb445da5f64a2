import Foundation
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import Synchronization

/// The API's endpoints with responses that a test defines. Tests use it for responses that the local service never
/// sends.
final class ScriptedAPI: Sendable {
  /// A test's settings for the API.
  struct Script: Sendable {
    /// Returns a job's result for the uploaded IDs.
    var result: @Sendable ([Int64]) -> String = { _ in "" }
    /// Returns a job's result for the job's type and the uploaded IDs. If it is set, `result` is not used.
    var resultByType: (@Sendable (String, [Int64]) -> String)?
    /// Bytes that follow the result. A test uses them for invalid UTF-8.
    var resultEnd: [UInt8] = []
    /// The job's status after its bytes were uploaded.
    var status = "complete"
    var error: String?
    /// The HTTP status of the response to a request for the job with this name. If nil, the response is the job.
    var problem: @Sendable (_ name: String) -> Int? = { _ in nil }
    /// The HTTP status of the response to a download of this job's result. If nil, the response is the result.
    var downloadProblem: @Sendable (_ name: String) -> Int? = { _ in nil }
    /// The body of the responses with a status from `problem` or `downloadProblem`.
    var problemBody = ""
    /// The number of bytes at the end of the result that are not sent. The Content-Length includes them.
    var bytesCut = 0
    /// The value of `x-goog-hash` in the response with the result.
    var hash: String?
    /// Returns the response to a call, instead of the API. Such a call has no effect. If nil, the API handles the call.
    var intercept: (@Sendable (Call) -> ScriptedResponse?)?
    /// The response to a creation, after the job was created. If nil, the response is the job.
    var created: (@Sendable (_ number: Int) -> ScriptedResponse?)?
    /// The ID in the response to a creation, by the job's name. If nil, it is the job's own ID.
    var responseID: @Sendable (_ name: String) -> String? = { _ in nil }
    /// Returns the entries of a listing from the entries of the existing jobs. If nil, the listing is empty.
    var listing: (@Sendable (_ entries: [String]) -> [String])?
    /// The URL for the upload. If nil, this API receives the upload.
    var uploadURL: (@Sendable (_ job: String) -> String)?
    /// Additional fields of a job's description.
    var fields: @Sendable (_ status: String) -> [String: String] = { _ in [:] }
    /// The response to a download. If nil, the response is the result with status 200.
    var download: (@Sendable (Download) -> ScriptedResponse?)?
  }

  /// A download that a script responds to.
  struct Download: Sendable {
    /// The number of the job. The first is 1.
    let job: Int
    /// The IDs that were uploaded to the job.
    let ids: [Int64]
    /// The number among all downloads of this API. The first is 1.
    let number: Int
  }

  struct ScriptedResponse: Sendable {
    var status = 200
    var contentType: String?
    var headers: [String: String] = [:]
    var body: [UInt8] = []
  }

  /// A call that a script responds to.
  struct Call: Sendable {
    enum Kind: Sendable { case create, list, get, cancel, upload, download }
    let kind: Kind
    /// The number among all calls of its kind. The first is 1.
    let number: Int
    /// The job's name. Nil for a call that is not about an existing job.
    let name: String?
  }

  private struct Job {
    let id: String
    let type: String
    let name: String
    var status = "created"
    var ids: [Int64] = []
  }

  private let script: Script
  private let jobs = Mutex<[Job]>([])
  private let downloadCount = Mutex(0)

  init(_ script: Script) {
    self.script = script
  }

  private let calls = Mutex<[Call.Kind: Int]>([:])

  func count(_ kind: Call.Kind) -> Int { calls.withLock { $0[kind] ?? 0 } }

  /// Records that another host received the upload for a job.
  func uploaded(_ ids: [Int64], to job: String) {
    jobs.withLock { jobs in
      guard let index = jobs.firstIndex(where: { $0.id == job }) else { return }
      jobs[index].ids = ids
      jobs[index].status = script.status
    }
  }

  fileprivate func intercepted(_ method: String, _ path: String) -> ScriptedResponse? {
    let parts = path.split(separator: "/").map(String.init)
    let job = parts.count > 3 ? parts[3] : nil
    let kind: Call.Kind =
      switch (method, parts.count) {
      case ("POST", 3): .create
      case ("GET", 3): .list
      case ("DELETE", _): .cancel
      case ("PUT", _): .upload
      case ("GET", 5): .download
      default: .get
      }
    let number = calls.withLock { calls in
      calls[kind, default: 0] += 1
      return calls[kind] ?? 0
    }
    let name = jobs.withLock { $0.first { $0.id == job }?.name }
    return script.intercept?(Call(kind: kind, number: number, name: name))
  }

  var jobNames: [String] { jobs.withLock { $0.map(\.name) } }
  var downloads: Int { downloadCount.withLock { $0 } }

  /// Serves until `body` returns. `body` gets the base URL.
  func serving<R: Sendable>(
    _ body: @escaping @Sendable (String) async throws -> R
  ) async throws -> R {
    try await servingLoopback(router(), body)
  }

  private func router() -> Router<BasicRequestContext> {
    let router = Router()
    router.middlewares.add(Interception(api: self))
    router.post("/2/compliance/jobs") { request, _ in
      struct Create: Decodable {
        let type: String
        let name: String
      }
      let body = try await request.body.collect(upTo: 1 << 16)
      let create = try JSONDecoder().decode(Create.self, from: Data(body.readableBytesView))
      let job = self.jobs.withLock { jobs in
        let job = Job(id: "\(1000 + jobs.count)", type: create.type, name: create.name)
        jobs.append(job)
        return job
      }
      if let scripted = self.script.created?(self.count(.create)) { return scripted.response }
      return self.jobResponse(job, request, as: self.script.responseID(job.name))
    }
    router.get("/2/compliance/jobs") { request, _ in
      let entries = self.jobs.withLock { $0 }
        .map { self.entry($0, request) }
      let shown = self.script.listing?(entries) ?? []
      let json =
        shown.isEmpty
        ? #"{"meta":{"result_count":0}}"# : #"{"data":[\#(shown.joined(separator: ","))]}"#
      return Response(status: .ok, body: .init(byteBuffer: ByteBuffer(string: json)))
    }
    router.get("/2/compliance/jobs/:id") { request, context in
      let job = try self.job(context)
      if let code = self.script.problem(job.name) { return self.problem(code) }
      return self.jobResponse(job, request)
    }
    router.put("/2/compliance/jobs/:id/upload") { request, context in
      let body = try await request.body.collect(upTo: 1 << 24)
      let ids = String(buffer: body).split(separator: "\n").compactMap { Int64($0) }
      let id = try context.parameters.require("id")
      let job: Job = try self.jobs.withLock { jobs in
        guard let index = jobs.firstIndex(where: { $0.id == id }) else {
          throw HTTPError(.notFound)
        }
        jobs[index].ids = ids
        jobs[index].status = self.script.status
        return jobs[index]
      }
      return self.jobResponse(job, request)
    }
    router.get("/2/compliance/jobs/:id/download") { _, context in
      let job = try self.job(context)
      if let code = self.script.downloadProblem(job.name) { return self.problem(code) }
      return self.download(job)
    }
    return router
  }

  private func problem(_ code: Int) -> Response {
    Response(
      status: .init(code: code), body: .init(byteBuffer: ByteBuffer(string: script.problemBody)))
  }

  private func job(_ context: BasicRequestContext) throws -> Job {
    let id = try context.parameters.require("id")
    guard let job = jobs.withLock({ $0.first { $0.id == id } }) else {
      throw HTTPError(.notFound)
    }
    return job
  }

  private func jobResponse(_ job: Job, _ request: Request, as id: String? = nil) -> Response {
    Response(
      status: .ok,
      body: .init(byteBuffer: ByteBuffer(string: #"{"data":\#(entry(job, request, as: id))}"#)))
  }

  private func entry(_ job: Job, _ request: Request, as id: String? = nil) -> String {
    let id = id ?? job.id
    let base = "http://\(request.head.authority ?? "")/2/compliance/jobs/\(id)"
    var data = [
      "id": id, "type": job.type, "name": job.name, "status": job.status,
      "upload_url": "\(base)/upload?token=up", "download_url": "\(base)/download?token=down",
    ]
    if let url = script.uploadURL?(job.id) { data["upload_url"] = url }
    if job.status == "failed" { data["error"] = script.error }
    data.merge(script.fields(job.status)) { $1 }
    return String(decoding: (try? JSONEncoder().encode(data)) ?? Data(), as: UTF8.self)
  }

  private func download(_ job: Job) -> Response {
    let number = downloadCount.withLock { count in
      count += 1
      return count
    }
    if let scripted = script.download?(
      Download(job: (Int(job.id) ?? 0) - 999, ids: job.ids, number: number))
    {
      return scripted.response
    }
    let text = script.resultByType?(job.type, job.ids) ?? script.result(job.ids)
    let bytes = Array(text.utf8) + script.resultEnd
    let sent = ByteBuffer(bytes: bytes.dropLast(script.bytesCut))
    var headers: HTTPFields = [.contentLength: "\(bytes.count)"]
    if let hash = script.hash { headers[HTTPField.Name("x-goog-hash")!] = hash }
    return Response(
      status: .ok, headers: headers,
      body: ResponseBody(contentLength: bytes.count) { writer in
        try await writer.write(sent)
        if sent.readableBytes < bytes.count { throw HTTPError(.internalServerError) }
        try await writer.finish(nil)
      })
  }
}

private struct Interception: RouterMiddleware {
  let api: ScriptedAPI

  func handle(
    _ request: Request, context: BasicRequestContext,
    next: (Request, BasicRequestContext) async throws -> Response
  ) async throws -> Response {
    if let scripted = api.intercepted(request.method.rawValue, request.uri.path) {
      // Read the whole request first. Otherwise, the connection could not be used again.
      _ = try await request.body.collect(upTo: 1 << 24)
      return scripted.response
    }
    return try await next(request, context)
  }
}

extension ScriptedAPI.ScriptedResponse {
  init(status: Int = 200, json: String) {
    self.init(status: status, contentType: "application/json", body: Array(json.utf8))
  }

  var response: Response {
    var fields = HTTPFields()
    if let contentType { fields[.contentType] = contentType }
    for (name, value) in headers {
      if let name = HTTPField.Name(name) { fields[name] = value }
    }
    if headers["Transfer-Encoding"] != nil {
      // A response with a transfer coding has no Content-Length.
      return Response(
        status: .init(code: status), headers: fields,
        body: ResponseBody { writer in
          try await writer.write(ByteBuffer(bytes: body))
          try await writer.finish(nil)
        })
    }
    return Response(
      status: .init(code: status), headers: fields,
      body: status == 204 ? .init() : .init(byteBuffer: ByteBuffer(bytes: body)))
  }
}

/// Texts that `next()` returns one after another. After the last text, it returns an empty text.
final class TextSequence: Sendable {
  private let rest: Mutex<[String]>

  init(_ texts: [String]) {
    rest = Mutex(texts)
  }

  func next() -> String {
    rest.withLock { $0.isEmpty ? "" : $0.removeFirst() }
  }
}

/// Serves a router on a free port until `body` returns. `body` gets the base URL.
func servingLoopback<R: Sendable>(
  _ router: Router<BasicRequestContext>, _ body: @escaping @Sendable (String) async throws -> R
) async throws -> R {
  let (ports, announce) = AsyncStream.makeStream(of: Int.self)
  let application = Application(
    router: router, configuration: .init(address: .hostname("127.0.0.1", port: 0)),
    onServerRunning: { channel in announce.yield(channel.localAddress?.port ?? 0) },
    logger: Logger(label: "scripted") { _ in SwiftLogNoOpLogHandler() })
  return try await withThrowingTaskGroup(of: R?.self) { group in
    group.addTask {
      try await application.run()
      return nil
    }
    group.addTask {
      for await port in ports { return try await body("http://127.0.0.1:\(port)") }
      return nil
    }
    defer { group.cancelAll() }
    while let value = try await group.next() {
      if let value { return value }
    }
    throw CancellationError()
  }
}
