internal import Foundation
internal import Hummingbird

/// The query parameters of a request. Each may appear at most once. Unknown parameters are refused.
struct QueryParameters {
  private let values: [String: String]

  /// Parses the query of a request.
  /// - Throws: a 400 problem for an unknown or repeated parameter, or for text that is not percent-encoded UTF-8.
  init(_ request: Request, allowed: Set<String>) throws {
    var values: [String: String] = [:]
    for pair in (request.uri.query ?? "").split(separator: "&") {
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard let name = parts[0].removingPercentEncoding,
        let value = (parts.count == 2 ? parts[1] : "").removingPercentEncoding
      else {
        throw Problem.invalid(nil, nil, "The query is not percent-encoded UTF-8.")
      }
      guard allowed.contains(name) else {
        let names = allowed.sorted().joined(separator: ",")
        throw Problem.invalid(
          name, value, "The query parameter [\(name)] is not one of [\(names)]")
      }
      guard values.updateValue(value, forKey: name) == nil else {
        throw Problem.invalid(name, nil, "The query parameter [\(name)] is given twice")
      }
    }
    self.values = values
  }

  subscript(name: String) -> String? { values[name] }

  func required(_ name: String) throws -> String {
    guard let value = values[name] else { throw missing(name) }
    return value
  }

  /// The value of a parameter that has a fixed list of values.
  func oneOf<Choice: RawRepresentable<String>>(
    _ choices: [Choice], _ name: String
  ) throws -> Choice? {
    guard let value = values[name] else { return nil }
    guard let choice = choices.first(where: { $0.rawValue == value }) else {
      let choices = choices.map(\.rawValue).joined(separator: ",")
      throw Problem.invalid(
        name, value, "The `\(name)` query parameter value [\(value)] is not one of [\(choices)]")
    }
    return choice
  }

  /// The value of a required parameter that has a fixed list of values.
  func requiredOneOf<Choice: RawRepresentable<String>>(
    _ choices: [Choice], _ name: String
  ) throws -> Choice {
    if let choice = try oneOf(choices, name) { return choice }
    throw missing(name)
  }

  private func missing(_ name: String) -> Problem {
    .invalid(name, nil, "The `\(name)` query parameter is required")
  }
}
