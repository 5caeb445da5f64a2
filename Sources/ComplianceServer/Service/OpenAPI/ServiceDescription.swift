internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// What this server serves, in OpenAPI 3.1, for tools that check it, mock it or make clients of it.
///
/// It is true of this server as it was configured: one without a rate limit, for example, promises no
/// headers about it. What a plan of faults does is not in it.
struct ServiceDescription: Sendable {
  /// What of the configuration shows.
  struct Subject: Sendable {
    let profile: WireProfile
    let hasRateLimit: Bool
    let uploadBytesMax: Int
    let storageUploadBytesMax: Int
    /// Whether the operator's pages ask for the admin token.
    let operatorsNeedToken: Bool
    /// Asked for each answer, since an ephemeral port is known only once the server listens.
    let baseURL: @Sendable () -> String
    /// Nil if no bytes of the gcs profile are served.
    let storageURL: (@Sendable () -> String)?
  }

  let subject: Subject

  static let path = "/2/openapi.json"

  var response: Response {
    Response(
      status: .ok, headers: [.contentType: "application/json; charset=utf-8"],
      body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
  }

  /// The whole document, in JSON.
  var text: String {
    let paths = apiPaths + operatorPaths + (subject.storageURL.map { storagePaths($0()) } ?? [])
    return #"""
      {
        "openapi": "3.1.0",
        "info": {
          "title": "compliance-server",
          "version": "2.168",
          "description": "Asks a platform what became of posts and users: create a job, upload IDs, wait until it is complete, download what has to be done about them. An ID that the result does not name is clean."
        },
        "servers": [{"url": \#(Self.quoted(subject.baseURL()))}],
        "tags": [
          {"name": "jobs", "description": "Jobs: one that is created or in_progress for each type and App."},
          {"name": "bytes", "description": "A job's bytes, through the URLs that the job names."},
          {"name": "operation", "description": "For whoever runs the server."}
        ],
        "paths": {\#(paths.joined(separator: ","))},
        "components": \#(components)
      }
      """#
  }

  // MARK: Parts that many operations have

  /// Refusals, by their status. They can meet any operation before its handler sees the request.
  static let everywhere: [Problem.Kind] = [
    .invalidRequest, .requestTimeout, .headerFieldsTooLarge, .internalError, .serviceUnavailable,
  ]

  /// - Parameter refusals: besides those that can meet any operation.
  func responses(_ successes: [String], _ refusals: [Problem.Kind]) -> String {
    // One that has a body of its own is described already.
    let others = (refusals + Self.everywhere).filter { kind in
      !successes.contains { $0.hasPrefix("\"\(kind.status.code)\"") }
    }
    let references = others.map {
      Self.member("\($0.status.code)", "responses/\($0.rawValue)")
    }
    return "{\((successes + references).joined(separator: ", "))}"
  }

  /// The members of a header's object that names `api-version`, and the rate headers of an App's call.
  /// - Parameter alwaysOfApp: the answer only ever comes after the App was admitted.
  func headers(alwaysOfApp: Bool, _ others: [String] = []) -> String {
    var names = [Self.header("api-version")]
    if subject.hasRateLimit, alwaysOfApp { names += Self.rateHeaders.map(Self.header) }
    return #""headers": {\#((names + others).joined(separator: ", "))}"#
  }

  static let rateHeaders = ["x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"]

  /// A member that stands for a component, such as `schemas/Job`.
  static func member(_ name: String, _ component: String) -> String {
    ##""\##(name)": {"$ref": "#/components/\##(component)"}"##
  }

  static func header(_ name: String) -> String { member(name, "headers/\(name)") }

  /// A string in JSON.
  static func quoted(_ text: String) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    return (try? encoder.encode(text)).map { String(decoding: $0, as: UTF8.self) } ?? "\"\""
  }

  static func words(_ words: [String]) -> String {
    "[\(words.map { "\"\($0)\"" }.joined(separator: ", "))]"
  }
}
