internal import HTTPTypes
internal import Hummingbird

/// Every path of the storage host, and what answers it.
struct StorageRoutes: Sendable {
  let endpoints: StorageEndpoints
  let faults: FaultInjector?

  private typealias Handler = @Sendable (Request, Int64, Exchange) async throws -> Response

  func add(to router: Router<ServiceContext>) {
    let submission = RouterPath("/\(StorageURLs.bucket)/submission/{id}")
    let result = RouterPath("/\(StorageURLs.bucket)/results/{id}")
    on(router, .put, submission, .upload) { request, id, exchange in
      if let session = request.uri.queryParameters["upload_id"] {
        return try await endpoints.part(request, id, session: String(session), exchange)
      }
      return try await endpoints.upload(request, id, exchange)
    }
    on(router, .post, submission, .session, endpoints.beginSession)
    on(router, .delete, submission, .session) { request, id, _ in
      guard let session = request.uri.queryParameters["upload_id"] else {
        throw StorageProblem(.accessDenied, "Only an upload session can be cancelled.")
      }
      return try await endpoints.cancelSession(request, id, session: String(session))
    }
    on(router, .get, result, .download, endpoints.download)
    on(router, .head, result, .download, endpoints.download)
    refuseOthers(router, submission, than: [.put, .post, .delete])
    refuseOthers(router, result, than: [.get, .head])
  }

  private func on(
    _ router: Router<ServiceContext>, _ method: HTTPRequest.Method, _ path: RouterPath,
    _ endpoint: Endpoint, _ handler: @escaping Handler
  ) {
    router.on(path, method: method) { request, context in
      context.exchange.note { $0.endpoint = endpoint }
      guard let text = context.parameters.get("id"), text.utf8.allSatisfy({ $0 &- 0x30 < 10 }),
        let id = Int64(text)
      else { throw StorageProblem(.noSuchKey, "The specified key does not exist.") }
      context.exchange.note { $0.jobID = id }
      return try await faults.answer(endpoint, context.exchange) {
        try await handler(request, id, context.exchange)
      }
    }
  }

  private func refuseOthers(
    _ router: Router<ServiceContext>, _ path: RouterPath, than allowed: [HTTPRequest.Method]
  ) {
    let methods: [HTTPRequest.Method] = [.get, .head, .post, .put, .patch, .delete, .options]
    for method in methods where !allowed.contains(method) {
      router.on(path, method: method) { _, _ -> Response in
        throw StorageProblem(.methodNotAllowed, "The specified method is not allowed here.")
      }
    }
  }
}
