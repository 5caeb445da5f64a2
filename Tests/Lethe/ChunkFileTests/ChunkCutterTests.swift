import Checksums
import ChunkFiles
import Foundation
import SystemPackage
import TestSupport
import Testing
import WorkFiles

@Suite struct ChunkCutterTests {
  static func rows(_ ids: [Int64]) -> [UInt8] {
    Array(ids.map { "\($0)\n" }.joined().utf8)
  }

  static func bytes(of chunk: ChunkFile) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: URL(fileURLWithPath: chunk.path.string)))
  }

  private static func names(in directory: FilePath) throws -> Set<String> {
    Set(try FileManager.default.contentsOfDirectory(atPath: directory.string))
  }

  /// Cuts chunks from IDs that arrive in the given pieces.
  private static func cut(
    _ pieces: [[Int64]], in directory: FilePath, ids: Int = .max, bytes: Int = .max,
    firstNumber: Int = 1
  ) throws -> [ChunkFile] {
    var cutter = try ChunkCutter(
      directory: directory, prefix: "posts", limits: ChunkLimits(ids: ids, bytes: bytes),
      firstNumber: firstNumber)
    var chunks: [ChunkFile] = []
    for piece in pieces { chunks += try cutter.append(piece) }
    if let last = try cutter.finish() { chunks.append(last) }
    let rest = try cutter.finish()
    #expect(rest == nil)
    return chunks
  }

  /// Expects that the content of a chunk's file consists of the IDs, and that the chunk's record matches the content.
  private static func expectMatch(_ chunk: ChunkFile, ids: [Int64]) throws {
    let content = try bytes(of: chunk)
    #expect(content.elementsEqual(rows(ids)))
    #expect(chunk.sha256 == SHA256.hash(content))
    #expect(chunk.bytes == content.count)
    #expect(chunk.ids == ids.count)
    #expect(chunk.firstID == ids.first)
    #expect(chunk.lastID == ids.last)
  }

  @Test(
    arguments: [
      (1, [[1], [2], [3], [4], [5]]), (2, [[1, 2], [3, 4], [5]]), (5, [[1, 2, 3, 4, 5]]),
      (6, [[1, 2, 3, 4, 5]]),
    ] as [(Int, [[Int64]])])
  func aChunkHasAsManyIDsAsTheLimitAllows(limit: Int, expected: [[Int64]]) throws {
    try withTemporaryDirectory { directory in
      let chunks = try Self.cut([[1, 2, 3, 4, 5]], in: directory, ids: limit)
      #expect(chunks.map(\.number) == Array(1...expected.count))
      for (chunk, ids) in zip(chunks, expected) { try Self.expectMatch(chunk, ids: ids) }
    }
  }

  /// The rows 8 and 9 have two bytes each. The rows from 10 on have three bytes each.
  @Test(
    arguments: [
      (4, [[8, 9], [10], [11]]), (6, [[8, 9], [10, 11]]), (7, [[8, 9, 10], [11]]),
      (9, [[8, 9, 10], [11]]), (10, [[8, 9, 10, 11]]), (1, [[8], [9], [10], [11]]),
    ] as [(Int, [[Int64]])])
  func aChunkHasAsManyBytesAsTheLimitAllowsAndAtLeastOneID(limit: Int, expected: [[Int64]]) throws {
    try withTemporaryDirectory { directory in
      let chunks = try Self.cut([[8, 9, 10, 11]], in: directory, bytes: limit)
      try #require(chunks.count == expected.count)
      for (chunk, ids) in zip(chunks, expected) { try Self.expectMatch(chunk, ids: ids) }
    }
  }

  @Test func aRepeatedIDIsWrittenOnlyOnceEvenAcrossBlocksAndChunks() throws {
    try withTemporaryDirectory { directory in
      let pieces = [[1, 1, 2], [2], [2, 3, 3], [3, 4]] as [[Int64]]
      let chunks = try Self.cut(pieces, in: directory, ids: 2)
      try #require(chunks.count == 2)
      try Self.expectMatch(chunks[0], ids: [1, 2])
      try Self.expectMatch(chunks[1], ids: [3, 4])
    }
  }

  @Test(arguments: [1, 2, 3, 4] as [UInt64])
  func theSizesOfTheInputBlocksDoNotMatter(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var ids: [Int64] = []
    var last: Int64 = 0
    for _ in 0..<3_000 {
      last += Int64.random(in: 0...50_000_000_000_000, using: &random) / (last > 1 << 62 ? 1000 : 1)
      ids.append(max(1, last))
    }
    let unique = ids.reduce(into: [Int64]()) { if $0.last != $1 { $0.append($1) } }
    let limits = (
      ids: Int.random(in: 100...1000, using: &random),
      bytes: Int.random(in: 2_000...9_000, using: &random)
    )
    var pieces: [[Int64]] = []
    var rest = ids[...]
    while !rest.isEmpty {
      let count = min(rest.count, Int.random(in: 0...400, using: &random))
      pieces.append(Array(rest.prefix(count)))
      rest = rest.dropFirst(count)
    }
    try withTemporaryDirectory { directory in
      let whole = try Self.cut(
        [ids], in: directory.appending("whole"), ids: limits.ids, bytes: limits.bytes)
      let cut = try Self.cut(
        pieces, in: directory.appending("pieces"), ids: limits.ids, bytes: limits.bytes)
      #expect(whole.map(\.sha256) == cut.map(\.sha256))
      #expect(whole.count > 3)
      let content = try cut.flatMap { try Self.bytes(of: $0) }
      #expect(content == Self.rows(unique), "seed \(seed)")
      for (chunk, next) in zip(cut, cut.dropFirst()) {
        #expect(chunk.ids <= limits.ids && chunk.bytes <= limits.bytes)
        // One more row would have exceeded the limit.
        let nextRow = "\(next.firstID)\n".utf8.count
        #expect(chunk.ids == limits.ids || chunk.bytes + nextRow > limits.bytes)
        #expect(chunk.lastID < next.firstID)
      }
    }
  }

  /// The chunk is larger than the write buffer.
  @Test func aLargeChunkIsWrittenCompletely() throws {
    try withTemporaryDirectory { directory in
      let ids = (0..<200_000).map { 1_000_000_000_000_000_000 + Int64($0) * 3 }
      let chunks = try Self.cut([ids], in: directory)
      try #require(chunks.count == 1)
      try Self.expectMatch(chunks[0], ids: ids)
    }
  }

  @Test(
    arguments: [
      ([2, 1], "the IDs do not ascend: 1 comes after 2"),
      ([10, 9], "the IDs do not ascend: 9 comes after 10"), ([0], "not an ID: 0"),
      ([0, 0], "not an ID: 0"), ([-1], "not an ID: -1"), ([1, -1], "not an ID: -1"),
      ([.min], "not an ID: -9223372036854775808"),
    ] as [([Int64], String)])
  func valuesThatAreNotAscendingIDsAreRefused(ids: [Int64], message: String) throws {
    try withTemporaryDirectory { directory in
      var cutter = try ChunkCutter(
        directory: directory, prefix: "posts", limits: ChunkLimits(ids: 9, bytes: 99))
      do {
        _ = try cutter.append(ids)
        Issue.record("\(ids) was accepted")
      } catch let error as ChunkFileError {
        #expect(error.code == .input)
        #expect(error.message == message)
        #expect(error.path == directory)
      }
      cutter.abandon()
      #expect(!FileManager.default.fileExists(atPath: directory.string))
    }
  }

  /// The digits are compared with those of the standard library: at both sides of each power of ten, and for random IDs of
  /// every length.
  @Test(arguments: [1, 2] as [UInt64])
  func theDigitsOfEveryIDAreRight(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var ids: Set<Int64> = [.max, .max - 1]
    var power: Int64 = 1
    for _ in 1...19 {
      ids.formUnion([power, power + 1, max(power - 1, 1)])
      let end = power.multipliedReportingOverflow(by: 10)
      for _ in 0..<500 {
        ids.insert(
          Int64.random(in: power...(end.overflow ? .max : end.partialValue), using: &random))
      }
      power = end.overflow ? power : end.partialValue
    }
    let ascending = ids.sorted()
    try withTemporaryDirectory { directory in
      let chunks = try Self.cut([ascending], in: directory)
      try Self.expectMatch(#require(chunks.first), ids: ascending)
    }
  }

  @Test func theLargestIDIsAccepted() throws {
    try withTemporaryDirectory { directory in
      let chunks = try Self.cut([[1, .max]], in: directory)
      try Self.expectMatch(#require(chunks.first), ids: [1, .max])
    }
  }

  @Test func aDescendingIDIsDetectedAcrossBlocksAndChunks() throws {
    try withTemporaryDirectory { directory in
      var cutter = try ChunkCutter(
        directory: directory, prefix: "posts", limits: ChunkLimits(ids: 1, bytes: 99))
      let first = try cutter.append([5, 6])
      #expect(first.count == 1)
      do {
        _ = try cutter.append([5])
        Issue.record("a descending ID was accepted")
      } catch let error as ChunkFileError {
        #expect(error.message == "the IDs do not ascend: 5 comes after 6")
      }
      cutter.abandon()
    }
  }

  @Test func chunkNumbersContinueFromTheFirstNumberAndAreInTheFileNames() throws {
    try withTemporaryDirectory { directory in
      let inner = directory.appending("made/if/missing")
      let chunks = try Self.cut([[1, 2, 3]], in: inner, ids: 1, firstNumber: 999_999)
      #expect(chunks.map(\.number) == [999_999, 1_000_000, 1_000_001])
      #expect(
        chunks.map { $0.path.lastComponent?.string ?? "" } == [
          "posts-999999.ids", "posts-1000000.ids", "posts-1000001.ids",
        ])
    }
  }

  @Test func withoutRowsNoFileIsCreated() throws {
    try withTemporaryDirectory { directory in
      let chunks = try Self.cut([[]], in: directory)
      #expect(chunks.isEmpty)
      let names = try Self.names(in: directory)
      #expect(names.isEmpty)
    }
  }

  @Test func aFileGetsItsNameOnlyWhenItIsComplete() throws {
    try withTemporaryDirectory { directory in
      var cutter = try ChunkCutter(
        directory: directory, prefix: "posts", limits: ChunkLimits(ids: 2, bytes: 99))
      _ = try cutter.append([1, 2])
      #expect(try Self.names(in: directory) == ["posts-000001.ids.partial"])
      _ = try cutter.append([3])
      #expect(
        try Self.names(in: directory) == ["posts-000001.ids", "posts-000002.ids.partial"])
      cutter.abandon()
      #expect(try Self.names(in: directory) == ["posts-000001.ids"])
      cutter.abandon()
      let rest = try cutter.finish()
      #expect(rest == nil)
      #expect(try Self.names(in: directory) == ["posts-000001.ids"])
    }
  }

  @Test func aFileThatACrashLeftIsOverwritten() throws {
    try withTemporaryDirectory { directory in
      for name in ["posts-000001.ids", "posts-000001.ids.partial"] {
        try Data("garbage of an earlier attempt\n".utf8)
          .write(to: URL(fileURLWithPath: directory.appending(name).string))
      }
      let chunks = try Self.cut([[7]], in: directory)
      try Self.expectMatch(#require(chunks.first), ids: [7])
      #expect(try Self.names(in: directory) == ["posts-000001.ids"])
    }
  }

  @Test func aChunkThatCannotGetItsNameLeavesNoFile() throws {
    try withTemporaryDirectory { directory in
      let taken = directory.appending("posts-000001.ids")
      try FileManager.default.createDirectory(
        atPath: taken.string, withIntermediateDirectories: false)
      var cutter = try ChunkCutter(
        directory: directory, prefix: "posts", limits: ChunkLimits(ids: 9, bytes: 99))
      _ = try cutter.append([1])
      do {
        _ = try cutter.finish()
        Issue.record("a folder was replaced by a file")
      } catch let error as WorkFileError {
        #expect(error.operation == .write)
        #expect(error.path == taken)
        #expect(error.remedy.contains("free space"))
      }
      #expect(try Self.names(in: directory) == ["posts-000001.ids"])
    }
  }
}
