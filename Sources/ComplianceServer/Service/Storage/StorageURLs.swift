internal import Checksums
internal import Foundation
internal import HTTPTypes
internal import Hummingbird

/// The URLs of the gcs profile. Google's V4 signature covers the method, the path, the query and the signed headers.
/// The URL is the only credential.
///
/// Source: Google Cloud Storage's documentation, "V4 signing process" and "Canonical requests".
struct StorageURLs: Sendable {
  private let secret: [UInt8]
  private let baseURL: @Sendable () -> String

  private static let algorithm = "GOOG4-HMAC-SHA256"
  private static let accessID = "GOOG1COMPLIANCE"
  private static let region = "auto"
  static let bucket = "compliance"

  /// - Parameter baseURL: called for each URL, because a port that the system chooses is known only after the server
  ///   listens.
  init(key: [UInt8], baseURL: @escaping @Sendable () -> String) {
    secret = Array("GOOG4\(key.hexString)".utf8)
    self.baseURL = baseURL
  }

  static func path(_ operation: SignedURLs.Operation, of jobID: Int64) -> String {
    switch operation {
    case .upload: "/\(bucket)/submission/\(jobID)"
    case .download: "/\(bucket)/results/\(jobID)"
    }
  }

  func url(to operation: SignedURLs.Operation, of job: Job) -> String {
    let base = baseURL()
    let path = Self.path(operation, of: job.id)
    // The signature does not cover the public URL's path, because a proxy removes that path.
    var headers = ["host": String(PublicURL.authority(of: base))]
    if operation == .upload {
      headers["content-type"] = "text/plain"
      if job.isResumable { headers["x-goog-resumable"] = "start" }
    }
    let expiry = operation == .upload ? job.uploadExpiresAt : job.downloadExpiresAt
    let date = Self.basicDate(job.createdAt)
    let query = Self.canonicalQuery([
      ("X-Goog-Algorithm", Self.algorithm),
      ("X-Goog-Credential", "\(Self.accessID)/\(Self.scope(date))"),
      ("X-Goog-Date", date),
      ("X-Goog-Expires", String(Self.seconds(from: job.createdAt, to: expiry))),
      ("X-Goog-SignedHeaders", headers.keys.sorted().joined(separator: ";")),
    ])
    let method: HTTPRequest.Method =
      switch operation {
      case .upload: job.isResumable ? .post : .put
      case .download: .get
      }
    let signature = signature(method, path, query, headers, date)
    return "\(base)\(path)?\(query)&X-Goog-Signature=\(signature)"
  }

  /// Checks that the request has a valid signature that has not expired.
  /// - Throws: `StorageProblem`.
  func require(_ request: Request, as method: HTTPRequest.Method) throws {
    guard request.headers[.authorization] == nil else {
      throw StorageProblem(
        .invalidArgument, "Use only one way to authenticate: the signed URL, or a header.")
    }
    let parameters = request.uri.queryParameters.map { (String($0.key), String($0.value)) }
    let values = Dictionary(parameters, uniquingKeysWith: { first, _ in first })
    guard let presented = values["X-Goog-Signature"] else {
      throw StorageProblem(.accessDenied, "Anonymous callers have no access. Use a signed URL.")
    }
    guard values.count == parameters.count, values["X-Goog-Algorithm"] == Self.algorithm,
      let date = values["X-Goog-Date"], let signed = values["X-Goog-SignedHeaders"],
      values["X-Goog-Credential"] == "\(Self.accessID)/\(Self.scope(date))",
      let lifetime = values["X-Goog-Expires"].flatMap({ Int($0) }), (0...604_800).contains(lifetime)
    else {
      throw StorageProblem(
        .authorizationQueryError, "The query parameters of the signature are wrong.")
    }
    var headers: [String: String] = [:]
    for name in signed.split(separator: ";") {
      headers[String(name)] = Self.value(of: name, in: request)
    }
    let query = Self.canonicalQuery(parameters.filter { $0.0 != "X-Goog-Signature" })
    let expected = signature(method, request.uri.path, query, headers, date)
    guard headers["host"] != nil,
      constantTimeEqual(Array(presented.utf8), Array(expected.utf8))
    else {
      throw StorageProblem(
        .signatureDoesNotMatch,
        "The signature does not match this request. The method, the path, the query and the headers \(signed) "
          + "must be the same as in the signed URL.")
    }
    guard let began = Self.time(date), Date.now < began.addingTimeInterval(Double(lifetime)) else {
      throw StorageProblem(.expiredToken, "The signed URL has expired.")
    }
  }

