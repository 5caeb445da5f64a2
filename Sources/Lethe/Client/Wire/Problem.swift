import Foundation
import Vocabulary

/// The content of an error body, in one of the known shapes: RFC 7807, `{"errors": […]}`,
/// `{"code", "message"}`, the XML of a storage host, HTML, or nothing.
struct Problem {
  let status: Int?
  /// The cause by the problem's type. It has priority over the status.
  let cause: ProblemCause?
  let message: String
  /// Whether the body has an `errors` list and no `data`. Such a body is an error even with status 200.
  let isErrorList: Bool

  /// The fields of an error body. A field of an unexpected type counts as missing.
  private struct Shape: Decodable {
    var status: Int?
    var title: String?
    var detail: String?
    var message: String?
    var type: String?
    var reason: String?
    var code: Int?
    var errors: [Shape] = []
    var hasData = false

    private enum CodingKeys: CodingKey {
      case status, title, detail, message, type, reason, code, errors, data
    }

    init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: CodingKeys.self)
      func text(_ key: CodingKeys) -> String? { try? container.decode(String.self, forKey: key) }
      func number(_ key: CodingKeys) -> Int? {
        (try? container.decode(Int.self, forKey: key)) ?? text(key).flatMap { Int($0) }
      }
      (status, code) = (number(.status), number(.code))
      (title, detail, message) = (text(.title), text(.detail), text(.message))
      (type, reason) = (text(.type), text(.reason))
      errors = ((try? container.decode([Lenient<Shape>].self, forKey: .errors)) ?? [])
        .compactMap(\.value)
      // A null, or a list without entries, counts as no data.
      let list = try? container.decode([Lenient<Shape>].self, forKey: .data)
      hasData =
        container.contains(.data) && (try? container.decodeNil(forKey: .data)) != true
        && list?.isEmpty != true
    }

    var text: String? {
      let parts = [title, detail ?? message].compactMap { $0 }
      return parts.isEmpty ? errors.first?.text : parts.joined(separator: ": ")
    }

    var cause: ProblemCause? {
      for word in [type, reason, title].compactMap({ $0 }) {
        if let cause = ProblemCause(type: word) { return cause }
      }
      return code.flatMap { ProblemCause(code: $0) } ?? errors.lazy.compactMap(\.cause).first
    }
  }

  init(body: [UInt8], secrets: [String]) {
    let shape = try? JSONDecoder().decode(Shape.self, from: Data(body))
    let first = shape?.errors.first
    isErrorList = first != nil && shape?.hasData == false
    status = shape?.status ?? first?.status
    cause = shape?.cause ?? Self.code(body).flatMap { ProblemCause(type: $0) }
    message = shape?.text?.withoutSecrets(secrets) ?? Self.excerpt(body, secrets)
  }

  private static let readBytesMax = 16_000

  /// Returns the code in an error of Google Cloud Storage's XML API: `<Error><Code>EntityTooLarge</Code>…`.
  private static func code(_ body: [UInt8]) -> String? {
    String(decoding: body.prefix(readBytesMax), as: UTF8.self)
      .firstMatch(of: /<Code>\s*([^<]{1,100}?)\s*<\/Code>/).map { String($0.1) }
  }

  /// Returns the start of the body's text. Secrets are removed before the text is cut, because a part of a secret would
  /// not be recognized.
  private static func excerpt(_ body: [UInt8], _ secrets: [String]) -> String {
    let words = String(decoding: body.prefix(readBytesMax), as: UTF8.self)
      .withoutSecrets(secrets, lengthMax: 200)
    return words.isEmpty ? "an empty response" : "not a problem report: \(words)"
  }
}

/// A value that is nil if it cannot be decoded.
struct Lenient<Value: Decodable>: Decodable {
  let value: Value?

  init(from decoder: any Decoder) {
    value = try? Value(from: decoder)
  }
}

extension Lenient: Sendable where Value: Sendable {}
