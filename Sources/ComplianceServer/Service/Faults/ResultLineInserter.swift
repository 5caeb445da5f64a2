internal import FaultPlans
internal import Foundation
internal import SystemPackage

/// Copies a result and inserts faulty lines.
struct ResultLineInserter {
  private let text: Data
  private var additions: [(kind: Fault.Kind, count: Int)] = []

  /// - Throws: Foundation's error if the result cannot be read.
  init(_ path: FilePath) throws {
    text = try Data(contentsOf: URL(filePath: path.string), options: .alwaysMapped)
  }

  var isEmpty: Bool { text.isEmpty }

  mutating func add(_ kind: Fault.Kind) {
    switch kind {
    case .duplicateLines(let count), .unknownLines(let count), .malformedLines(let count),
      .blankLines(let count):
      additions.append((kind, count))
    default: break
    }
  }

  /// Writes a copy of the result with the added lines. Each addition adds one line after each of the first nonempty
  /// lines, until its number of lines is reached or the result ends.
  /// - Returns: the copy's length in bytes.
  /// - Throws: `Errno`.
  func write(to path: FilePath) throws -> Int64 {
    var result: [UInt8] = []
    var rest = text[...]
    var number = 0
    let countMax = additions.map(\.count).max() ?? 0
    while number < countMax, let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
      let line = rest[...end]
      rest = rest[rest.index(after: end)...]
      result += line
      // The gcs profile has empty lines between shards.
      guard line.count > 1 else { continue }
      number += 1
      for addition in additions where number <= addition.count {
        result += Self.addition(addition.kind, after: line)
      }
    }
    let file = try FileDescriptor.open(
      path, .writeOnly, options: [.create, .exclusiveCreate], permissions: .ownerReadWrite)
    return try file.closeAfter {
      try file.writeAll(result)
      try file.writeAll(rest)
      guard fsync(file.rawValue) == 0 else { throw Errno(rawValue: errno) }
      return Int64(result.count + rest.count)
    }
  }

  private static func addition(_ kind: Fault.Kind, after line: Data) -> [UInt8] {
    switch kind {
    case .duplicateLines: return Array(line)
    case .blankLines: return [UInt8(ascii: "\n")]
    case .malformedLines: return line.prefix(line.count / 2) + [UInt8(ascii: "\n")]
    case .unknownLines:
      let text = String(decoding: line, as: UTF8.self)
      let id = text.firstMatch(of: /"id":"((?:[^"\\]|\\.)*)"/).map { String($0.1) } ?? ""
      return Array(#"{"action":"archive","id":"\#(id)","reason":"archived"}"#.utf8)
        + [UInt8(ascii: "\n")]
    default: return []
    }
  }
}
