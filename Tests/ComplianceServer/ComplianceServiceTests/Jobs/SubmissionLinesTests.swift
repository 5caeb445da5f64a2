import Testing

@testable import ComplianceService

@Suite struct SubmissionLinesTests {
  private enum Line: Equatable {
    case id(Int64)
    case invalid([UInt8])
  }

  private func lines(_ text: [UInt8], blockBytes: Int) -> [Line] {
    var scanner = SubmissionLines()
    var lines: [Line] = []
    func id(_ id: Int64) { lines.append(.id(id)) }
    func invalid(_ line: UnsafeRawBufferPointer) { lines.append(.invalid(Array(line))) }
    for start in stride(from: 0, to: text.count, by: blockBytes) {
      let block = Array(text[start..<min(start + blockBytes, text.count)])
      block.withUnsafeBytes { scanner.scan($0, id: id, invalid: invalid) }
    }
    scanner.finish(id: id, invalid: invalid)
    #expect(scanner.lines == lines.count)
    return lines
  }

  @Test(arguments: 1...40)
  func linesDoNotDependOnBlockBoundaries(blockBytes: Int) {
    let text = Array("1\n9223372036854775807\n\n9223372036854775808\nabc\r\n0\n-1\n12".utf8)
    #expect(
      lines(text, blockBytes: blockBytes) == [
        .id(1), .id(.max), .invalid([]), .invalid(Array("9223372036854775808".utf8)),
        .invalid(Array("abc\r".utf8)), .id(0), .invalid(Array("-1".utf8)), .id(12),
      ])
  }

  @Test(arguments: [1, 1000, 100_000])
  func onlyTheBeginningOfALongLineIsKept(blockBytes: Int) {
    let text = [UInt8](repeating: UInt8(ascii: "7"), count: 50_000) + Array("\n5\n".utf8)
    let beginning = [UInt8](
      repeating: UInt8(ascii: "7"), count: SubmissionLines.invalidLineBytesMax)
    #expect(lines(text, blockBytes: blockBytes) == [.invalid(beginning), .id(5)])
  }

  @Test func anInvalidLineIsEscapedAsJSON() {
    func resultLine(_ bytes: [UInt8]) -> String {
      var line: [UInt8] = []
      bytes.withUnsafeBytes { ResultLines.append(invalid: $0, to: &line) }
      return String(decoding: line, as: UTF8.self)
    }
    #expect(
      resultLine(Array("a\"b\\c\u{1}\u{1f}é".utf8))
        == #"{"id":"a\"b\\c\u0001\u001fé","error":"invalid_id"}"# + "\n")
    #expect(resultLine([0x61, 0xff]) == "{\"id\":\"a\u{fffd}\",\"error\":\"invalid_id\"}\n")
  }
}
