import Foundation
import Results
import SystemPackage
import TestSupport
import Testing

@Suite struct ResultLinesTests {
  private struct Line: Equatable, CustomStringConvertible {
    var number: Int
    var bytes: [UInt8]
    var isTooLong: Bool
    var isTerminated: Bool

    var description: String {
      "\(number): \(bytes.count) bytes, \(isTooLong), \(isTerminated), \(bytes.prefix(20))"
    }
  }

  private static func write(_ bytes: [UInt8], _ body: (String) throws -> Void) throws {
    try withTemporaryDirectory { directory in
      let path = directory.appending("result.jsonl").string
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      try body(path)
    }
  }

  private static func read(_ path: String, blockBytes: Int) throws -> [Line] {
    var lines: [Line] = []
    var file = try ResultLines(path: path, blockBytes: blockBytes)
    let collect = { (line: ResultLines.Line) in
      lines.append(
        Line(
          number: line.number, bytes: Array(line.bytes), isTooLong: line.isTooLong,
          isTerminated: line.isTerminated))
    }
    while try file.forEachLineOfNextBlock(collect) {}
    let isAtEnd = try !file.forEachLineOfNextBlock(collect)
    #expect(isAtEnd)
    return lines
  }

  /// Splits bytes into lines in the simplest way. The tests compare `ResultLines` with it.
  private static func split(_ bytes: [UInt8]) -> [Line] {
    var parts = bytes.split(separator: 0x0A, omittingEmptySubsequences: false).map(Array.init)
    let isLastTerminated = parts.last?.isEmpty ?? true
    if isLastTerminated { parts = parts.dropLast() }
    return parts.enumerated().map { index, part in
      Line(
        number: index + 1, bytes: Array(part.prefix(ResultLines.lineBytesMax)),
        isTooLong: part.count > ResultLines.lineBytesMax,
        isTerminated: isLastTerminated || index < parts.count - 1)
    }
  }

  private static func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

  @Test(arguments: [
    "", "\n", "\n\n\n", "a", "a\n", "a\nb", "a\r\nb\r\n", "\r\n\r\n", "\n\na\n\n", "a\n\n\nb",
    "é\n😀",
    "\u{2028}\n\u{85}\u{0}\n",
  ])
  func linesAreSeparatedByLineFeeds(text: String) throws {
    try Self.write(Self.bytes(text)) { path in
      for blockBytes in [1, 2, 3, 128 * 1024] {
        let lines = try Self.read(path, blockBytes: blockBytes)
        #expect(lines == Self.split(Self.bytes(text)), "blocks of \(blockBytes)")
      }
    }
  }

  @Test func anEmptyFileHasNoLine() throws {
    try Self.write([]) { path in
      let lines = try Self.read(path, blockBytes: 10)
      #expect(lines.isEmpty)
    }
  }

