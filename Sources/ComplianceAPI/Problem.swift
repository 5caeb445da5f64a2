import Foundation
import Vocabulary

/// What an error body says, in any of the shapes that have been seen: RFC 7807, `{"errors": […]}`,
/// `{"code", "message"}`, HTML, nothing.
struct Problem {
  let status: Int?
  let message: String
  /// An `errors` list without `data`: an error even in a 200.
  let isErrorList: Bool

  private struct Shape: Decodable {
    var status: Int?
    var title: String?
    var detail: String?
    var message: String?
    var code: Int?
    var errors: [Shape]?
    var data: Ignored?

    var text: String? {
      let parts = [title, detail ?? message].compactMap { $0 }
      return parts.isEmpty ? errors?.first?.text : parts.joined(separator: ": ")
    }
  }

  private struct Ignored: Decodable {
    init(from decoder: any Decoder) {}
  }

  /// The code of the old API's "Rate limit exceeded".
  private static let rateLimitCode = 88

  init(body: [UInt8], secrets: [String]) {
    let shape = try? JSONDecoder().decode(Shape.self, from: Data(body))
    let first = shape?.errors?.first
    isErrorList = first != nil && shape?.data == nil
    status = first?.code == Self.rateLimitCode ? 429 : shape?.status ?? first?.status
    message = shape?.text?.withoutSecrets(secrets) ?? Self.excerpt(body, secrets)
  }

  /// More of a body than is shown is looked at, so that no secret is cut through.
  private static func excerpt(_ body: [UInt8], _ secrets: [String]) -> String {
    let words = String(decoding: body.prefix(16_000), as: UTF8.self)
      .withoutSecrets(secrets, lengthMax: 200)
    return words.isEmpty ? "an empty answer" : "not a problem report: \(words)"
  }
}
