import Foundation
import Results
import TestSupport
import Testing
import Vocabulary

/// Compares the scanner with Foundation's parser on mutated lines.
@Suite struct LineScannerFuzzTests {
  private static let samples = [
    #"{"id":"1265324480517361664","action":"delete","created_at":"2019-10-29T17:02:47.000Z","redacted_at":"2020-07-29T17:02:47.000Z","reason":"deleted"}"#,
    #"{"id":"906972199136698368","action":"scrub_geo","created_at":"2017-09-10T20:31:17.000Z","redacted_at":null,"reason":"geo_scrubbed"}"#,
    #"{"action" : "rehydrate", "reason":"tweet_edited" ,"id":12345, "extra":{"a":[1,2.5,-3e-2,{}],"b":null}}"#,
    #"{"id":"not_a_valid_id","error":"invalid_id"}"#,
    #"{"id":"5","action":"del\u0065te","reason":"deleted","t":"\uD83D\uDE00 é 😀 \\ \" \/ \n","u":[true,false]}"#,
    #"{"deleted_at":"2021-08-11T19:42:55Z","x":[[],[[]],{"y":{"z":0}}],"id":"7","action":"delete","reason":"bounced"}"#,
  ].map { Array($0.utf8) }

  private static let fragments = [
    "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u00e9", "\\u", "\\n", "null", "true", "false", "0",
    "-", ".", "e", "E", "+", "12", "-0.5e3", " ", "\t", "\r", "\n", "\"id\":\"1\"", "\"k\":1,", "é",
    "/", "'", "{}", "[]", "\"\"", "\u{1}", "\u{7F}", "😀", "\\ud800", "NaN", "//",
  ].map { Array($0.utf8) }

  private static func mutated(_ line: [UInt8], using random: inout SeededGenerator) -> [UInt8] {
    var line = line
    for _ in 0..<Int.random(in: 1...3, using: &random) {
      let index = Int.random(in: 0...line.count, using: &random)
      switch Int.random(in: 0..<6, using: &random) {
      case 0: line.insert(contentsOf: fragments.randomElement(using: &random)!, at: index)
      case 1:
        line.removeSubrange(
          index..<min(line.count, index + Int.random(in: 1...4, using: &random)))
      case 2 where index < line.count:
        line[index] = UInt8.random(in: 0x01...0xFF, using: &random)
      case 3: line.removeSubrange(index...)
      case 4 where index < line.count:
        let end = min(line.count, index + Int.random(in: 1...20, using: &random))
        line.insert(
          contentsOf: line[index..<end], at: Int.random(in: 0...line.count, using: &random))
      default:
        if index < line.count { line[index] = fragments.randomElement(using: &random)![0] }
      }
    }
    return line
  }

  private enum Verdict: Equatable {
    case wellFormed
    case malformed
    /// The scanner refuses the line before it reads the rest, so it does not check whether the line is well-formed
    /// JSON.
    case undecided
  }

  private static func verdict(_ line: [UInt8]) -> Verdict {
    switch scan(line) {
    case .event: return .wellFormed
    case .blank: return .malformed  // not an object
    case .error: return .wellFormed
    case .refused(let why, _):
      if why.hasSuffix(" appears twice") || why.hasSuffix(" is not a string") { return .undecided }
      let faults = ["not UTF-8", "not a JSON object", "something follows the JSON object"]
      return why.hasPrefix("malformed JSON") || faults.contains(why) ? .malformed : .wellFormed
    }
  }

  /// Foundation's verdict. Nil for lines that Foundation is known to read differently from RFC 8259 or the scanner:
  /// - Foundation refuses an escape of a lone surrogate. It is well-formed JSON, and the scanner replaces it.
  /// - Foundation accepts a comma before the end of an inner array or object. RFC 8259 does not allow it.
  /// - Foundation refuses numbers outside the range of a Double. The scanner only skips them.
  /// - Foundation reads UTF-16 and UTF-32 and skips a byte order mark. A result is UTF-8 without a byte order mark.
  ///
  /// Foundation allows 512 levels of nesting, and the scanner allows 16. The mutations reach neither limit.
  private static func foundationVerdict(_ line: [UInt8]) -> Verdict? {
    if line.prefix(4).contains(0)
      || [[0xEF, 0xBB], [0xFE, 0xFF], [0xFF, 0xFE]].contains(Array(line.prefix(2)))
    {
      return nil
    }
    let text = String(decoding: line, as: UTF8.self).lowercased()
    if text.contains(/,\s*[\]}]/) { return nil }
    if text.contains("\\ud") || text.contains(/[0-9]e\+?[0-9]{3}/) { return nil }
    let object = try? JSONSerialization.jsonObject(with: Data(line), options: .fragmentsAllowed)
    return object is [String: Any] ? .wellFormed : .malformed
  }

  @Test(arguments: [11, 12, 13, 14] as [UInt64])
  func theScannerAndFoundationAgreeWhichLinesAreJSONObjects(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var counts = (wellFormed: 0, malformed: 0)
    for round in 0..<50_000 {
      let line = Self.mutated(Self.samples.randomElement(using: &random)!, using: &random)
      let verdict = Self.verdict(line)
      guard verdict != .undecided, let expected = Self.foundationVerdict(line) else { continue }
      if verdict == .wellFormed { counts.wellFormed += 1 } else { counts.malformed += 1 }
      try #require(
        verdict == expected,
        "seed \(seed), round \(round): \(String(decoding: line, as: UTF8.self).debugDescription)")
    }
    // The mutations must result in many lines of both kinds. Otherwise, the test compares almost nothing.
    #expect(counts.wellFormed > 5_000)
    #expect(counts.malformed > 15_000)
  }

  /// An event from a mutated line has the values that Foundation reads in that line.
  @Test(arguments: [21, 22] as [UInt64])
  func anEventHasTheValuesThatFoundationReads(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var events = 0
    for round in 0..<30_000 {
      let line = Self.mutated(Self.samples.randomElement(using: &random)!, using: &random)
      guard case .event(let event) = scan(line), Self.foundationVerdict(line) == .wellFormed else {
        continue
      }
      events += 1
      let object = try #require(
        try JSONSerialization.jsonObject(with: Data(line)) as? [String: Any])
      let comment = Comment(
        rawValue: "seed \(seed), round \(round): \(String(decoding: line, as: UTF8.self))")
      let id =
        (object["id"] as? String).flatMap { Int64($0) } ?? (object["id"] as? NSNumber)?.int64Value
      #expect(id == event.id, comment)
      #expect((object["reason"] as? String).flatMap { Reason(word: $0) } == event.reason, comment)
      let at = ["redacted_at", "deleted_at"].compactMap { object[$0] as? String }.first
      #expect(at.flatMap { Timestamp($0) } == event.redactedAt, comment)
      #expect(!(object["error"] is String), comment)
      let isGeo = event.reason == .geoScrubbed
      let isEdit = event.reason == .tweetEdited
      let actions = isEdit ? ["rehydrate"] : isGeo ? ["scrub_geo", "delete"] : ["delete"]
      #expect(actions.contains(object["action"] as? String ?? ""), comment)
    }
    #expect(events > 1_000)
  }
}
