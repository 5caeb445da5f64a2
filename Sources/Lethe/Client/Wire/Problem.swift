import Foundation
import Vocabulary

/// What an error body says, in any of the shapes that have been seen: RFC 7807, `{"errors": […]}`,
/// `{"code", "message"}`, the XML of a storage host, HTML, nothing.
struct Problem {
  let status: Int?
  /// What the API says by the type of a problem, whatever the status.
  let cause: ProblemCause?
  let message: String
  /// An `errors` list without `data`: an error even in a 200.
  let isErrorList: Bool

  /// Any field may be of any shape.
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
      // No data, or none of it.
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

  /// `<Error><Code>EntityTooLarge</Code>…`, as Google Cloud Storage's XML API has it.
  private static func code(_ body: [UInt8]) -> String? {
    String(decoding: body.prefix(readBytesMax), as: UTF8.self)
      .firstMatch(of: /<Code>\s*([^<]{1,100}?)\s*<\/Code>/).map { String($0.1) }
  }

  /// More of a body than is shown is looked at, so that no secret is cut through.
  private static func excerpt(_ body: [UInt8], _ secrets: [String]) -> String {
    let words = String(decoding: body.prefix(readBytesMax), as: UTF8.self)
      .withoutSecrets(secrets, lengthMax: 200)
    return words.isEmpty ? "an empty answer" : "not a problem report: \(words)"
  }
}

/// A value that is read if it can be, and else left out.
struct Lenient<Value: Decodable>: Decodable {
  let value: Value?

  init(from decoder: any Decoder) {
    value = try? Value(from: decoder)
  }
}

extension Lenient: Sendable where Value: Sendable {}
