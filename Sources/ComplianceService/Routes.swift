internal import HTTPTypes
internal import Hummingbird

/// Every endpoint of the API's host, and what answers it.
struct Routes: Sendable {
  let apps: Apps
  let rateLimits: RateLimits?
  let jobs: JobEndpoints
  let bytes: ByteEndpoints
  let pages: OperatorPages
  let profile: WireProfile
  let faults: FaultInjector?

  private typealias Handler = @Sendable (Call) async throws -> Response
  private typealias JobHandler = @Sendable (Call, _ id: Int64) async throws -> Response

  private static let collection: RouterPath = "/2/compliance/jobs"
  private static let job: RouterPath = "/2/compliance/jobs/{id}"
  private static let upload: RouterPath = "/2/compliance/jobs/{id}/upload"
  private static let download: RouterPath = "/2/compliance/jobs/{id}/download"

  func add(to router: Router<ServiceContext>) {
    on(router, .get, Self.collection, .list, jobs.list)
    on(router, .post, Self.collection, .create, jobs.create)
    onJob(router, .get, Self.job, .get, jobs.show)
    onJob(router, .put, Self.upload, .upload, bytes.upload)
    onJob(router, .get, Self.download, .download, bytes.download)
    onJob(router, .head, Self.download, .download, bytes.download)
    // The API had no cancel while its bytes lay in Google Cloud Storage.
    if profile == .native { onJob(router, .delete, Self.job, .cancel, jobs.cancel) }

    refuseOthers(router, Self.collection, than: [.get, .post])
    refuseOthers(router, Self.job, than: profile == .native ? [.get, .delete] : [.get])
    refuseOthers(router, Self.upload, than: [.put])
    refuseOthers(router, Self.download, than: [.get, .head])

    for page in OperatorPages.Page.allCases {
      router.get(RouterPath(page.path)) { request, context in
        context.exchange.note { $0.endpoint = page.endpoint }
        return try await pages.show(page, request)
      }
      refuseOthers(router, RouterPath(page.path), than: [.get])
    }
  }

  private func on(
    _ router: Router<ServiceContext>, _ method: HTTPRequest.Method, _ path: RouterPath,
    _ endpoint: Endpoint, _ handler: @escaping Handler
  ) {
    router.on(path, method: method) { request, context in
      context.exchange.note { $0.endpoint = endpoint }
      let call = try admit(request, to: endpoint, context.exchange)
      return try await faults.answer(endpoint, context.exchange) { try await handler(call) }
    }
  }

  private func onJob(
    _ router: Router<ServiceContext>, _ method: HTTPRequest.Method, _ path: RouterPath,
    _ endpoint: Endpoint, _ handler: @escaping JobHandler
  ) {
    router.on(path, method: method) { request, context in
      context.exchange.note { $0.endpoint = endpoint }
      let call = try admit(request, to: endpoint, context.exchange)
      let id = try Self.jobID(context.parameters)
      context.exchange.note { $0.jobID = id }
      return try await faults.answer(endpoint, context.exchange) { try await handler(call, id) }
    }
  }

  /// - Throws: a 401 problem without a token of an App, 429 if the App called too often.
  private func admit(
    _ request: Request, to endpoint: Endpoint, _ exchange: Exchange
  ) throws -> Call {
    let app = try apps.authenticate(request)
    exchange.note { $0.app = app }
    if let standing = rateLimits?.count(endpoint, of: app) {
      exchange.note { $0.rateLimit = standing }
      guard !standing.isExceeded else { throw Problem.tooManyRequests }
    }
    return Call(request: request, app: app, exchange: exchange)
  }

  private func refuseOthers(
    _ router: Router<ServiceContext>, _ path: RouterPath, than allowed: [HTTPRequest.Method]
  ) {
    let methods: [HTTPRequest.Method] = [
      .get, .head, .post, .put, .patch, .delete, .options, .trace, .connect,
    ]
    for method in methods where !allowed.contains(method) {
      router.on(path, method: method) { _, _ -> Response in
        throw Problem(
          kind: .methodNotAllowed, detail: "\(method) is not allowed here.",
          allowedMethods: allowed)
      }
    }
  }

  /// - Throws: a 400 problem if it is not 1 to 19 digits; 404 if no job can have that ID.
  private static func jobID(_ parameters: Parameters) throws -> Int64 {
    let text = parameters.get("id") ?? ""
    guard (1...19).contains(text.utf8.count),
      text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
    else {
      throw Problem.invalid(
        "id", text, "The `id` path parameter value [\(text)] does not match ^[0-9]{1,19}$")
    }
    guard let id = Int64(text) else { throw Problem.unknownJob(text) }
    return id
  }
}
