internal import Checksums

/// The bearer token of an App. Memory and database hold only its SHA-256.
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

  /// Enough to tell Apps apart in logs and pages.
  var short: String { String(hex.prefix(8)) }
}
