/// The characters that a database's encoding supports. Sessions always use UTF-8, and the server refuses a character
/// that its encoding does not have.
struct ServerEncoding: Equatable {
  /// Scalars below this value are supported.
  private let end: UInt32

  /// - Parameter name: the value of `server_encoding`, such as `UTF8`.
  init(name: String) {
    end =
      switch name {
      // SQL_ASCII keeps any bytes as they are.
      case "UTF8", "SQL_ASCII": 0x11_0000
      case "LATIN1": 0x100
      // For other encodings, only ASCII is certain without a conversion table.
      default: 0x80
      }
  }

  /// Replaces characters that the encoding might not have. Each becomes `\u{…}`.
  func escapingUnsupported(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: { $0.value >= end }) else { return text }
    return text.unicodeScalars.map {
      $0.value < end ? "\($0)" : "\\u{\(String($0.value, radix: 16))}"
    }.joined()
  }
}
