import Foundation
import Runtime
import TestSupport
import Testing

/// The conclusions that are allowed if a result does not name an ID.
@Suite struct SilenceTests {
  /// A result, and the conclusions that are allowed from it.
  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let body: [UInt8]
    var contentType: String?
    /// The reasons of the events that Lethe must record, by ID.
    var events: [Int64: String] = [:]
    /// The IDs for which silence has no meaning. Nil means all IDs.
    var unclear: Set<Int64>? = []
    var quarantined = 0

    init(
      _ what: String, _ body: String, end: [UInt8] = [], type: String? = nil,
      events: [Int64: String] = [:], unclear: Set<Int64>? = [], quarantined: Int = 0
    ) {
      testDescription = what
      self.body = Array(body.utf8) + end
      contentType = type
      self.events = events
      self.unclear = unclear
      self.quarantined = quarantined
    }

    var expected: SilenceFixture.Outcome {
      let named = Set(events.keys)
      let silent = unclear.map { SilenceFixture.posts.subtracting(named).subtracting($0) } ?? []
      let older = SilenceFixture.deletedBefore.union(SilenceFixture.protectedBefore)
      let releasing = Set(events.filter { $0.value == "geo_scrubbed" }.keys)
        .subtracting(unclear ?? [])
      let released = SilenceFixture.protectedBefore.intersection(silent.union(releasing))
      let supersededIDs = older.intersection(named.union(silent))
      let deleted = named.filter { events[$0] == "deleted" }
      var outcome = SilenceFixture.Outcome()
      outcome.events = named
      outcome.supersededIDs = supersededIDs
      outcome.checked = unclear == nil ? [] : silent.union(named)
      outcome.released = released
      outcome.reportedClean = silent
      outcome.left = SilenceFixture.posts.subtracting(deleted)
        .subtracting(SilenceFixture.deletedBefore.subtracting(supersededIDs))
      outcome.quarantined = quarantined
      return outcome
    }
  }

  private static func line(_ id: String, _ rest: String) -> String {
    #"{"id":"\#(id)",\#(rest)}"# + "\n"
  }
  private static func withheld(_ id: Int64) -> String {
    line("\(id)", #""action":"delete","reason":"withheld""#)
  }
  private static func invalid(_ id: String) -> String { line(id, #""error":"invalid_id""#) }
  private static func geo(_ id: Int64) -> String {
    CollectTests.event(id, "scrub_geo", "geo_scrubbed")
  }
  private static let good = CollectTests.event(8) + geo(6)
  private static let goodEvents: [Int64: String] = [8: "deleted", 6: "geo_scrubbed"]

  private static let trusted: [Case] = [
    Case("an empty result", ""),
    Case("blank lines", "\n\r\n  \n\n"),
    Case("valid lines without 5", good, events: goodEvents),
    Case(
      "CR LF, and blank lines between", "\r\n" + good.replacing("\n", with: "\r\n \n"),
      events: goodEvents),
    Case("the last line without a newline", String(good.dropLast()), events: goodEvents),
    Case("as application/octet-stream", good, type: "application/octet-stream", events: goodEvents),
    Case("as text", good, type: "Text/Plain; charset=utf-8", events: goodEvents),
    Case("as JSON", good, type: "application/json", events: goodEvents),
    Case("as NDJSON", good, type: "application/x-ndjson", events: goodEvents),
    Case("as an unknown type", good, type: "html", events: goodEvents),
    Case("a lost location of a protected post", geo(19), events: [19: "geo_scrubbed"]),
    Case("the same line twice", CollectTests.event(8) + good, events: goodEvents),
    Case(
      "an ID outside the chunk", good + CollectTests.event(77), events: goodEvents,
      quarantined: 1),
    Case(
      "an unknown reason for an ID outside the chunk", good + withheld(77), events: goodEvents,
      quarantined: 1),
  ]

  private static let partlyTrusted: [Case] = [
    Case(
      "5 with an unknown reason", good + withheld(5), events: goodEvents, unclear: [5],
      quarantined: 1),
    Case("only 5, with an unknown reason", withheld(5), unclear: [5], quarantined: 1),
    Case(
      "unknown reasons for the first and the last IDs", withheld(1) + withheld(20) + withheld(19),
      unclear: [1, 19, 20], quarantined: 3),
    Case(
      "unknown reasons for adjacent IDs, one of them twice",
      (3...5).map { withheld($0) }.joined() + withheld(4),
      unclear: [3, 4, 5], quarantined: 3),
    Case(
      "unknown reasons for all IDs", (1...20).map { withheld($0) }.joined(), unclear: Set(1...20),
      quarantined: 20),
    Case(
      "an unknown action", line("5", #""action":"withhold","reason":"deleted""#), unclear: [5],
      quarantined: 1),
    Case("no reason", line("5", #""action":"delete""#), unclear: [5], quarantined: 1),
    Case(
      "5 with two reasons",
      good + CollectTests.event(5)
        + CollectTests.event(5, "delete", "protected"),
      events: goodEvents, unclear: [5], quarantined: 2),
    Case(
      "5 deleted, and with an unknown reason", CollectTests.event(5) + withheld(5),
      events: [5: "deleted"],
      unclear: [5], quarantined: 1),
    Case(
      "19 without location, and with an unknown reason", geo(19) + withheld(19),
      events: [19: "geo_scrubbed"], unclear: [19], quarantined: 1),
    Case(
      "the API could not read 5", good + invalid("5"), events: goodEvents, unclear: [5],
      quarantined: 1),
    Case(
      "only the error that the API could not read 5", invalid("5"), unclear: [5], quarantined: 1),
    Case(
      "another error about 5", line("5", #""error":"internal""#), unclear: [5],
      quarantined: 1),
  ]

  private static let unreadable: [Case] = [
    Case("a line without an ID", good + #"{"oops":1}"# + "\n"),
    Case(
      "valid lines, then an HTML page", good + "<html>\n<body>502</body>\n</html>\n", quarantined: 3
    ),
    Case("an HTML page, then valid lines", "<html>502</html>\n" + good),
    Case("a truncated line", good + #"{"id":"5","action":"delete","# + "\n"),
    Case("null", "null\n" + good),
    Case("a byte order mark", "\u{FEFF}" + CollectTests.event(5) + good),
    Case("not UTF-8", good, end: [0x7B, 0xFF, 0x7D, 0x0A]),
    Case("zero bytes", good, end: [0, 0, 0, 0x0A]),
    Case(
      "a line that is too long",
      good + line("5", #""action":"\#(String(repeating: "x", count: 70_000))""#)),
    Case("two IDs in a line", good + line("5", #""id":"6","action":"delete","reason":"deleted""#)),
    Case("an ID as a fraction", good + #"{"id":5.0,"action":"delete","reason":"deleted"}"# + "\n"),
    Case(
      "an ID that is too large",
      good + line("9223372036854775808", #""action":"delete","reason":"deleted""#)),
    Case("a negative ID", good + line("-5", #""action":"delete","reason":"deleted""#)),
    Case("an error without an ID", good + #"{"error":"internal"}"# + "\n"),
    Case("the API reports an invalid ID outside the chunk", good + invalid("not_a_valid_id")),
    Case("the API could not read 77, which is not in the chunk", good + invalid("77")),
    Case("the API could not read a line that only looks like 5", good + invalid("05")),
    Case("the API could not read a line with a CR", good + invalid(#"5\r"#)),
  ]

  private static let errorsOnly = Case(
    "only errors about IDs outside the chunk", invalid("x") + invalid("y"), unclear: nil,
    quarantined: 2)

  private static var untrusted: [Case] {
    unreadable.map { unread in
      var unread = unread
      unread.events = goodEvents
      unread.unclear = nil
      if unread.quarantined == 0 { unread.quarantined = 1 }
      return unread
    } + [errorsOnly]
  }

  @Test(arguments: sampled(trusted + partlyTrusted + untrusted, 24))
  func onlyValidConclusionsAreDrawnFromAResult(row: Case) async throws {
    let result = try await SilenceFixture.run(
      .init(contentType: row.contentType, body: row.body))
    #expect(result.outcome == row.expected)
    #expect(result.report.status == .done)
    #expect(result.silence == (row.unclear == nil ? "none" : "spoken"))
    #expect(result.downloads == 1)
    #expect(result.jobs == 1)
  }
}
