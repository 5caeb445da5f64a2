import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// Response bodies that are not a result. Lethe draws no conclusion from such a body and requests the result again.
@Suite struct NoResultTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let response: ScriptedAPI.ScriptedResponse
    /// The texts that the failure must contain.
    let messageParts: [String]

    init(
      _ what: String, _ body: String, bytes: [UInt8]? = nil, status: Int = 200,
      type: String? = nil, messageParts: String...
    ) {
      testDescription = what
      response = .init(status: status, contentType: type, body: bytes ?? Array(body.utf8))
      self.messageParts = messageParts
    }
  }

  private static let page = "<html><body>login</body></html>\n"
  private static let good = CollectTests.event(8) + CollectTests.event(9)

  private static let bodies: [Case] = [
    Case(
      "an HTML page as text/html", page, type: "text/html", messageParts: "HTTP 200", "text/html",
      "32 bytes"),
    Case(
      "an HTML page as text/plain", page, type: "text/plain; charset=utf-8",
      messageParts: "HTTP 200",
      "text/plain,", "32 bytes", "no line of it is an object with an id"),
    Case(
      "an HTML page as application/octet-stream", page, type: "application/octet-stream",
      messageParts: "octet-stream"),
    Case("an HTML page without a content type", page, messageParts: "no content type"),
    Case(
      "an HTML page without a newline", String(page.dropLast()), type: "text/plain",
      messageParts: "in the middle of a line", "31 bytes"),
    Case(
      "an HTML page of many lines", String(repeating: "<p>\n", count: 500),
      messageParts: "2000 bytes"),
    Case(
      "an error object", #"{"title":"Service Unavailable","status":503}"# + "\n",
      type: "application/json", messageParts: "application/json"),
    Case(
      "an error object with a request ID",
      #"{"id":"req-1","message":"internal"}"# + "\n", messageParts: "no line of it"),
    Case(
      "an error list", #"{"errors":[{"id":"5","title":"Not Found"}]}"# + "\n",
      messageParts: "no line"),
    Case(
      "an array of events", #"[{"id":"5","action":"delete","reason":"deleted"}]"# + "\n",
      messageParts: "no line of it"),
    Case(
      "events in a data member", #"{"data":[{"id":"5","action":"delete","reason":"deleted"}]}"#,
      messageParts: "no line of it"),
    Case(
      "an event on several lines",
      "{\n\"id\":\"5\",\n\"action\":\"delete\",\n\"reason\":\"deleted\"\n}\n",
      messageParts: "no line of it"
    ),
    Case(
      "XML as text", "<?xml version=\"1.0\"?>\n<Error><Code>ExpiredToken</Code></Error>\n",
      type: "text/plain", messageParts: "no line of it"),
    Case("CSV", "id,action,reason\n5,delete,deleted\n", type: "text/csv", messageParts: "text/csv"),
    Case(
      "gzip bytes", "", bytes: [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3, 0xAB, 0x56, 0x0A],
      messageParts: "13 bytes"),
    Case(
      "an event in UTF-16", "",
      bytes: Array("{\"id\":\"5\"}\n".utf16.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] }),
      messageParts: "no line of it"),
    Case(
      "an event after a byte order mark", "\u{FEFF}" + CollectTests.event(5),
      messageParts: "no line"),
    Case("nulls", "null\nnull\n", messageParts: "no line of it"),
    Case(
      "objects without IDs", "{}\n{\"action\":\"delete\"}\n{\"id\":null}\n",
      messageParts: "no line of it"),
    Case(
      "a truncated event", #"{"id":"5","action":"delete","# + "\n", messageParts: "no line of it"),
    Case(
      "a line that is too long",
      #"{"id":"5","x":"\#(String(repeating: "x", count: 70_000))"}"# + "\n",
      messageParts: "no line of it"),
    Case(
      "events about other IDs", CollectTests.event(77) + CollectTests.event(78),
      messageParts: "none of its IDs is in the chunk"),
    Case(
      "errors about other IDs", #"{"id":"77","error":"invalid_id"}"# + "\n",
      messageParts: "none of its IDs is in the chunk"),
    Case(
      "events about other IDs, and bytes that are not JSON", "x\n" + CollectTests.event(77) + "\n",
      messageParts: "none of its IDs is in the chunk"),
  ]

  private static let statusesAndTypes: [Case] = [
    Case("events as HTML", good, type: "Text/HTML; charset=utf-8", messageParts: "text/html"),
    Case(
      "events as XHTML", good, type: "application/xhtml+xml", messageParts: "application/xhtml+xml"),
    Case("events as XML", good, type: "application/xml", messageParts: "application/xml"),
    Case("events as XML text", good, type: "text/xml", messageParts: "text/xml"),
    Case(
      "events as a feed", good, type: "application/atom+xml", messageParts: "application/atom+xml"),
    Case(
      "events as multipart", good, type: "multipart/byteranges; boundary=x",
      messageParts: "multipart/byteranges"),
    Case("an empty body as HTML", "", type: "text/html", messageParts: "text/html", "0 bytes"),
    Case("status 204", "", status: 204, messageParts: "HTTP 204", "0 bytes"),
    Case(
      "status 206 without a range request", good, status: 206, type: "text/plain",
      messageParts: "HTTP 206"),
    Case("status 202", good, status: 202, messageParts: "HTTP 202"),
    Case("status 302", "", status: 302, messageParts: "HTTP 302"),
    Case("status 304", "", status: 304, messageParts: "HTTP 304"),
    Case(
      "an expired token with status 400", "<Error><Code>ExpiredToken</Code></Error>", status: 400,
      messageParts: "HTTP 400"),
    Case("status 409", "{}", status: 409, messageParts: "HTTP 409"),
    Case("status 413", "{}", status: 413, messageParts: "HTTP 413"),
    Case("status 416 without a range request", "", status: 416, messageParts: "HTTP 416"),
  ]

  @Test(arguments: sampled(bodies + statusesAndTypes, 14))
  func aBodyThatIsNotAResultIsRequestedAgainUntilTheChunkFails(row: Case) async throws {
    let result = try await SilenceFixture.run(row.response)
    var untouched = SilenceFixture.Outcome()
    untouched.left = SilenceFixture.posts.subtracting(SilenceFixture.deletedBefore)
    #expect(result.outcome == untouched)
    #expect(result.silence == nil)
    #expect(result.report.status == .failed)
    #expect(result.jobs == 3)
    #expect(result.downloads == 9)
    let failure = try #require(result.report.failures.first)
    #expect(failure.contains("3 jobs failed"))
    for part in row.messageParts { #expect(failure.contains(part), "\(failure)") }
    for content in ["login", "deleted", "data", "req-1"] where !row.messageParts.contains(content) {
      #expect(!failure.contains(content), "\(failure)")
    }
  }

  /// A later download or a later job returns the result.
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