  // MARK: Signing

  private func signature(
    _ method: HTTPRequest.Method, _ path: String, _ query: String, _ headers: [String: String],
    _ date: String
  ) -> String {
    let names = headers.keys.sorted()
    let canonical =
      [method.rawValue, path, query] + names.map { "\($0):\(headers[$0] ?? "")" }
      + ["", names.joined(separator: ";"), "UNSIGNED-PAYLOAD"]
    let text = [
      Self.algorithm, date, Self.scope(date),
      SHA256.hash(canonical.joined(separator: "\n")).hexString,
    ].joined(separator: "\n")
    let key = [String(date.prefix(8)), Self.region, "storage", "goog4_request"]
      .reduce(secret) { HMACSHA256(key: $0).code(for: Array($1.utf8)) }
    return HMACSHA256(key: key).code(for: Array(text.utf8)).hexString
  }

  private static func scope(_ date: String) -> String {
    "\(date.prefix(8))/\(region)/storage/goog4_request"
  }

  private static func canonicalQuery(_ parameters: [(String, String)]) -> String {
    parameters.map { "\(escaped($0.0))=\(escaped($0.1))" }.sorted().joined(separator: "&")
  }

  /// Percent-encodes all characters except RFC 3986's unreserved characters.
  private static func escaped(_ text: String) -> String {
    var result = ""
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"),
        UInt8(ascii: "."), UInt8(ascii: "~"):
        result.unicodeScalars.append(Unicode.Scalar(byte))
      default: result += "%" + [byte].hexString.uppercased()
      }
    }
    return result
  }

  private static func value(of name: Substring, in request: Request) -> String? {
    // HTTPTypes does not keep the host among the other headers.
    if name == "host" { return request.head.authority }
    return HTTPField.Name(String(name)).flatMap { request.headers[$0] }?
      .trimmingCharacters(in: .whitespaces)
  }

  // MARK: Times

  /// Converts `2021-08-11T19:42:55.000Z` to `20210811T194255Z`.
  private static func basicDate(_ text: String) -> String {
    text.prefix(19).filter { $0 != "-" && $0 != ":" } + "Z"
  }

  private static func time(_ basic: String) -> Date? {
    let digits = basic.filter(\.isNumber)
    guard digits.count == 14, basic.count == 16 else { return nil }
    var iso = ""
    for (index, digit) in digits.enumerated() {
      switch index {
      case 4, 6: iso += "-"
      case 8: iso += "T"
      case 10, 12: iso += ":"
      default: break
      }
      iso.append(digit)
    }
    return try? Date(iso + "Z", strategy: .iso8601)
  }

  /// Returns the seconds between two times such as `2021-08-11T19:42:55.000Z`.
  private static func seconds(from first: String, to second: String) -> Int {
    let style = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
    guard let first = try? style.parse(first), let second = try? style.parse(second) else {
      return 0
    }
    return Int(second.timeIntervalSince(first).rounded())
  }
}

/// The URLs of a job, by its profile.
struct JobURLs: Sendable {
  let native: SignedURLs
  let storage: StorageURLs

  func url(to operation: SignedURLs.Operation, of job: Job) -> String {
    switch job.profile {
    case .native: native.url(to: operation, of: job)
    case .gcs: storage.url(to: operation, of: job)
    }
  }
}
