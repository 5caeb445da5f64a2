/// The lines at which the statements of a script begin, to name the line of a failure.
///
/// For some errors, the server reports no position. Then only the number of statements that succeeded is known. This
/// scanner handles quotes, dollar quotes, comments and parentheses, but not `BEGIN ATOMIC`. It is used only for
/// messages, never to split a script for execution.
struct StatementLines {
  /// The line, counted from 0, of the first word of each statement.
  private(set) var lines: [Int] = []

  init(_ sql: String) {
    let bytes = Array(sql.utf8)
    var index = 0
    var line = 0
    var inStatement = false
    var depth = 0

    func skip(to end: Int) {
      let end = min(end, bytes.count)
      line += bytes[index..<end].count { $0 == UInt8(ascii: "\n") }
      index = end
    }
    func firstIndex(of text: [UInt8], from start: Int) -> Int? {
      guard start <= bytes.count else { return nil }
      return (start..<bytes.count).first { bytes[$0...].starts(with: text) }
    }
    /// The end of a comment, which may contain other comments.
    func endOfComment() -> Int {
      var depth = 0
      var position = index
      while position < bytes.count {
        if bytes[position...].starts(with: Array("/*".utf8)) {
          depth += 1
          position += 2
        } else if bytes[position...].starts(with: Array("*/".utf8)) {
          depth -= 1
          position += 2
          if depth == 0 { break }
        } else {
          position += 1
        }
      }
      return position
    }
    /// A doubled quote counts as the end of one literal and the beginning of the next. The result is the same, except
    /// for an escape string with a backslash after a doubled quote: `E'a''b\'c'`.
    func endOfQuote() -> Int {
      let quote = bytes[index]
      let hasEscapes =
        quote == UInt8(ascii: "'") && index > 0 && bytes[index - 1] | 0x20 == 0x65
        && (index == 1 || !Self.isPartOfName(bytes[index - 2]))
      var position = index + 1
      while position < bytes.count, bytes[position] != quote {
        position += hasEscapes && bytes[position] == UInt8(ascii: "\\") ? 2 : 1
      }
      return position + 1
    }

    while index < bytes.count {
      let rest = bytes[index...]
      if rest.starts(with: Array("--".utf8)) {
        skip(to: firstIndex(of: [UInt8(ascii: "\n")], from: index) ?? bytes.count)
      } else if rest.starts(with: Array("/*".utf8)) {
        skip(to: endOfComment())
      } else if bytes[index] == UInt8(ascii: ";"), depth == 0 {
        inStatement = false
        index += 1
      } else if [9, 10, 13, 32].contains(bytes[index]) {
        skip(to: index + 1)
      } else {
        if !inStatement {
          inStatement = true
          lines.append(line)
        }
        switch bytes[index] {
        case UInt8(ascii: "'"), UInt8(ascii: "\""):
          skip(to: endOfQuote())
        case UInt8(ascii: "("):
          depth += 1
          index += 1
        case UInt8(ascii: ")"):
          depth = max(0, depth - 1)
          index += 1
        case UInt8(ascii: "$"):
          if index == 0 || !Self.isPartOfName(bytes[index - 1]), let tag = Self.dollarTag(rest) {
            let end = firstIndex(of: tag, from: index + tag.count)
            skip(to: end.map { $0 + tag.count } ?? bytes.count)
          } else {
            index += 1
          }
        default:
          index += 1
        }
      }
    }
  }

  /// `$$` or `$name$` at the beginning of the slice.
  private static func dollarTag(_ bytes: ArraySlice<UInt8>) -> [UInt8]? {
    let name = bytes.dropFirst().prefix { isPartOfName($0) && $0 != UInt8(ascii: "$") }
    guard name.endIndex < bytes.endIndex, bytes[name.endIndex] == UInt8(ascii: "$") else {
      return nil
    }
    return Array(bytes[bytes.startIndex...name.endIndex])
  }

  private static func isPartOfName(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: "_") || byte == UInt8(ascii: "$") || byte >= 128
      || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
      || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }
}
