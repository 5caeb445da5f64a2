internal import HTTPTypes
internal import Hummingbird

/// Every endpoint of the API's host, and its handler.
struct Routes: Sendable {
  let apps: Apps
  let rateLimits: RateLimits?
  let jobs: JobEndpoints
  let bytes: ByteEndpoints
  let pages: OperatorPages
  let description: ServiceDescription
  let profile: WireProfile
  let faults: FaultInjector?

  private typealias Handler = @Sendable (Call) async throws -> Response
  private typealias JobHandler = @Sendable (Call, _ id: Int64) async throws -> Response

  /// All routes.
  var all: [Route] {
    let job = "/2/compliance/jobs/{id}"
    var routes = [
      on(.get, "/2/compliance/jobs", .list, jobs.list),
      on(.post, "/2/compliance/jobs", .create, jobs.create),
      onJob(.get, job, .get, jobs.show),
      onJob(.put, "\(job)/upload", .upload, bytes.upload),
      onJob(.get, "\(job)/download", .download, bytes.download),
      onJob(.head, "\(job)/download", .download, bytes.download),
    ]
    routes += [HTTPRequest.Method.get, .head].map { method in
      Route(method, ServiceDescription.path) { [description] _, context in
        context.exchange.note { $0.endpoint = .openapi }
        return description.response
      }
    }
    // The gcs profile has no cancel endpoint, because the API had none while it used Google Cloud Storage.
    if profile == .native { routes.append(onJob(.delete, job, .cancel, jobs.cancel)) }
    for page in OperatorPages.Page.allCases {
      routes += [HTTPRequest.Method.get, .head].map { method in
        Route(method, page.path) { [pages] request, context in
          context.exchange.note { $0.endpoint = page.endpoint }
          return try await pages.show(page, request)
        }
      }
    }
    return routes
  }

  private func on(
    _ method: HTTPRequest.Method, _ path: String, _ endpoint: Endpoint,
    _ handler: @escaping Handler
  ) -> Route {
    Route(method, path) { request, context in
      context.exchange.note { $0.endpoint = endpoint }
      let call = try admit(request, to: endpoint, context.exchange)
      return try await faults.respond(endpoint, context.exchange) { try await handler(call) }
    }
  }

  private func onJob(
    _ method: HTTPRequest.Method, _ path: String, _ endpoint: Endpoint,
    _ handler: @escaping JobHandler
  ) -> Route {
    Route(method, path) { request, context in
      context.exchange.note { $0.endpoint = endpoint }
      let call = try admit(request, to: endpoint, context.exchange)
      let id = try Self.jobID(context.parameters)
      context.exchange.note { $0.jobID = id }
      return try await faults.respond(endpoint, context.exchange) { try await handler(call, id) }
    }
  }

  /// Authenticates a request and counts it for the rate limit.
  /// - Throws: a 401 problem without a valid token; 429 if the App has reached the rate limit.
  private func admit(
    _ request: Request, to endpoint: Endpoint, _ exchange: Exchange
  ) throws -> Call {
    let app = try apps.authenticate(request)
    exchange.note { $0.app = app }
    if let quota = rateLimits?.count(endpoint, of: app) {
      exchange.note { $0.rateLimit = quota }
      guard !quota.isExceeded else { throw Problem.tooManyRequests }
    }
    return Call(request: request, app: app, exchange: exchange)
  }

  /// Parses the job ID in the path.
  /// - Throws: a 400 problem if the ID is not 1 to 19 digits; 404 if no job can have that ID.
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
