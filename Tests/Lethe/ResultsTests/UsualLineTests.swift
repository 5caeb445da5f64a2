import TestSupport
import Testing
import Vocabulary

@testable import Results

/// Compares the two ways to read a line. Each line that the fast one reads must have the values that the slow one reads.
@Suite struct UsualLineTests {
  private static let words = [
    "deleted", "bounced", "suspended", "deactivated", "protected", "scrub_geo", "geo_scrubbed",
    "tweet_edited", "delete", "rehydrate", "unknown", "", "deleteD", "scrub_gerehydrate",
    "protectedeleted",
  ]
  private static let times = [
    "2021-08-11T19:42:55.000Z", "2024-02-29T23:59:60.999Z", "2023-02-29T00:00:00.000Z",
    "2021-13-01T00:00:00.000Z", "2021-00-10T00:00:00.000Z", "2021-04-31T00:00:00.000Z",
    "2021-08-11T24:00:00.000Z", "2021-08-11T00:60:00.000Z", "2021-08-11T00:00:61.000Z",
    "0000-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z", "1999-12-31T23:59:59.001Z",
    "2021-08-11t19:42:55.000z", "2021-08-11T19:42:55+00:00", "2021-08-11T19:42:55.12345Z",
    "2021:08-11T19:42:55.000Z", "2021-08-11 19:42:55.000Z", "2021-08-11T19:42:5:.000Z", "",
  ]

  private static func id(_ random: inout SeededGenerator) -> String {
    let digits = (0..<Int.random(in: 1...21, using: &random)).map { _ in
      "\(Int.random(in: 0...9, using: &random))"
    }
    return ["\(Int64.max)", "9223372036854775808", "0", digits.joined(), digits.joined()]
      .randomElement(using: &random)!
  }

  /// A word, or the beginning of one and the end of another.
  private static func word(_ random: inout SeededGenerator) -> String {
    let word = words.randomElement(using: &random)!
    guard Int.random(in: 0..<3, using: &random) == 0 else { return word }
    let other = words.randomElement(using: &random)!
    return String(word.prefix(Int.random(in: 0...8, using: &random)))
      + other.dropFirst(Int.random(in: 0...other.count, using: &random))
  }

  private static func line(_ random: inout SeededGenerator) -> String {
    var members = [
      #""id":"\#(id(&random))""#, #""action":"\#(word(&random))""#,
      #""reason":"\#(word(&random))""#,
    ]
    for key in ["created_at", "redacted_at", "deleted_at"]
    where Int.random(in: 0..<4, using: &random) > 0 {
      members.append(#""\#(key)":"\#(times.randomElement(using: &random)!)""#)
    }
    if Int.random(in: 0..<6, using: &random) == 0 {
      members.append(members.randomElement(using: &random)!)
    }
    if Int.random(in: 0..<6, using: &random) == 0 {
      members.removeLast(Int.random(in: 1...2, using: &random))
    }
    return "{" + members.shuffled(using: &random).joined(separator: ",") + "}"
  }

  private static func usual(_ random: inout SeededGenerator) -> String {
    let (action, reason) = [
      ("delete", "deleted"), ("delete", "protected"), ("delete", "suspended"),
      ("delete", "deactivated"), ("delete", "bounced"), ("scrub_geo", "scrub_geo"),
      ("rehydrate", "tweet_edited"),
    ].randomElement(using: &random)!
    return [
      #""id":"\#(Int64.random(in: 1...Int64.max, using: &random))""#, #""action":"\#(action)""#,
      #""created_at":"2021-08-11T19:42:55.123Z""#, #""redacted_at":"2026-02-28T00:00:09.007Z""#,
      #""reason":"\#(reason)""#,
    ].joined(separator: ",").wrapped
  }

  private static func expectSame(_ line: [UInt8], _ type: JobType, _ seed: UInt64) throws -> Bool {
    let scanner = LineScanner(type: type)
    return try line.withUnsafeBytes { bytes in
      let (scanned, expected) = (scanner.scan(bytes), scanner.scanByBytes(bytes))
      try #require(
        scanned == expected,
        "seed \(seed), \(type): \(String(decoding: line, as: UTF8.self).debugDescription)")
      return UsualLine(bytes) != nil
    }
  }

  @Test(arguments: [JobType.tweets, .users])
  func bothWaysReadTheSame(type: JobType) throws {
    let seed = SeededGenerator.seedOfTest()
    var random = SeededGenerator(seed: seed)
    var usual = 0
    for _ in 0..<10_000 {
      if try Self.expectSame(Array(Self.line(&random).utf8), type, seed) { usual += 1 }
    }
    #expect(usual > 2, "LETHE_SEED=\(seed)")
  }

  /// Each pair of an action and a reason, also of those that consist of parts of several words.
  @Test(arguments: [JobType.tweets, .users])
  func allPairsOfWordsAreReadTheSame(type: JobType) throws {
    for action in Self.words + ["scrub_gerehydrate", "rehydratdelete", "scrub_gedelete"] {
      for reason in Self.words {
        let line = #"{"id":"1","action":"\#(action)","reason":"\#(reason)"}"#
        _ = try Self.expectSame(Array(line.utf8), type, 0)
      }
    }
  }

  /// Every line of the API's form is read fast, and no change of one byte leads to other values.
  @Test func aChangedByteIsNotOverlooked() throws {
    let seed = SeededGenerator.seedOfTest()
    var random = SeededGenerator(seed: seed)
    for _ in 0..<20 {
      let line = Array(Self.usual(&random).utf8)
      let isUsual = try Self.expectSame(line, .tweets, seed)
      #expect(isUsual, "LETHE_SEED=\(seed)")
      for index in line.indices {
        var changed = line
        changed[index] = UInt8.random(in: 0...255, using: &random)
        _ = try Self.expectSame(changed, .tweets, seed)
        changed[index] = line[index] ^ 1 << UInt8.random(in: 0...7, using: &random)
        _ = try Self.expectSame(changed, .tweets, seed)
        _ = try Self.expectSame(Array(line[..<index]), .tweets, seed)
        _ = try Self.expectSame(Array(line[..<index]) + line[(index + 1)...], .tweets, seed)
      }
    }
  }
}

extension String {
  fileprivate var wrapped: String { "{\(self)}" }
}
