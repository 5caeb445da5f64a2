import Foundation
import TestSupport
import Testing
import Vocabulary

@Suite struct TimestampTests {
  /// The expected values are in PostgreSQL's unit, microseconds since 2000-01-01 00:00 UTC.
  @Test(arguments: [
    ("2000-01-01T00:00:00Z", 0),
    ("2000-01-01T00:00:00.000001Z", 1),
    ("1999-12-31T23:59:59.999999Z", -1),
    ("2021-08-11T19:42:55.000Z", 682_026_175_000_000),
    ("2021-08-11T19:42:55Z", 682_026_175_000_000),
    ("2019-03-02T03:37:59+00:00", 604_813_079_000_000),
    ("2019-03-01T19:37:59-08:00", 604_813_079_000_000),
    ("2019-03-01T19:37:59-0800", 604_813_079_000_000),
    ("2019-03-02T09:22:59+05:45", 604_813_079_000_000),
    ("2019-03-02 03:37:59z", 604_813_079_000_000),
    ("2019-03-02t03:37:59Z", 604_813_079_000_000),
    ("2000-01-01T00:00:00.5Z", 500_000),
    ("2000-01-01T00:00:00.1234567899Z", 123_456),
    ("2000-01-01T00:00:60Z", 60_000_000),
    ("2000-02-29T00:00:00Z", 59 * 86_400_000_000),
    ("1970-01-01T00:00:00Z", -946_684_800_000_000),
  ])
  func everyTimeFormatOfTheAPIIsRead(text: String, microseconds: Int64) {
    #expect(Timestamp(text)?.microsecondsSince2000 == microseconds)
    let bytes = Array(text.utf8)
    #expect(bytes.withUnsafeBytes { Timestamp($0) }?.microsecondsSince2000 == microseconds)
  }

  @Test(arguments: [
    "", "2021", "2021-08-11", "2021-08-11T19:42:55", "2021-08-11T19:42Z", "21-08-11T19:42:55Z",
    "2021-8-11T19:42:55Z", "2021-00-11T19:42:55Z", "2021-13-11T19:42:55Z", "2021-08-00T19:42:55Z",
    "2021-08-32T19:42:55Z", "2021-04-31T00:00:00Z", "2021-02-29T00:00:00Z", "1900-02-29T00:00:00Z",
    "2021-08-11T24:00:00Z", "2021-08-11T19:60:55Z", "2021-08-11T19:42:61Z", "2021-08-11T19:42:55.Z",
    "2021-08-11T19:42:55,5Z", "2021-08-11T19:42:55Zx", " 2021-08-11T19:42:55Z",
    "2021-08-11T19:42:55Z ", "2021-08-11T19:42:55+0", "2021-08-11T19:42:55+08",
    "2021-08-11T19:42:55+08:", "2021-08-11T19:42:55+24:00", "2021-08-11T19:42:55+08:60",
    "2021-08-11T19:42:55 Z", "2021/08/11T19:42:55Z", "-2021-08-11T19:42:55Z",
    "２０２１-08-11T19:42:55Z", "2021-08-11T19:42:55\u{0}Z",
  ])
  func anInvalidTimeIsRefused(text: String) {
    #expect(Timestamp(text) == nil)
    let bytes = Array(text.utf8)
    #expect(bytes.withUnsafeBytes { Timestamp($0) } == nil)
  }

  @Test(arguments: [1, 2, 3, 4] as [UInt64])
  func randomDatesHaveTheValuesThatFoundationReads(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    for _ in 0..<2_500 {
      // The dates include days that do not exist. Both parsers must refuse these days.
      let year = Int.random(in: 1583...2999, using: &random)
      let month = Int.random(in: 1...12, using: &random)
      let day = Int.random(in: 1...31, using: &random)
      let clock = (0..<3).map { Int.random(in: 0...($0 == 0 ? 23 : 59), using: &random) }
      let milliseconds = Int.random(in: 0...999, using: &random)
      let offset = [
        "Z", "+00:00", "-08:00", "+05:45", "+14:00", "-11:30",
      ].randomElement(using: &random)!
      let text = String(
        format: "%04d-%02d-%02dT%02d:%02d:%02d.%03d", year, month, day, clock[0], clock[1],
        clock[2], milliseconds)
      var calendar = Calendar(identifier: .gregorian)
      calendar.timeZone = try #require(TimeZone(secondsFromGMT: Self.seconds(offset)))
      let parts = DateComponents(
        calendar: calendar, year: year, month: month, day: day, hour: clock[0], minute: clock[1],
        second: clock[2])
      let expected = parts.isValidDate ? calendar.date(from: parts) : nil
      let microseconds = expected.map {
        (Int64($0.timeIntervalSince1970.rounded()) - 946_684_800) * 1_000_000
          + Int64(milliseconds) * 1000
      }
      #expect(
        Timestamp(text + offset)?.microsecondsSince2000 == microseconds,
        "\(text + offset), seed \(seed)")
    }
  }

  private static func seconds(_ offset: String) -> Int {
    guard offset != "Z" else { return 0 }
    let parts = offset.dropFirst().split(separator: ":").compactMap { Int($0) }
    return (offset.hasPrefix("-") ? -60 : 60) * (parts[0] * 60 + parts[1])
  }

  @Test func everyDayOfFourCenturiesFollowsThePreviousDay() throws {
    var previous = try #require(Timestamp("1799-12-31T12:00:00Z"))
    var days = 0
    for year in 1800..<2200 {
      for month in 1...12 {
        for day in 1...31 {
          let text = String(format: "%04d-%02d-%02dT12:00:00Z", year, month, day)
          guard let timestamp = Timestamp(text) else { continue }
          let step = timestamp.microsecondsSince2000 - previous.microsecondsSince2000
          try #require(step == 86_400_000_000, "\(text)")
          previous = timestamp
          days += 1
        }
      }
    }
    #expect(days == 146_097)
  }

  @Test func timesAreOrderedAndCountedFrom1970() throws {
    let early = try #require(Timestamp("1970-01-01T00:00:01.5Z"))
    let late = try #require(Timestamp("1970-01-01T00:00:01.500001Z"))
    #expect(early < late)
    #expect(!(late < early))
    #expect(early.secondsSince1970 == 1.5)
  }
}
