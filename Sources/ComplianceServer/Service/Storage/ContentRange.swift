/// The `Content-Range` of a PUT in a resumable upload.
enum ContentRange: Equatable {
  /// `bytes 0-524287/1048576`. The total can be unknown (`*`). The end can also be unknown (`0-*`).
  case part(first: Int, last: Int?, total: Int?)
  /// `bytes */1048576` or `bytes */*`: asks how many bytes are stored.
  case query(total: Int?)

  /// Parses the value of the header.
  /// - Returns: nil if the text has none of these forms, a number has more than 15 digits, or the last byte is before
  ///   the first one or not below the total.
  init?(_ text: String) {
    guard text.hasPrefix("bytes ") else { return nil }
    let parts = text.dropFirst(6).split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2 else { return nil }
    var total: Int?
    if parts[1] != "*" {
      guard let number = Self.number(parts[1]) else { return nil }
      total = number
    }
    if parts[0] == "*" {
      self = .query(total: total)
      return
    }
    let ends = parts[0].split(separator: "-", omittingEmptySubsequences: false)
    guard ends.count == 2, let first = Self.number(ends[0]) else { return nil }
    if ends[1] == "*" {
      self = .part(first: first, last: nil, total: total)
    } else {
      guard let last = Self.number(ends[1]), last >= first, last < total ?? .max else { return nil }
      self = .part(first: first, last: last, total: total)
    }
  }

  private static func number(_ text: Substring) -> Int? {
    guard (1...15).contains(text.utf8.count), text.utf8.allSatisfy({ $0 &- 0x30 < 10 }) else {
      return nil
    }
    return Int(text)
  }
}
