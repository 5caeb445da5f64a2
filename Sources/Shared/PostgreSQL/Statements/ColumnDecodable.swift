/// A Swift type that can be decoded from a column's text.
public protocol ColumnDecodable {
  /// - Parameter text: the value in PostgreSQL's text format; nil for NULL.
  /// - Returns: nil if the text is not a value of this type.
  static func decode(columnText text: String?) -> Self?
}

extension ColumnDecodable where Self: LosslessStringConvertible {
  public static func decode(columnText text: String?) -> Self? { text.flatMap(Self.init) }
}

extension Int: ColumnDecodable {}
extension Int32: ColumnDecodable {}
extension Int64: ColumnDecodable {}
extension Double: ColumnDecodable {}

extension String: ColumnDecodable {
  public static func decode(columnText text: String?) -> String? { text }
}

extension Bool: ColumnDecodable {
  public static func decode(columnText text: String?) -> Bool? {
    switch text {
    case "t": true
    case "f": false
    default: nil
    }
  }
}

extension Optional: ColumnDecodable where Wrapped: ColumnDecodable {
  public static func decode(columnText text: String?) -> Wrapped?? {
    guard let text else { return .some(nil) }
    return Wrapped.decode(columnText: text).map { .some($0) }
  }
}

/// Decodes `bytea` in its hex form.
extension Array: ColumnDecodable where Element == UInt8 {
  public static func decode(columnText text: String?) -> [UInt8]? {
    guard let text, text.hasPrefix("\\x") else { return nil }
    let digits = Array(text.utf8.dropFirst(2))
    guard digits.count.isMultiple(of: 2) else { return nil }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(digits.count / 2)
    for index in stride(from: 0, to: digits.count, by: 2) {
      guard let high = hexValue(digits[index]), let low = hexValue(digits[index + 1]) else {
        return nil
      }
      bytes.append(high << 4 | low)
    }
    return bytes
  }

  private static func hexValue(_ digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}
