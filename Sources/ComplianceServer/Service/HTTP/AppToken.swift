internal import Checksums

/// The bearer token of an App, or the token for the operator's pages. Only the SHA-256 of the token is kept: here, and
/// for an App also in the database.
public struct AppToken: Sendable, ExpressibleByStringLiteral {
  let fingerprint: [UInt8]

  public init(_ secret: String) {
    fingerprint = SHA256.hash(secret)
  }

  public init(stringLiteral secret: String) {
    self.init(secret)
  }

  var app: AppID { AppID(hex: fingerprint.hexString) }
}

/// The owner of a job: the hexadecimal fingerprint of the App's token.
struct AppID: Sendable, Hashable {
  let hex: String

  /// The first characters, to distinguish Apps in logs and pages.
  var short: String { String(hex.prefix(8)) }
}
