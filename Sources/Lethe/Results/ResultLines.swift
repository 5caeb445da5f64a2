import Foundation
import SystemPackage

/// Reads a result file line by line. Memory use does not grow with the length of a line.
public struct ResultLines: ~Copyable {
  /// The longest line that is read completely. It is longer than any event. If a line is longer, only its
  /// beginning is quarantined.
  public static let lineBytesMax = 64 * 1024

  private let file: FileDescriptor
  private let blockBytes: Int
  /// Has space for the longest line, and for a block after it.
  private let buffer: UnsafeMutableRawBufferPointer
  /// The number of bytes at the beginning of the buffer that are not a whole line yet.
  private var pending = 0
  private var lineNumber = 0
  /// The beginning of a line that is too long. Kept until the line's end is found.
  private var longLine: [UInt8]?
  private var isAtEnd = false
  /// The number of bytes that were read.
  public private(set) var bytes = 0

  /// A line of the result.
  public struct Line {
    /// The line's number, from 1.
    public let number: Int
    /// The line without its newline, at most `lineBytesMax` bytes.
    public let bytes: UnsafeRawBufferPointer
    public let isTooLong: Bool
    /// False for a last line without a newline.
    public let isTerminated: Bool
  }

  /// - Parameter path: the file, which is read from its beginning.
  /// - Throws: `Errno`.
  public init(path: String, blockBytes: Int = 128 * 1024) throws {
    file = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
    self.blockBytes = blockBytes
    buffer = .allocate(byteCount: Self.lineBytesMax + blockBytes, alignment: 16)
  }

  deinit {
    buffer.deallocate()
    try? file.close()
  }

  /// Whether a result is empty or ends with a complete line: with a newline, or with a complete JSON object. A
  /// truncated result must be refused, because an ID that is missing from it would count as clean.
  public static func endsWithCompleteLine(path: String) throws -> Bool {
    let file = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
    let tail = try file.closeAfter {
      let length = try file.seek(offset: 0, from: .end)
      let start = length - min(length, Int64(lineBytesMax))
      return try [UInt8](unsafeUninitializedCapacity: Int(length - start)) { buffer, count in
        while count < buffer.count {
          let read = try file.read(
            fromAbsoluteOffset: start + Int64(count),
            into: UnsafeMutableRawBufferPointer(
              rebasing: UnsafeMutableRawBufferPointer(buffer)[count...]))
          if read == 0 { break }
          count += read
        }
      }
    }
    guard let last = tail.last, last != 0x0A else { return true }
    let start = tail.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
    return tail[start...].withUnsafeBytes { LineScanner.isWholeObject($0) }
  }

  /// Reads the next block and calls `body` with each line that ends in it. At the end of the file, calls `body` with
  /// the last line if it has no newline.
  /// - Returns: false at the end of the file.
  public mutating func forEachLineOfNextBlock(_ body: (Line) throws -> Void) throws -> Bool {
    guard !isAtEnd else { return false }
    let read = try file.read(
      into: UnsafeMutableRawBufferPointer(rebasing: buffer[pending..<pending + blockBytes]))
    if read == 0 {
      isAtEnd = true
      try handOverRest(body)
      return false
    }
    bytes += read
    try handOverWholeLines(of: UnsafeRawBufferPointer(rebasing: buffer[..<(pending + read)]), body)
    return true
  }

  private mutating func handOverWholeLines(
    of filled: UnsafeRawBufferPointer, _ body: (Line) throws -> Void
  ) throws {
    var consumed = 0
    while let end = Self.newline(in: filled, from: consumed) {
      let line = UnsafeRawBufferPointer(rebasing: filled[consumed..<end])
      consumed = end + 1
      lineNumber += 1
      if let begin = longLine {
        longLine = nil
        try Self.handOver(begin, lineNumber, isTerminated: true, to: body)
      } else {
        try body(Self.line(lineNumber, line, isTerminated: true))
      }
    }
    let rest = UnsafeRawBufferPointer(rebasing: filled[consumed...])
    if longLine == nil, rest.count > Self.lineBytesMax {
      longLine = Array(rest.prefix(Self.lineBytesMax + 1))
    }
    pending = longLine == nil ? rest.count : 0
    // The source and the destination may overlap, and `memmove` allows that.
    if let base = buffer.baseAddress, let start = rest.baseAddress { memmove(base, start, pending) }
  }

  private mutating func handOverRest(_ body: (Line) throws -> Void) throws {
    let rest = longLine ?? Array(buffer[..<pending])
    guard !rest.isEmpty else { return }
    lineNumber += 1
    try Self.handOver(rest, lineNumber, isTerminated: false, to: body)
  }

  private static func handOver(
    _ bytes: [UInt8], _ number: Int, isTerminated: Bool, to body: (Line) throws -> Void
  ) throws {
    try bytes.withUnsafeBytes {
      try body(line(number, $0, isTerminated: isTerminated))
    }
  }

  private static func line(
    _ number: Int, _ bytes: UnsafeRawBufferPointer, isTerminated: Bool
  ) -> Line {
    let isTooLong = bytes.count > lineBytesMax
    return Line(
      number: number,
      bytes: isTooLong ? UnsafeRawBufferPointer(rebasing: bytes[..<lineBytesMax]) : bytes,
      isTooLong: isTooLong, isTerminated: isTerminated)
  }

  private static func newline(in buffer: UnsafeRawBufferPointer, from start: Int) -> Int? {
    guard start < buffer.count, let base = buffer.baseAddress,
      let found = memchr(base + start, 0x0A, buffer.count - start)
    else { return nil }
    return UnsafeRawPointer(found) - base
  }
}
