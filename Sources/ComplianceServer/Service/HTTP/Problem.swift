internal import HTTPTypes
internal import Hummingbird

/// An error response: RFC 7807, in the form that the X API uses.
struct Problem: Error {
  enum Kind: String, CaseIterable {
    case invalidRequest = "invalid-request"
    case unauthorized
    case notAuthorizedForResource = "not-authorized-for-resource"
    case resourceNotFound = "resource-not-found"
    case notFound = "not-found"
    case methodNotAllowed = "method-not-allowed"
    case conflict
    case payloadTooLarge = "payload-too-large"
    case unsupportedMediaType = "unsupported-media-type"
    case requestTimeout = "request-timeout"
    case headerFieldsTooLarge = "header-fields-too-large"
    case tooManyRequests = "too-many-requests"
    case internalError = "internal-error"
    case serviceUnavailable = "service-unavailable"
  }

  let kind: Kind
  let detail: String
  /// The wrong parameter of the request, and its value.
  var parameter: String?
  var value: String?
  var jobID: String?
  var allowedMethods: [HTTPRequest.Method] = []
  /// How to authenticate, for a 401.
  var challenge = "Bearer"
}

extension Problem {
  static func invalid(_ parameter: String?, _ value: String? = nil, _ detail: String) -> Problem {
    Problem(kind: .invalidRequest, detail: detail, parameter: parameter, value: value)
  }

  static func unknownJob(_ id: String) -> Problem {
    Problem(
      kind: .resourceNotFound, detail: "Could not find compliance job with id: [\(id)].",
      parameter: "id", value: id, jobID: id)
  }

  static func forbidden(_ jobID: Int64, _ detail: String) -> Problem {
    Problem(kind: .notAuthorizedForResource, detail: detail, jobID: String(jobID))
  }

  /// A body that is too large.
  /// - Parameter advice: the last sentence of the message. It helps the client to avoid the problem.
  static func tooLarge(
    _ bytesMax: Int, _ advice: String = "Split a large upload into several jobs."
  ) -> Problem {
    Problem(
      kind: .payloadTooLarge, detail: "The body is larger than \(bytesMax) bytes. \(advice)")
  }

  static var tooManyRequests: Problem {
    Problem(
      kind: .tooManyRequests,
      detail: "The App called this endpoint too often. Wait until the time in x-rate-limit-reset.")
  }

  /// The client sends its body too slowly.
  static var tooSlow: Problem {
    Problem(kind: .requestTimeout, detail: "The body arrived too slowly.")
  }

  static var incompleteBody: Problem {
    .invalid(nil, nil, "The body ended too early.")
  }

  static func conflict(_ detail: String) -> Problem {
    Problem(kind: .conflict, detail: detail)
  }
}

extension Problem.Kind {
  var status: HTTPResponse.Status {
    switch self {
    case .invalidRequest: .badRequest
    case .unauthorized: .unauthorized
    case .notAuthorizedForResource: .forbidden
    case .resourceNotFound, .notFound: .notFound
    case .methodNotAllowed: .methodNotAllowed
    case .conflict: .conflict
    case .payloadTooLarge: .contentTooLarge
    case .unsupportedMediaType: .unsupportedMediaType
    case .requestTimeout: .requestTimeout
    case .headerFieldsTooLarge: .requestHeaderFieldsTooLarge
    case .tooManyRequests: .tooManyRequests
    case .internalError: .internalServerError
    case .serviceUnavailable: .serviceUnavailable
    }
  }

  /// The type of the problem. Clients distinguish problems by this value.
  var type: String { "https://api.x.com/2/problems/\(rawValue)" }

  var title: String {
    switch self {
    case .invalidRequest: "Invalid Request"
    case .unauthorized: "Unauthorized"
    case .notAuthorizedForResource: "Forbidden"
    case .resourceNotFound: "Not Found Error"
    case .notFound: "Not Found"
    case .methodNotAllowed: "Method Not Allowed"
    case .conflict: "Conflict"
    case .payloadTooLarge: "Payload Too Large"
    case .unsupportedMediaType: "Unsupported Media Type"
    case .requestTimeout: "Request Timeout"
    case .headerFieldsTooLarge: "Request Header Fields Too Large"
    case .tooManyRequests: "Too Many Requests"
    case .internalError: "Internal Error"
    case .serviceUnavailable: "Service Unavailable"
    }
  }
}

extension Problem {
  /// The JSON of a problem. It has only members that the published schema defines for the kind.
  private struct Body: Encodable {
    let type: String
    let title: String
    let detail: String
    let status: Int
    let parameter: String?
    let value: String?
    let resource_type: String?
    let resource_id: String?
    /// The X API also reports each wrong parameter in this list.
    let errors: [Mistake]?
  }

  private struct Mistake: Encodable {
    let parameters: [String: [String]]
    let message: String
  }

  var response: Response { plainResponse.response }

  var plainResponse: PlainResponse {
    let body = Body(
      type: kind.type, title: kind.title, detail: detail,
      status: kind.status.code, parameter: parameter, value: value,
      resource_type: jobID.map { _ in "compliance_job" }, resource_id: jobID,
      errors: kind == .invalidRequest ? [mistake] : nil)
    var response = PlainResponse.json(
      body, status: kind.status, mediaType: "application/problem+json")
    switch kind {
    case .unauthorized: response.headers[.wwwAuthenticate] = challenge
    case .serviceUnavailable: response.headers[.retryAfter] = "1"
    case .methodNotAllowed:
      response.headers[.allow] = allowedMethods.map(\.rawValue).joined(separator: ", ")
    case .invalidRequest, .notAuthorizedForResource, .resourceNotFound, .notFound, .conflict,
      .payloadTooLarge, .unsupportedMediaType, .requestTimeout, .headerFieldsTooLarge,
      .tooManyRequests, .internalError:
      break
    }
    return response
  }

  private var mistake: Mistake {
    Mistake(parameters: parameter.map { [$0: value.map { [$0] } ?? []] } ?? [:], message: detail)
  }
}
