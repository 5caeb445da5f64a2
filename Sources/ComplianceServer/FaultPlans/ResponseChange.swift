public import Foundation

/// A change to a response. Properties that are nil or empty change nothing.
public struct ResponseChange: Sendable, Equatable {
  /// The new status, from 200 to 599.
  public var status: Int?
  public var body: Body?
  /// The headers to set. Each replaces all headers of the same name (case-insensitive).
  public var headers: [Header] = []
  public var headerCase: LetterCase?
  /// The content coding of the body. To send a wrong Content-Encoding, set it in `headers`.
  public var coding: Coding?
  /// How the client recognizes the end of the body.
  public var framing: Framing?
  public var jobs = JobChange()

  public init() {}

  public enum Body: Sendable, Equatable {
    /// A JSON problem document (RFC 7807).
    case json
    case html
    case empty
    case text(TimedText)
  }

  /// A header. Its name is sent exactly as written, unless `headerCase` is set.
  public struct Header: Sendable, Equatable {
    public let name: String
    /// An empty list removes the header.
    public let values: [TimedText]
  }

  public enum LetterCase: String, Sendable, CaseIterable {
    case upper
    case lower
  }

  public enum Coding: String, Sendable, CaseIterable {
    case gzip
    /// zlib's format, as RFC 9110 requires.
    case deflate
    /// Raw deflate data. `Content-Encoding` is `deflate`, although that means zlib's format.
    case rawDeflate = "raw_deflate"
  }

  public enum Framing: String, Sendable, CaseIterable {
    case chunked
    /// The body ends when the connection is closed. There is no Content-Length.
    case close
  }

  /// Whether the change affects the body.
  public var changesBody: Bool { body != nil || coding != nil || !jobs.isEmpty }

  /// Whether responses with this status have no body.
  public static func isBodiless(_ status: Int) -> Bool { status == 204 || status == 304 }
}

/// A change to the job in a response, or to each job of a list.
public struct JobChange: Sendable, Equatable {
  /// Members of the JSON object to set.
  public var members: [String: JSONValue] = [:]
  /// Members to remove.
  public var without: [String] = []
  /// Members to shorten, and the number of characters to keep.
  public var shorten: [String: Int] = [:]
  /// Members to change from a JSON string of digits to a JSON number.
  public var numbers: [String] = []
  /// Entries to add to a list, both at its beginning and at its end.
  public var entries: [JSONValue] = []

  public init() {}

  public var isEmpty: Bool { self == JobChange() }

  /// Changes the jobs of a response. The response for an empty list has no `data`. Then the entries are added only
  /// once, as its `data`.
  public func applied(to response: JSONValue, isListing: Bool, at date: Date) -> JSONValue {
    guard case .object(var whole) = response else { return response }
    let added = entries.map { $0.filled(at: date) }
    switch whole["data"] {
    case .array(let jobs)?:
      whole["data"] = .array(added + jobs.map { changed($0, at: date) } + added)
    case let job?: whole["data"] = changed(job, at: date)
    case nil where isListing && !added.isEmpty: whole["data"] = .array(added)
    case nil: break
    }
    return .object(whole)
  }

  private func changed(_ job: JSONValue, at date: Date) -> JSONValue {
    guard case .object(var job) = job else { return job }
    for (name, value) in members { job[name] = value.filled(at: date) }
    for name in without { job[name] = nil }
    for (name, length) in shorten {
      if case .text(let text)? = job[name] { job[name] = .text(String(text.prefix(length))) }
    }
    for name in numbers {
      if case .text(let text)? = job[name], let number = Int64(text) {
        job[name] = .integer(number)
      }
    }
    return .object(job)
  }
}

/// A text with placeholders for times.
///
/// - `{epoch}`: seconds since 1970
/// - `{epoch_ms}`: milliseconds since 1970
/// - `{date}`: HTTP's format
/// - `{timestamp}`: the API's JSON format
///
/// A number before the closing brace adds seconds: `{epoch+60}` is 60 seconds from now, `{date-960}` is 960 seconds
/// ago.
public struct TimedText: Sendable, Equatable, ExpressibleByStringLiteral {
  public let text: String

  public init(_ text: String) {
    self.text = text
  }

  public init(stringLiteral text: String) {
    self.init(text)
  }

  public func filled(at date: Date) -> String {
    text.replacing(/\{(epoch_ms|epoch|date|timestamp)([+-][0-9]{1,9})?\}/) { match in
      let time = date.addingTimeInterval(Double(match.output.2 ?? "0") ?? 0)
      return switch match.output.1 {
      case "epoch": "\(Int(time.timeIntervalSince1970))"
      case "epoch_ms": "\(Int(time.timeIntervalSince1970 * 1000))"
      case "date": Self.text(time, "EEE, dd MMM yyyy HH:mm:ss 'GMT'")
      default: Self.text(time, "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'")
      }
    }
  }

  /// The first unknown placeholder; nil if there is none.
  var unknownPlaceholder: String? {
    text.matches(of: /\{[^{}]*\}/).map { String($0.output) }
      .first { TimedText($0).filled(at: .distantPast) == $0 }
  }

  private static func text(_ date: Date, _ format: String) -> String {
    let formatter = DateFormatter()
    formatter.locale = Locale(identifier: "en_US_POSIX")
    formatter.timeZone = TimeZone(secondsFromGMT: 0)
    formatter.dateFormat = format
    return formatter.string(from: date)
  }
}

extension ResponseChange: CustomStringConvertible {
  /// Such as `206 (text), headers Date, Retry-After, gzip, close, jobs`.
  public var description: String {
    let body: String? =
      switch self.body {
      case .json: "json"
      case .html: "html"
      case .empty: "empty"
      case .text: "text"
      case nil: nil
      }
    let names = headers.map(\.name)
    let parts: [String?] = [
      [status.map(String.init), body.map { "(\($0))" }].compactMap { $0 }.joined(separator: " "),
      names.isEmpty ? nil : "headers \(names.joined(separator: ", "))",
      headerCase.map { "names in \($0.rawValue) case" }, coding?.rawValue, framing?.rawValue,
      jobs.isEmpty ? nil : "jobs",
    ]
    return parts.compactMap { $0 }.filter { !$0.isEmpty }.joined(separator: ", ")
  }
}
