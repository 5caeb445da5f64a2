import Checksums
import ChunkFiles
import Foundation
import SystemPackage
import TestSupport
import Testing

@Suite struct ChunkIndexTests {
  private static func withChunk(
    of ids: [Int64], _ body: (ChunkFile) throws -> Void
  ) throws {
    try withTemporaryDirectory { directory in
      var cutter = try ChunkCutter(
        directory: directory, prefix: "c", limits: ChunkLimits(ids: .max, bytes: .max))
      _ = try cutter.append(ids)
      try body(#require(try cutter.finish()))
    }
  }

  private static func write(_ bytes: [UInt8], to chunk: ChunkFile) throws {
    try Data(bytes).write(to: URL(fileURLWithPath: chunk.path.string))
  }

  /// The index has blocks of 256 IDs. Some of the counts are just below or above a multiple of 256.
  @Test(arguments: [1, 2, 255, 256, 257, 511, 512, 513, 1000])
  func theIndexContainsTheIDsOfTheChunkAndNoOthers(count: Int) throws {
    let ids = (1...count).map { Int64($0) * 10 }
    try Self.withChunk(of: ids) { chunk in
      let index = try ChunkIndex(verifying: chunk)
      for id in ids {
        #expect(try index.contains(id))
        #expect(try !index.contains(id - 1))
        #expect(try !index.contains(id + 1))
      }
      for id in [Int64.min, -10, -1, 0, Int64.max] {
        #expect(try !index.contains(id))
      }
    }
  }

  @Test(arguments: [1, 2, 3, 4] as [UInt64])
  func lookUpsInAnyOrderHaveTheSameResultAsInASet(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    // The IDs are dense around some numbers and sparse elsewhere, with one to nineteen digits.
    var set: Set<Int64> = [1, .max]
    while set.count < 5_000 {
      let digits = Int.random(in: 0...18, using: &random)
      let base = Int64.random(in: 1...9, using: &random) * Int64(pow(10, Double(digits)))
      for _ in 0..<Int.random(in: 1...40, using: &random) {
        let id = base &+ Int64.random(in: 0...100, using: &random)
        if id > 0 { set.insert(id) }
      }
    }
    try Self.withChunk(of: set.sorted()) { chunk in
      let index = try ChunkIndex(verifying: chunk)
      var lookUps = set.flatMap { [$0, $0 &+ 1, $0 &- 1] }
      lookUps += (0..<2_000).map { _ in Int64.random(in: .min ... .max, using: &random) }
      for order in [lookUps.sorted(), lookUps.sorted(by: >), lookUps.shuffled(using: &random)] {
        for id in order {
          try #require(try index.contains(id) == set.contains(id), "\(id), seed \(seed)")
        }
      }
    }
  }

  /// Each content differs from the exported file in one point. The recorded checksum shows the difference.
  @Test(arguments: [
    ("another digit", "10\n21\n30\n"), ("one row fewer", "10\n20\n"),
    ("one row more", "10\n20\n30\n40\n"),
    ("cut within a row", "10\n20\n3"), ("no last newline", "10\n20\n30"), ("empty", ""),
    ("CRLF", "10\r\n20\r\n30\r\n"), ("another order", "20\n10\n30\n"),
    ("a blank line", "10\n20\n\n30\n"),
  ])
  func aFileThatDiffersFromTheExportedFileIsReportedAsLost(what: String, content: String) throws {
    try Self.withChunk(of: [10, 20, 30]) { chunk in
      _ = try ChunkIndex(verifying: chunk)
      try Self.write(Array(content.utf8), to: chunk)
      Self.expectLost(chunk, "the chunk's file differs from the exported file")
    }
  }

  @Test(arguments: [1, 2] as [UInt64])
  func aFlippedBitIsDetected(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    try Self.withChunk(of: (1...2_000).map { Int64($0) * 7 }) { chunk in
      let bytes = try ChunkCutterTests.bytes(of: chunk)
      for _ in 0..<20 {
        var changed = bytes
        let position = Int.random(in: 0..<bytes.count, using: &random)
        changed[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        try Self.write(changed, to: chunk)
        Self.expectLost(chunk, "the chunk's file differs from the exported file")
      }
      try Self.write(bytes, to: chunk)
      _ = try ChunkIndex(verifying: chunk)
    }
  }

  @Test func aMissingChunkFileIsReportedAsLost() throws {
    try Self.withChunk(of: [10]) { chunk in
      try FileManager.default.removeItem(atPath: chunk.path.string)
      Self.expectLost(chunk, "cannot read the chunk's file: ")
    }
  }

  @Test func aChunkFileWithAnotherNumberOfIDsIsReportedAsLost() throws {
    try Self.withChunk(of: [10, 20]) { chunk in
      let wrong = ChunkFile(
        path: chunk.path, number: 1, firstID: 10, lastID: 20, ids: 3, bytes: chunk.bytes,
        sha256: chunk.sha256)
      Self.expectLost(wrong, "the chunk's file differs from the exported file")
    }
  }

  private static func expectLost(_ chunk: ChunkFile, _ message: String) {
    do {
      _ = try ChunkIndex(verifying: chunk)
      Issue.record("the file was accepted")
    } catch let error as ChunkFileError {
      #expect(error.code == .lost)
      #expect(error.message.hasPrefix(message))
      #expect(error.path == chunk.path)
      #expect("\(error)".hasPrefix(chunk.path.string))
    } catch {
      Issue.record("\(error)")
    }
  }

  /// If a cleanup removes the file, the index still works, because an open file stays readable.
  @Test func theIndexWorksAfterTheFileWasRemoved() throws {
    try Self.withChunk(of: (1...1_000).map { Int64($0) }) { chunk in
      let index = try ChunkIndex(verifying: chunk)
      try FileManager.default.removeItem(atPath: chunk.path.string)
      #expect(try index.contains(1_000))
      #expect(try !index.contains(1_001))
    }
  }
}