  @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 8] as [UInt64])
  func theLinesDoNotDependOnTheBlockSize(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    for _ in 0..<12 {
      var content: [UInt8] = []
      for _ in 0..<Int.random(in: 0...40, using: &random) {
        let isLong = Int.random(in: 0..<10, using: &random) == 0
        let length =
          isLong
          ? Int.random(in: 65_000...200_000, using: &random)
          : Int.random(in: 0...200, using: &random)
        content += repeatElement(UInt8.random(in: 0x20...0x7E, using: &random), count: length)
        content.append(0x0A)
      }
      if Bool.random(using: &random), !content.isEmpty { content.removeLast() }
      let blockBytes =
        Int.random(in: 1...3, using: &random) == 1
        ? Int.random(in: 1_000...10_000, using: &random)
        : Int.random(in: 10_000...300_000, using: &random)
      try Self.write(content) { path in
        let lines = try Self.read(path, blockBytes: blockBytes)
        try #require(
          lines == Self.split(content), "seed \(seed), blocks of \(blockBytes)")
      }
    }
  }

  @Test(arguments: [-1, 0, 1, 2, 65_536, 200_000], [100, 4096, 65_536, 65_537, 1 << 20])
  func aLineIsTooLongOnlyAboveTheLimit(extra: Int, blockBytes: Int) throws {
    let long = [UInt8](repeating: UInt8(ascii: "x"), count: ResultLines.lineBytesMax + extra)
    for end in ["", "\n", "\nnext", "\n\nnext\n"] {
      let content = Self.bytes("first\n") + long + Self.bytes(end)
      try Self.write(content) { path in
        let lines = try Self.read(path, blockBytes: blockBytes)
        #expect(lines == Self.split(content), "\(end.debugDescription)")
      }
    }
  }

  @Test func anErrorOfTheBodyIsRethrown() throws {
    struct Stop: Error {}
    try Self.write(Self.bytes("a\nb\n")) { path in
      var file = try ResultLines(path: path)
      do {
        _ = try file.forEachLineOfNextBlock { _ in throw Stop() }
        Issue.record("nothing was thrown")
      } catch is Stop {}
    }
  }

  @Test func aMissingFileThrows() {
    #expect(throws: Errno.noSuchFileOrDirectory) {
      _ = try ResultLines.endsWithCompleteLine(path: "/nowhere/result")
    }
    #expect(throws: Errno.noSuchFileOrDirectory) {
      _ = try Self.read("/nowhere/result", blockBytes: 1)
    }
  }

  // MARK: Complete files

  @Test(arguments: [
    """
    {"id":"1","action":"delete","reason":"deleted"}

    {"id":"2","x":{"y":["}"]},"reason":"\\"é😀\\\\"}\n{"id":"3","action":"delete","reason":"deleted"}
    """,
    "{\"id\":\"1\",\"action\":\"delete\",\"reason\":\"deleted\"}\r\n\r\n{\"id\":\"2\",\"n\":12.5e3}\r\n",
  ])
  func aCutInsideALineIsDetected(text: String) throws {
    let whole = Self.bytes(text)
    var undetected = 0
    for length in 0...whole.count {
      let cut = Array(whole.prefix(length))
      let last = cut.lastIndex(of: 0x0A).map { Array(cut[($0 + 1)...]) } ?? cut
      let isObject =
        (try? JSONSerialization.jsonObject(with: Data(last))) is [String: Any]
      let expected = last.isEmpty || isObject
      if expected { undetected += 1 }
      try Self.write(cut) { path in
        let isWhole = try ResultLines.endsWithCompleteLine(path: path)
        #expect(isWhole == expected, "cut at \(length)")
      }
    }
    #expect(undetected < 12)
  }

  @Test(arguments: [
    ("", true), ("\n", true), ("{}\n", true), ("{}", true), ("{} \r", true), ("not json\n", true),
    ("not json", false), ("{\"id\":\"1\"", false), ("{}\n{\"id\":\"1\"", false), ("{}\n{}{", false),
    ("[]", false),
  ])
  func onlyALineFeedOrACompleteObjectEndsAResult(text: String, isWhole: Bool) throws {
    try Self.write(Self.bytes(text)) { path throws in
      #expect(try ResultLines.endsWithCompleteLine(path: path) == isWhole)
    }
  }

  @Test(arguments: [0, 1, 65_500, 65_536, 200_000])
  func onlyTheLastLineDecidesWhetherAFileIsComplete(filler: Int) throws {
    let start = [UInt8](repeating: UInt8(ascii: "{"), count: filler) + [0x0A]
    for (tail, isWhole) in [("{\"id\":\"1\"}", true), ("{\"id\":\"1\"", false), ("", true)] {
      try Self.write(start + Self.bytes(tail)) { path throws in
        #expect(try ResultLines.endsWithCompleteLine(path: path) == isWhole, "\(filler), \(tail)")
      }
    }
  }

  /// A last line that is longer than the limit counts as complete only if a line feed ends it.
  @Test func aLastLineAboveTheLimitIsNotComplete() throws {
    let long = Self.bytes("{\"x\":\"") + [UInt8](repeating: 0x61, count: 70_000) + Self.bytes("\"}")
    try Self.write(long) { path throws in
      #expect(try !ResultLines.endsWithCompleteLine(path: path))
    }
    try Self.write(long + [0x0A]) { path throws in
      #expect(try ResultLines.endsWithCompleteLine(path: path))
    }
  }
}
