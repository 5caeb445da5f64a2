internal import HTTPTypes
internal import Hummingbird
internal import Logging
internal import PostgreSQL

/// Turns whatever a handler throws into a problem, so that no answer is ever an empty 500.
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
    // What follows the head of such an answer would be taken for the begin of the next one.
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
      return Problem(kind: .notFound, detail: "There is nothing at \(request.uri.path).")
    case let error as PostgreSQLError where error.isTemporary:
      logger.warning("the database is away", metadata: ["error": "\(error)"])
      return Problem(
        kind: .serviceUnavailable, detail: "The service's database is away. Try again soon.")
    case let error where error.isLackOfRoom:
      logger.error("no room", metadata: ["error": "\(error)"])
      return Problem(kind: .serviceUnavailable, detail: "There is no room to store the upload.")
    default:
      logger.error(
        "\(request.method) \(request.uri.path) failed", metadata: ["error": "\(error)"])
      return Problem(kind: .internalError, detail: "The service failed to answer; see its log.")
    }
  }
}
