internal import HTTPTypes
internal import Hummingbird
internal import NIOCore
internal import PostgreSQL

/// An error response of the storage host, in the XML format of Google Cloud Storage.
///
/// Source: Google Cloud Storage's documentation, "HTTP status and error codes for XML".
struct StorageProblem: Error {
  enum Code: String {
    case accessDenied = "AccessDenied"
    case authorizationQueryError = "AuthorizationQueryParametersError"
    case badDigest = "BadDigest"
    case entityTooLarge = "EntityTooLarge"
    case expiredToken = "ExpiredToken"
    case incompleteBody = "IncompleteBody"
    case internalError = "InternalError"
    case invalidArgument = "InvalidArgument"
    case missingContentLength = "MissingContentLength"
    case methodNotAllowed = "MethodNotAllowed"
    case requestTimeout = "RequestTimeout"
    case headersTooLarge = "RequestHeaderSectionTooLarge"
    case noSuchKey = "NoSuchKey"
    case noSuchUpload = "NoSuchUpload"
    case sessionGone = "UploadSessionGone"
    case serviceUnavailable = "ServiceUnavailable"
    case signatureDoesNotMatch = "SignatureDoesNotMatch"

    var status: HTTPResponse.Status {
      switch self {
      case .accessDenied, .signatureDoesNotMatch: .forbidden
      case .authorizationQueryError, .badDigest, .entityTooLarge, .expiredToken, .incompleteBody,
        .invalidArgument:
        .badRequest
      case .internalError: .internalServerError
      case .requestTimeout: .requestTimeout
      case .headersTooLarge: .requestHeaderFieldsTooLarge
      case .missingContentLength: .lengthRequired
      case .methodNotAllowed: .methodNotAllowed
      case .noSuchKey, .noSuchUpload: .notFound
      case .sessionGone: .gone
      case .serviceUnavailable: .serviceUnavailable
      }
    }
  }

  let code: Code
  let detail: String
  var allowedMethods: [HTTPRequest.Method] = []

  init(_ code: Code, _ detail: String) {
    self.code = code
    self.detail = detail
  }

  var response: Response { plainResponse.response }

  var plainResponse: PlainResponse {
    func escaped(_ text: String) -> String {
      text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
    }
    let xml = """
      <?xml version='1.0' encoding='UTF-8'?><Error><Code>\(code.rawValue)</Code>\
      <Message>\(escaped(detail))</Message></Error>
      """
    var headers: HTTPFields = [.contentType: "application/xml; charset=UTF-8"]
    if !allowedMethods.isEmpty {
      headers[.allow] = allowedMethods.map(\.rawValue).joined(separator: ", ")
    }
    return PlainResponse(status: code.status, headers: headers, bytes: ByteBuffer(string: xml))
  }
}

/// Converts the errors of handlers on the storage host into XML responses, except `CancellationError` and
/// `ConnectionCut`.
struct StorageProblemMiddleware: RouterMiddleware {
  typealias Context = ServiceContext

  let methods: PathMethods
  let log: @Sendable (any Error) -> Void

  func handle(
    _ request: Request, context: ServiceContext,
    next: (Request, ServiceContext) async throws -> Response
  ) async throws -> Response {
    let response: Response
    do {
      response = try await next(request, context)
    } catch let error where error is CancellationError || error is ConnectionCut {
      throw error
    } catch {
      response = problem(for: error, of: request).response
    }
    // A response to HEAD must have no body, because a client would read it as the beginning of the next response.
    return request.method == .head ? response.createHeadResponse() : response
  }

  private func problem(for error: any Error, of request: Request) -> StorageProblem {
    switch error {
    case let problem as StorageProblem: return problem
    case let problem as Problem: return Self.converted(problem)
    case let error as HTTPError where error.status == .notFound:
      let allowed = methods.allowed(at: request.uri.path)
      guard allowed.isEmpty else {
        var problem = StorageProblem(
          .methodNotAllowed, "The specified method is not allowed here.")
        problem.allowedMethods = allowed
        return problem
      }
      return StorageProblem(.noSuchKey, "The specified key does not exist.")
    case let error as PostgreSQLError where error.isTemporary:
      log(error)
      return StorageProblem(
        .serviceUnavailable, "The service's database is not available. Try again soon.")
    default:
      log(error)
      return error.isStorageFull
        ? StorageProblem(.serviceUnavailable, "The service has no space left to store the object.")
        : StorageProblem(.internalError, "We encountered an internal error. Please try again.")
    }
  }

  /// Converts a problem of code that both hosts share.
  static func converted(_ problem: Problem) -> StorageProblem {
    switch problem.kind {
    case .payloadTooLarge: StorageProblem(.entityTooLarge, problem.detail)
    case .resourceNotFound, .notFound: StorageProblem(.noSuchKey, problem.detail)
    case .invalidRequest:
      StorageProblem(problem.parameter == nil ? .incompleteBody : .invalidArgument, problem.detail)
    case .requestTimeout: StorageProblem(.requestTimeout, problem.detail)
    case .headerFieldsTooLarge: StorageProblem(.headersTooLarge, problem.detail)
    case .methodNotAllowed: StorageProblem(.methodNotAllowed, problem.detail)
    case .serviceUnavailable, .tooManyRequests: StorageProblem(.serviceUnavailable, problem.detail)
    case .unauthorized, .notAuthorizedForResource, .conflict, .unsupportedMediaType:
      StorageProblem(.accessDenied, problem.detail)
    case .internalError: StorageProblem(.internalError, problem.detail)
    }
  }
}
