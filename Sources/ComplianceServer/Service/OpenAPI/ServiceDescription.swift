internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// The OpenAPI 3.1 description of this server, for tools that test it, mock it or generate clients.
///
/// The description depends on the configuration. For example, it contains no rate limit headers for a server without a
/// rate limit. It does not contain injected faults.
struct ServiceDescription: Sendable {
  /// The settings that the description depends on.
  struct Options: Sendable {
    let profile: WireProfile
    let hasRateLimit: Bool
    let uploadBytesMax: Int
    let storageUploadBytesMax: Int
    /// Whether the operator's pages require the admin token.
    let operatorsNeedToken: Bool
    /// Called for each response, because a port that the system chooses is known only after the server listens.
    let baseURL: @Sendable () -> String
    /// Nil if the server has no storage host.
    let storageURL: (@Sendable () -> String)?
  }

  let options: Options

  static let path = "/2/openapi.json"

  var response: Response {
    Response(
      status: .ok, headers: [.contentType: "application/json; charset=utf-8"],
      body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
  }

  /// The whole document, in JSON.
  var text: String {
    let paths = apiPaths + operatorPaths + (options.storageURL.map { storagePaths($0()) } ?? [])
    return #"""
      {
        "openapi": "3.1.0",
        "info": {
          "title": "compliance-server",
          "version": "2.168",
          "description": "Checks the compliance state of posts and users: create a job, upload IDs, wait until the job is complete, download the result. The result has a line for each ID that requires action. An ID without a line requires none."
        },
        "servers": [{"url": \#(Self.quoted(options.baseURL()))}],
        "tags": [
          {"name": "jobs", "description": "Jobs. For each type, each App can have one job with the status created or in_progress."},
          {"name": "bytes", "description": "Uploads and downloads, at the URLs in the job."},
          {"name": "operation", "description": "For operators of the server."}
        ],
        "paths": {\#(paths.joined(separator: ","))},
        "components": \#(components)
      }
      """#
  }

  // MARK: Shared parts

  /// The problems that every operation can return: for a malformed or slow request, and for a failure of the server.
  static let commonProblems: [Problem.Kind] = [
    .invalidRequest, .requestTimeout, .headerFieldsTooLarge, .internalError, .serviceUnavailable,
  ]

  /// Returns the value of an operation's `responses` member.
  /// - Parameter refusals: further problems, in addition to `commonProblems`.
  func responses(_ successes: [String], _ refusals: [Problem.Kind]) -> String {
    // A status with a special body is already in `successes`.
    let others = (refusals + Self.commonProblems).filter { kind in
      !successes.contains { $0.hasPrefix("\"\(kind.status.code)\"") }
    }
    let references = others.map {
      Self.member("\($0.status.code)", "responses/\($0.rawValue)")
    }
    return "{\((successes + references).joined(separator: ", "))}"
  }

  /// Returns the `headers` member: `api-version`, and the rate limit headers for an authenticated App.
  /// - Parameter isAuthenticated: whether only an authenticated App can get this response.
  func headers(isAuthenticated: Bool, _ others: [String] = []) -> String {
    var names = [Self.header("api-version")]
    if options.hasRateLimit, isAuthenticated { names += Self.rateHeaders.map(Self.header) }
    return #""headers": {\#((names + others).joined(separator: ", "))}"#
  }

  static let rateHeaders = ["x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"]

  /// Returns a member that refers to a component, such as `schemas/Job`.
  static func member(_ name: String, _ component: String) -> String {
    ##""\##(name)": {"$ref": "#/components/\##(component)"}"##
  }

  static func header(_ name: String) -> String { member(name, "headers/\(name)") }

  /// Returns the text as a JSON string.
  static func quoted(_ text: String) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    return (try? encoder.encode(text)).map { String(decoding: $0, as: UTF8.self) } ?? "\"\""
  }

  static func jsonArray(_ words: [String]) -> String {
    "[\(words.map { "\"\($0)\"" }.joined(separator: ", "))]"
  }
}
