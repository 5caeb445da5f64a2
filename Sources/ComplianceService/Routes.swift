internal import HTTPTypes
internal import Hummingbird

/// Every endpoint, and what answers it.
struct Routes: Sendable {
  let apps: Apps
  let jobs: JobEndpoints
  let bytes: ByteEndpoints

  private typealias Handler = @Sendable (Request, AppID, _ id: Int64) async throws -> Response

  func add(to router: Router<BasicRequestContext>) {
    router.get("/2/compliance/jobs") { request, _ in
      try await jobs.list(request, try apps.authenticate(request))
    }
    router.post("/2/compliance/jobs") { request, _ in
      try await jobs.create(request, try apps.authenticate(request))
    }
    on(router, .get, "/2/compliance/jobs/{id}", jobs.show)
    on(router, .delete, "/2/compliance/jobs/{id}", jobs.cancel)
    on(router, .put, "/2/compliance/jobs/{id}/upload", bytes.upload)
    on(router, .get, "/2/compliance/jobs/{id}/download", bytes.download)

    refuseOthers(router, "/2/compliance/jobs", than: [.get, .post])
    refuseOthers(router, "/2/compliance/jobs/{id}", than: [.get, .delete])
    refuseOthers(router, "/2/compliance/jobs/{id}/upload", than: [.put])
    refuseOthers(router, "/2/compliance/jobs/{id}/download", than: [.get])
  }

  private func on(
    _ router: Router<BasicRequestContext>, _ method: HTTPRequest.Method, _ path: RouterPath,
    _ handler: @escaping Handler
  ) {
    router.on(path, method: method) { request, context in
      let app = try apps.authenticate(request)
      return try await handler(request, app, try Self.jobID(context.parameters))
    }
  }

  private func refuseOthers(
    _ router: Router<BasicRequestContext>, _ path: RouterPath, than allowed: [HTTPRequest.Method]
  ) {
    let methods: [HTTPRequest.Method] = [.get, .head, .post, .put, .patch, .delete, .options]
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
