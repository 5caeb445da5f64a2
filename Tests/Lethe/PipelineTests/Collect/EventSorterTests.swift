import Foundation
import Results
import SystemPackage
import TestFiles
import Testing
import Vocabulary
import WorkFiles

@testable import CollectStage

/// The events of a result are sorted in bounded memory.
@Suite struct EventSorterTests {
  private static func event(_ id: Int64, _ reason: Reason, _ line: Int) -> EventSorter.Event {
    EventSorter.Event(
      Event(
        id: id, reason: reason,
        createdAt: id % 3 == 0 ? nil : Timestamp(microsecondsSince2000: id),
        redactedAt: id % 2 == 0 ? nil : Timestamp(microsecondsSince2000: -id)), line: line)
  }

  private static func all(_ merge: EventSorter.Merge) throws -> [String] {
    var merge = merge
    var texts: [String] = []
    while let event = try merge.next() {
      let times = [event.createdAt, event.redactedAt].map { $0.map(String.init) ?? "none" }
      texts.append("\(event.id) \(event.reason) \(event.line) \(times)")
    }
    return texts
  }

  @Test(arguments: 1...40)
  func eventsAreReturnedByIDAndLine(seed: Int) throws {
    var random = SeededGenerator(seed: SeededGenerator.seedOfTest() &+ UInt64(seed))
    let count = Int.random(in: 0...5000, using: &random)
    let runLength = [1, 2, 7, 1000, 4096, 10_000].randomElement(using: &random) ?? 1
    let idMax = Int64([3, 1000, Int.max].randomElement(using: &random) ?? 3)
    // A result can already be in order.
    var ids = (0..<count).map { _ in Int64.random(in: 1...idMax, using: &random) }
    if Bool.random(using: &random) { ids.sort() }
    try withTemporaryDirectory { directory in
      var sorter = EventSorter(path: directory.appending("events"), runLength: runLength)
      for (index, id) in ids.enumerated() {
        let reason = Reason.allCases[Int(id % Int64(Reason.allCases.count))]
        try sorter.append(Self.event(id, reason, index + 1))
      }
      let expected = ids.enumerated().sorted { ($0.element, $0.offset) < ($1.element, $1.offset) }
        .map { "\($0.element) \($0.offset + 1)" }
      let merged = try Self.all(sorter.sorted())
      #expect(
        merged.map { $0.split(separator: " ") }.map { "\($0[0]) \($0[2])" } == expected,
        "LETHE_SEED, case \(seed): \(count) events, runs of \(runLength)")
      // The events can be read again.
      #expect(try Self.all(sorter.sorted()) == merged)
      // The file has no name, so a crash leaves nothing.
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory.string) == [])
    }
  }

  @Test func theValuesOfAnEventAreKept() throws {
    try withTemporaryDirectory { directory in
      var sorter = EventSorter(path: directory.appending("events"), runLength: 1)
      for id in [Int64.max, 5, 6] { try sorter.append(Self.event(id, .geoScrubbed, 9)) }
      #expect(
        try Self.all(sorter.sorted()) == [
          "5 geoScrubbed 9 [\"5\", \"-5\"]", "6 geoScrubbed 9 [\"none\", \"none\"]",
          "\(Int64.max) geoScrubbed 9 [\"\(Int64.max)\", \"-\(Int64.max)\"]",
        ])
    }
  }

  @Test func aFileThatExistsIsNotOverwritten() throws {
    try withTemporaryDirectory { directory in
      let path = directory.appending("events")
      try Data("x".utf8).write(to: URL(filePath: path.string))
      var sorter = EventSorter(path: path, runLength: 1)
      try sorter.append(Self.event(1, .deleted, 1))
      let error = #expect(throws: WorkFileError.self) {
        try sorter.append(Self.event(2, .deleted, 2))
      }
      #expect(error?.errno == .fileExists)
      #expect(error?.path == path)
    }
  }
}
