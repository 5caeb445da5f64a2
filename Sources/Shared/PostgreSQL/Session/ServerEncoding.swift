/// Which characters the text of a database can have. Sessions speak UTF-8 whatever it is, and the server
/// refuses a character that its encoding has not.
struct ServerEncoding: Equatable {
  /// Scalars below it can be held.
  private let end: UInt32

  /// - Parameter name: as the server reports it: `UTF8`.
  init(name: String) {
    end =
      switch name {
      // SQL_ASCII keeps any bytes as they are.
      case "UTF8", "SQL_ASCII": 0x11_0000
      case "LATIN1": 0x100
      // What they have beyond ASCII, only their tables know.
      default: 0x80
      }
  }

  /// With `\u{…}` in place of what may not be held.
  func held(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: { $0.value >= end }) else { return text }
    return text.unicodeScalars.map {
      $0.value < end ? "\($0)" : "\\u{\(String($0.value, radix: 16))}"
    }.joined()
  }
}
