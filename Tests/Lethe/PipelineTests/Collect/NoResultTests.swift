import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// Response bodies that are not a result. Lethe draws no conclusion from such a body and requests the result again.
@Suite struct NoResultTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let answer: ScriptedAPI.Answer
    /// The texts that the failure must contain.
    let says: [String]

    init(
      _ what: String, _ body: String, bytes: [UInt8]? = nil, status: Int = 200,
      type: String? = nil, says: String...
    ) {
      testDescription = what
      answer = .init(status: status, contentType: type, body: bytes ?? Array(body.utf8))
      self.says = says
    }
  }

  private static let page = "<html><body>login</body></html>\n"
  private static let good = CollectTests.event(8) + CollectTests.event(9)

  private static let bodies: [Case] = [
    Case(
      "an HTML page as text/html", page, type: "text/html", says: "HTTP 200", "text/html",
      "32 bytes"),
    Case(
      "an HTML page as text/plain", page, type: "text/plain; charset=utf-8", says: "HTTP 200",
      "text/plain,", "32 bytes", "no line of it is an object with an id"),
    Case(
      "an HTML page as application/octet-stream", page, type: "application/octet-stream",
      says: "octet-stream"),
    Case("an HTML page without a content type", page, says: "no content type"),
    Case(
      "an HTML page without a newline", String(page.dropLast()), type: "text/plain",
      says: "in the middle of a line", "31 bytes"),
    Case("an HTML page of many lines", String(repeating: "<p>\n", count: 500), says: "2000 bytes"),
    Case(
      "an error object", #"{"title":"Service Unavailable","status":503}"# + "\n",
      type: "application/json", says: "application/json"),
    Case(
      "an error object with a request ID",
      #"{"id":"req-1","message":"internal"}"# + "\n", says: "no line of it"),
    Case("an error list", #"{"errors":[{"id":"5","title":"Not Found"}]}"# + "\n", says: "no line"),
    Case(
      "an array of events", #"[{"id":"5","action":"delete","reason":"deleted"}]"# + "\n",
      says: "no line of it"),
    Case(
      "events in a data member", #"{"data":[{"id":"5","action":"delete","reason":"deleted"}]}"#,
      says: "no line of it"),
    Case(
      "an event on several lines",
      "{\n\"id\":\"5\",\n\"action\":\"delete\",\n\"reason\":\"deleted\"\n}\n", says: "no line of it"
    ),
    Case(
      "XML as text", "<?xml version=\"1.0\"?>\n<Error><Code>ExpiredToken</Code></Error>\n",
      type: "text/plain", says: "no line of it"),
    Case("CSV", "id,action,reason\n5,delete,deleted\n", type: "text/csv", says: "text/csv"),
    Case(
      "gzip bytes", "", bytes: [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3, 0xAB, 0x56, 0x0A],
      says: "13 bytes"),
    Case(
      "an event in UTF-16", "",
      bytes: Array("{\"id\":\"5\"}\n".utf16.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] }),
      says: "no line of it"),
    Case("an event after a byte order mark", "\u{FEFF}" + CollectTests.event(5), says: "no line"),
    Case("nulls", "null\nnull\n", says: "no line of it"),
    Case(
      "objects without IDs", "{}\n{\"action\":\"delete\"}\n{\"id\":null}\n", says: "no line of it"),
    Case("a truncated event", #"{"id":"5","action":"delete","# + "\n", says: "no line of it"),
    Case(
      "a line that is too long",
      #"{"id":"5","x":"\#(String(repeating: "x", count: 70_000))"}"# + "\n",
      says: "no line of it"),
    Case(
      "events about other IDs", CollectTests.event(77) + CollectTests.event(78),
      says: "none of its IDs are in the chunk"),
    Case(
      "errors about other IDs", #"{"id":"77","error":"invalid_id"}"# + "\n",
      says: "none of its IDs are in the chunk"),
    Case(
      "events about other IDs, and bytes that are not JSON", "x\n" + CollectTests.event(77) + "\n",
      says: "none of its IDs are in the chunk"),
  ]

  private static let envelopes: [Case] = [
    Case("events as HTML", good, type: "Text/HTML; charset=utf-8", says: "text/html"),
    Case("events as XHTML", good, type: "application/xhtml+xml", says: "application/xhtml+xml"),
    Case("events as XML", good, type: "application/xml", says: "application/xml"),
    Case("events as XML text", good, type: "text/xml", says: "text/xml"),
    Case("events as a feed", good, type: "application/atom+xml", says: "application/atom+xml"),
    Case(
      "events as multipart", good, type: "multipart/byteranges; boundary=x",
      says: "multipart/byteranges"),
    Case("an empty body as HTML", "", type: "text/html", says: "text/html", "0 bytes"),
    Case("status 204", "", status: 204, says: "HTTP 204", "0 bytes"),
    Case(
      "status 206 without a range request", good, status: 206, type: "text/plain", says: "HTTP 206"),
    Case("status 202", good, status: 202, says: "HTTP 202"),
    Case("status 302", "", status: 302, says: "HTTP 302"),
    Case("status 304", "", status: 304, says: "HTTP 304"),
    Case(
      "an expired token with status 400", "<Error><Code>ExpiredToken</Code></Error>", status: 400,
      says: "HTTP 400"),
    Case("status 409", "{}", status: 409, says: "HTTP 409"),
    Case("status 413", "{}", status: 413, says: "HTTP 413"),
    Case("status 416 without a range request", "", status: 416, says: "HTTP 416"),
  ]

  @Test(arguments: bodies + envelopes)
  func aBodyThatIsNotAResultIsRequestedAgainUntilTheChunkFails(row: Case) async throws {
    let ending = try await SilenceFixture.run(row.answer)
    var untouched = SilenceFixture.Outcome()
    untouched.left = SilenceFixture.posts.subtracting(SilenceFixture.deletedBefore)
    #expect(ending.outcome == untouched)
    #expect(ending.silence == nil)
    #expect(ending.report.status == .failed)
    #expect(ending.jobs == 3)
    #expect(ending.downloads == 9)
    let failure = try #require(ending.report.failures.first)
    #expect(failure.contains("3 jobs failed"))
    for word in row.says { #expect(failure.contains(word), "\(failure)") }
    for content in ["login", "deleted", "data", "req-1"] where !row.says.contains(content) {
      #expect(!failure.contains(content), "\(failure)")
    }
  }

  /// The next download or the next job can return the result.
  @Test(arguments: [1, 2, 3, 6, 8])
  func aResultAfterWrongDownloadsIsCollected(wrongDownloads: Int) async throws {
    var script = ScriptedAPI.Script()
    script.download = { download in
      download.number <= wrongDownloads
        ? .init(contentType: "text/plain", body: Array(Self.page.utf8))
        : .init(body: Array(CollectTests.event(5).utf8))
    }
    try await CollectTests.collecting(script) { fixture, report in
      #expect(report.status == .done)
      #expect(report.quarantined == 0)
      #expect(report.datasets["posts"]?.jobs == wrongDownloads / 3 + 1)
      #expect(report.datasets["posts"]?.events == 1)
      #expect(try await fixture.ledgerFaults() == [])
      #expect(try await fixture.value("SELECT count(*) FROM warehouse.posts", as: Int.self) == 9)
      let checked = try await fixture.value(
        "SELECT sum(ids)::bigint FROM lethe.coverage", as: Int.self)
      #expect(checked == 10)
    }
  }
}
