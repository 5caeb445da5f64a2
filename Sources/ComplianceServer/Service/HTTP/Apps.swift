internal import Checksums
internal import HTTPTypes
internal import Hummingbird

/// The Apps that may use the service.
struct Apps: Sendable {
  private let tokens: [AppToken]

  init(_ tokens: [AppToken]) {
    self.tokens = tokens
  }

  /// Returns the App with the request's bearer token.
  ///
  /// Compares all fingerprints, each in constant time. So a caller cannot learn about the tokens from the time that
  /// the comparison takes.
  /// - Throws: a 401 problem.
  func authenticate(_ request: Request) throws -> AppID {
    let presented = SHA256.hash(try Self.bearerToken(of: request))
    var app: AppID?
    for token in tokens where constantTimeEqual(presented, token.fingerprint) {
      app = token.app
    }
    guard let app else { throw Self.unauthorized("The bearer token belongs to no App.") }
    return app
  }

  private static func bearerToken(of request: Request) throws -> String {
    guard let header = request.headers[.authorization] else {
      throw unauthorized("The request has no Authorization header with a bearer token.")
    }
    let words = header.split(separator: " ", maxSplits: 1)
    guard words.count == 2, words[0].lowercased() == "bearer" else {
      throw unauthorized("The Authorization header has no bearer token.")
    }
    return String(words[1])
  }

  private static func unauthorized(_ detail: String) -> Problem {
    Problem(kind: .unauthorized, detail: detail)
  }
}
