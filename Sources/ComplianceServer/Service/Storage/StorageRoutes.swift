internal import HTTPTypes
internal import Hummingbird

/// Every path of the storage host, and its handler.
struct StorageRoutes: Sendable {
  let endpoints: StorageEndpoints
  let faults: FaultInjector?

  private typealias Handler = @Sendable (Request, Int64, Exchange) async throws -> Response

  /// All routes.
  var all: [Route] {
    let submission = "/\(StorageURLs.bucket)/submission/{id}"
    let result = "/\(StorageURLs.bucket)/results/{id}"
    return [
      on(.put, submission, .upload) { [endpoints] request, id, exchange in
        if let session = request.uri.queryParameters["upload_id"] {
          return try await endpoints.part(request, id, session: String(session), exchange)
        }
        return try await endpoints.upload(request, id, exchange)
      },
      on(.post, submission, .session, endpoints.beginSession),
      on(.delete, submission, .session) { [endpoints] request, id, _ in
        guard let session = request.uri.queryParameters["upload_id"] else {
          throw StorageProblem(.accessDenied, "Only an upload session can be cancelled.")
        }
        return try await endpoints.cancelSession(request, id, session: String(session))
      },
      on(.get, result, .download, endpoints.download),
      on(.head, result, .download, endpoints.download),
    ]
  }

  private func on(
    _ method: HTTPRequest.Method, _ path: String, _ endpoint: Endpoint,
    _ handler: @escaping Handler
  ) -> Route {
    Route(method, path) { request, context in
      context.exchange.note { $0.endpoint = endpoint }
      guard let text = context.parameters.get("id"), text.utf8.allSatisfy({ $0 &- 0x30 < 10 }),
        let id = Int64(text)
      else { throw StorageProblem(.noSuchKey, "The specified key does not exist.") }
      context.exchange.note { $0.jobID = id }
      return try await faults.respond(endpoint, context.exchange) {
        try await handler(request, id, context.exchange)
      }
    }
  }
}
