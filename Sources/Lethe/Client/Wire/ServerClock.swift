import Foundation
import Logging
import NIOHTTP1

/// The time by the API's clock. URLs and jobs expire by that clock, and this machine's clock might be wrong.
actor ServerClock {
  /// The difference of the clocks by the last response. Nil until a response has a `Date`.
  private(set) var skew: ClockSkew?
  /// How far the API's clock is ahead of this machine's clock, by the last response. 0 if the difference does no harm.
  private var aheadSeconds = 0.0
  private var hasWarned = false
  private let logger: Logger

  init(logger: Logger) {
    self.logger = logger
  }

  var now: Date { Date().addingTimeInterval(aheadSeconds) }

  /// Reads the `Date` of a response. It has whole seconds and is slightly in the past.
  func note(_ headers: HTTPHeaders) {
    guard let date = headers.first(name: "date").flatMap(HTTPDate.date) else { return }
    let ours = Date()
    let skew = ClockSkew(ours: ours, theirs: date)
    self.skew = skew
    guard skew.isSignificant else {
      aheadSeconds = 0
      return
    }
    aheadSeconds = skew.aheadSeconds
    guard !hasWarned else { return }
    hasWarned = true
    logger.warning("\(skew)\n  remedy: set this machine's clock by NTP")
  }
}

/// The time of the API's clock and of this machine's clock at the same moment.
public struct ClockSkew: Sendable, CustomStringConvertible {
  let ours: Date
  let theirs: Date

  /// A smaller difference does no harm, because signed URLs are valid for 15 minutes.
  private static let secondsMax = 60.0

  /// How far the API's clock is ahead of this machine's clock.
  var aheadSeconds: Double { theirs.timeIntervalSince(ours) }

  public var isSignificant: Bool { abs(aheadSeconds) > Self.secondsMax }

  public var description: String {
    """
    this machine's clock is \(Int(abs(aheadSeconds).rounded())) s \
    \(aheadSeconds < 0 ? "ahead of" : "behind") the API's: it is \(HTTPDate.text(ours)) here and \
    \(HTTPDate.text(theirs)) there; URLs and jobs expire by the API's clock
    """
  }
}

/// Dates in HTTP headers (RFC 9110), and their ISO 8601 text in messages.
enum HTTPDate {
  private static func formatter(_ format: String) -> DateFormatter {
    let formatter = DateFormatter()
    formatter.locale = Locale(identifier: "en_US_POSIX")
    formatter.timeZone = TimeZone(secondsFromGMT: 0)
    formatter.dateFormat = format
    return formatter
  }

  /// No date of an HTTP header is after the year 9999.
  private static let secondsSince1970Max = 253_402_300_800.0

  static func date(_ text: String) -> Date? {
    let date = formatter("EEE, dd MMM yyyy HH:mm:ss 'GMT'").date(
      from: text.trimmingCharacters(in: .whitespaces))
    return date.flatMap { abs($0.timeIntervalSince1970) < secondsSince1970Max ? $0 : nil }
  }

  static func text(_ date: Date) -> String {
    formatter("yyyy-MM-dd'T'HH:mm:ss'Z'").string(from: date)
  }
}
