internal import HTTPTypes
internal import Hummingbird
internal import Logging
internal import PostgreSQL

/// Converts the errors of handlers into problem responses, except `ConnectionCut`. Otherwise an unexpected error would
/// be a 500 without a body.
struct ProblemMiddleware: RouterMiddleware {
  typealias Context = ServiceContext

  let logger: Logger
  let methods: PathMethods

  func handle(
    _ request: Request, context: Context, next: (Request, Context) async throws -> Response
  ) async throws -> Response {
    let response: Response
    do {
      response = try await next(request, context)
    } catch let cut as ConnectionCut {
      throw cut
    } catch {
      response = problem(for: error, of: request).response
    }
    // A response to HEAD must have no body, because a client would read it as the beginning of the next response.
    return request.method == .head ? response.createHeadResponse() : response
  }

  private func problem(for error: any Error, of request: Request) -> Problem {
    switch error {
    case let problem as Problem:
      return problem
    case let error as HTTPError where error.status == .notFound:
      let allowed = methods.allowed(at: request.uri.path)
      guard allowed.isEmpty else {
        return Problem(
          kind: .methodNotAllowed, detail: "\(request.method) is not allowed here.",
          allowedMethods: allowed)
      }
      return Problem(kind: .notFound, detail: "The path \(request.uri.path) does not exist.")
    case let error as PostgreSQLError where error.isTemporary:
      logger.warning("the database is not available", metadata: ["error": "\(error)"])
      return Problem(
        kind: .serviceUnavailable,
        detail: "The service's database is not available. Try again soon.")
    case let error where error.isStorageFull:
      logger.error("the storage is full", metadata: ["error": "\(error)"])
      return Problem(
        kind: .serviceUnavailable, detail: "The service has no space left to store the upload.")
    default:
      logger.error(
        "\(request.method) \(request.uri.path) failed", metadata: ["error": "\(error)"])
      return Problem(
        kind: .internalError, detail: "Internal error. The service's log has the details.")
    }
  }
}
