internal import Foundation

/// Any JSON value, for responses that break the schema.
public enum JSONValue: Sendable, Equatable {
  case null
  case flag(Bool)
  /// A 64-bit integer. As a `Double` it could lose digits.
  case integer(Int64)
  case number(Double)
  case text(String)
  case array([JSONValue])
  case object([String: JSONValue])

  /// Replaces the time placeholders in all strings of this value.
  func filled(at date: Date) -> JSONValue {
    switch self {
    case .null, .flag, .integer, .number: self
    case .text(let text): .text(TimedText(text).filled(at: date))
    case .array(let values): .array(values.map { $0.filled(at: date) })
    case .object(let members): .object(members.mapValues { $0.filled(at: date) })
    }
  }
}

extension JSONValue: Codable {
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .flag(value)
    } else if let value = try? container.decode(Int64.self) {
      self = .integer(value)
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else if let value = try? container.decode(String.self) {
      self = .text(value)
    } else if let values = try? container.decode([JSONValue].self) {
      self = .array(values)
    } else {
      self = .object(try container.decode([String: JSONValue].self))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .null: try container.encodeNil()
    case .flag(let value): try container.encode(value)
    case .integer(let value): try container.encode(value)
    case .number(let value): try container.encode(value)
    case .text(let value): try container.encode(value)
    case .array(let values): try container.encode(values)
    case .object(let members): try container.encode(members)
    }
  }
}
