import CZlib
import Checksums
import ComplianceAPI
import Foundation
import Synchronization
import SystemPackage
import TestSupport
import Testing
import Vocabulary

/// Downloads that break off. The next request continues after the received bytes only if the host shows that it still
/// has the same version of the result.
@Suite(.endedIfItHangs) struct ResumedDownloadTests {
  private static let text = (1...400).map { "{\"id\":\"\($0)\"}\n" }.joined()
  private static let other = (1...400).map { "{\"id\":\"\($0 + 5000)\"}\n" }.joined()
  private static let total = text.utf8.count
  /// The number of bytes before the first response breaks off.
  private static let sent = 1000

  private static func head(_ status: Int, _ headers: [String], length: Int) -> RawPeer.Step {
    .sendText(
      (["HTTP/1.1 \(status) Status", "Content-Length: \(length)", "Connection: close"] + headers)
        .map { $0 + "\r\n" }.joined() + "\r\n")
  }

  private static func part(_ text: String, _ range: Range<Int>) -> RawPeer.Step {
    .send(Array(text.utf8)[range].map(\.self))
  }

  private static let tag = "ETag: \"v1\""

  /// A whole response that breaks off after `sent` bytes.
  private static func brokenOff(_ headers: [String] = [tag]) -> [RawPeer.Step] {
    [head(200, headers, length: total), part(text, 0..<sent), .close]
  }

  private static func whole(_ text: String = text, _ headers: [String] = [tag]) -> [RawPeer.Step] {
    [head(200, headers, length: text.utf8.count), .sendText(text)]
  }

  private static func rest(
    _ headers: [String] = [tag], range: String = "bytes \(sent)-\(total - 1)/\(total)",
    of text: String = text
  ) -> [RawPeer.Step] {
    [
      head(206, headers + ["Content-Range: \(range)"], length: total - sent),
      part(text, sent..<total),
    ]
  }

  /// The requests of a test: for each, its `Range` and `If-Range`.
  private final class Log: Sendable {
    private let lines = Mutex<[String]>([])

    func add(_ head: String) {
      func value(_ name: String) -> String? {
        head.split(separator: "\r\n").first { $0.lowercased().hasPrefix("\(name): ") }
          .map { String($0.dropFirst(name.count + 2)) }
      }
      lines.withLock {
        $0.append([value("range"), value("if-range")].compactMap(\.self).joined(separator: " "))
      }
    }

    var requests: [String] { lines.withLock { $0 } }
  }

  private static let continued = "bytes=\(sent)- \"v1\""

  /// Serves the responses, one for each request.
  private static func serving(
    _ responses: [[RawPeer.Step]], _ body: @escaping @Sendable (String, Log) async throws -> Void
  ) async throws {
    let log = Log()
    try await RawPeer.serving({ number in
      [.receiveThrough("\r\n\r\n"), .report(log.add)]
        + (number <= responses.count ? responses[number - 1] : [.close])
    }) { port in try await body("http://127.0.0.1:\(port)", log) }
  }

  private static func download(
    _ url: String, to path: FilePath, job: String = "7", tries: Int = 4, former: [FilePath] = []
  ) async throws -> ComplianceClient.Download {
    try await ComplianceClient.withClient(
      baseURL: url, token: BearerToken("t"), allowedHosts: [],
      retry: RetryPolicy(attemptsMax: tries, delaySecondsFirst: 0.001, delaySecondsMax: 0.001),
      logger: PipelineFixture.logger
    ) {
      try await $0.download(
        from: SignedURL("\(url)/r"), to: path, bytesMax: 1 << 20, job: job, former: former)
    }
  }

  private static func content(_ path: FilePath) -> String? {
    FileManager.default.contents(atPath: path.string).map { String(decoding: $0, as: UTF8.self) }
  }

  private static func names(_ directory: FilePath) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: directory.string).sorted()
  }

  // MARK: One process

  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let responses: [[RawPeer.Step]]
    let requests: [String]
    var result = text
  }

  private static func packed(_ text: String) -> [UInt8] {
    let bytes = Array(text.utf8)
    var size = compressBound(uLong(bytes.count))
    var packed = [UInt8](repeating: 0, count: Int(size))
    guard compress(&packed, &size, bytes, uLong(bytes.count)) == Z_OK else { return [] }
    return Array(packed.prefix(Int(size)))
  }

  private static let crc = {
    var crc = CRC32C()
    Array(text.utf8).withUnsafeBytes { crc.update($0) }
    return "x-goog-hash: crc32c=" + Data(crc.bytes).base64EncodedString()
  }()

  private static let dates = (
    old: ["Date: Wed, 25 Nov 2026 00:02:00 GMT", "Last-Modified: Wed, 25 Nov 2026 00:00:00 GMT"],
    recent: ["Date: Wed, 25 Nov 2026 00:00:30 GMT", "Last-Modified: Wed, 25 Nov 2026 00:00:00 GMT"]
  )

  private static func startsAgain(
    _ description: String, _ second: [RawPeer.Step], first: [String] = [tag]
  ) -> Case {
    Case(
      testDescription: description, responses: [brokenOff(first), second, whole(text, first)],
      requests: ["", continued, ""])
  }

  static let cases: [Case] = [
    Case(
      testDescription: "the rest", responses: [brokenOff(), rest()], requests: ["", continued]),
    Case(
      testDescription: "the rest with the checksum of the whole result",
      responses: [brokenOff([tag, crc]), rest([tag, crc])], requests: ["", continued]),
    Case(
      testDescription: "the rest without a checksum, which the first response has announced",
      responses: [brokenOff([tag, crc]), rest()], requests: ["", continued]),
    Case(
      testDescription: "the rest, by its date", responses: [brokenOff(dates.old), rest(dates.old)],
      requests: ["", "bytes=\(sent)- Wed, 25 Nov 2026 00:00:00 GMT"]),
    Case(
      testDescription: "a rest that breaks off, too",
      responses: [
        brokenOff(),
        [
          head(
            206, [tag, "Content-Range: bytes \(sent)-\(total - 1)/\(total)"], length: total - sent),
          part(text, sent..<sent + 7), .reset,
        ],
        [
          head(
            206, [tag, "Content-Range: bytes \(sent + 7)-\(total - 1)/\(total)"],
            length: total - sent - 7), part(text, sent + 7..<total),
        ],
      ], requests: ["", continued, "bytes=\(sent + 7)- \"v1\""]),
    Case(
      testDescription: "a refused request for the rest",
      responses: [brokenOff(), [head(503, [], length: 0)], rest()],
      requests: ["", continued, continued]),
    Case(
      testDescription: "the whole result again", responses: [brokenOff(), whole()],
      requests: ["", continued]),
    Case(
      testDescription: "a new version of the result",
      responses: [brokenOff(), whole(other, ["ETag: \"v2\""])], requests: ["", continued],
      result: other),
    Case(
      testDescription: "a new version of the result that breaks off, too",
      responses: [
        brokenOff(),
        [head(200, ["ETag: \"v2\""], length: other.utf8.count), part(other, 0..<500), .close],
        [
          head(
            206,
            [
              "ETag: \"v2\"",
              "Content-Range: bytes 500-\(other.utf8.count - 1)/\(other.utf8.count)",
            ], length: other.utf8.count - 500), part(other, 500..<other.utf8.count),
        ],
      ], requests: ["", continued, "bytes=500- \"v2\""], result: other),
    startsAgain("416", [head(416, ["Content-Range: bytes */\(total)"], length: 0)]),
    startsAgain("412", [head(412, [], length: 0)]), startsAgain("204", [head(204, [], length: 0)]),
    startsAgain("the rest of another version", rest(["ETag: \"v2\""])),
    startsAgain("a rest with a weak tag", rest(["ETag: W/\"v1\""])),
    startsAgain("a rest without a tag", rest([])),
    startsAgain("a rest with two tags", rest([tag, "ETag: \"v2\""])),
    startsAgain(
      "a rest of another length", rest(range: "bytes \(sent)-\(total - 1)/\(total + 1)")),
    startsAgain(
      "a rest of unknown length", rest(range: "bytes \(sent)-\(total - 1)/*")),
    startsAgain(
      "a rest from another offset", rest(range: "bytes \(sent - 1)-\(total - 2)/\(total)")),
    startsAgain(
      "a part of the rest",
      [
        head(206, [tag, "Content-Range: bytes \(sent)-\(sent + 9)/\(total)"], length: 10),
        part(text, sent..<sent + 10),
      ]),
    startsAgain(
      "a range outside the numbers",
      rest(range: "bytes \(sent)-99999999999999999999/99999999999999999999")),
    startsAgain("a rest without a range", [head(206, [tag], length: 5), .sendText("12345")]),
    startsAgain("a compressed rest", rest([tag, "Content-Encoding: gzip"])),
    startsAgain(
      "a list of ranges", rest([tag, "Content-Type: multipart/byteranges; boundary=b"])),
    startsAgain(
      "a rest with another checksum", rest([tag, "x-goog-hash: crc32c=AAAAAA=="]),
      first: [tag, crc]),
    Case(
      testDescription: "a weak tag", responses: [brokenOff(["ETag: W/\"v1\""]), whole()],
      requests: ["", ""]),
    Case(
      testDescription: "a weak tag and an old date",
      responses: [brokenOff(["ETag: W/\"v1\""] + dates.old), whole()], requests: ["", ""]),
    Case(
      testDescription: "a recent date", responses: [brokenOff(dates.recent), whole()],
      requests: ["", ""]),
    Case(
      testDescription: "no validator", responses: [brokenOff([]), whole()], requests: ["", ""]),
    Case(
      testDescription: "a host without ranges",
      responses: [brokenOff([tag, "Accept-Ranges: none"]), whole()], requests: ["", ""]),
    Case(
      testDescription: "a compressed result",
      responses: [
        [
          head(200, [tag, "Content-Encoding: deflate"], length: packed(text).count),
          .send(Array(packed(text).prefix(100))), .close,
        ], whole(),
      ], requests: ["", ""]),
    Case(
      testDescription: "a result without a length",
      responses: [
        [
          .sendText(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\(tag)\r\n\r\n5\r\n{\"id\"\r\n"),
          .close,
        ], whole(),
      ], requests: ["", ""]),
  ]

  @Test(arguments: cases)
  func aResultIsNeverMixed(of broken: Case) async throws {
    try await withTemporaryDirectory { directory in
      try await Self.serving(broken.responses) { url, log in
        let path = directory.appending("r")
        let download = try await Self.download(url, to: path)
        #expect(Self.content(path) == broken.result)
        #expect(download.bytes == broken.result.utf8.count)
        #expect(download.sha256 == SHA256.hash(broken.result))
        #expect(log.requests == broken.requests)
        #expect(try Self.names(directory) == ["r"])
      }
    }
  }

  /// The host sends other bytes under the same tag. The checksum of the whole result shows it.
  @Test func theChecksumOfTheJoinedResultIsVerified() async throws {
    try await withTemporaryDirectory { directory in
      let first = Self.brokenOff([Self.tag, Self.crc])
      try await Self.serving([
        first, Self.rest(of: Self.other), Self.whole(Self.text, [Self.tag, Self.crc]),
      ]) { url, log in
        let path = directory.appending("r")
        let error = await #expect(throws: APIError.self) {
          _ = try await Self.download(url, to: path)
        }
        #expect(error?.kind == .incompleteResult)
        // Nothing of it is kept, so the next download begins again.
        #expect(try Self.names(directory) == [])
        _ = try await Self.download(url, to: path)
        #expect(Self.content(path) == Self.text)
        #expect(log.requests == ["", Self.continued, ""])
      }
    }
  }

  // MARK: Another process

  enum Leftover: String, Sendable, CaseIterable {
    case intact, otherJob, damaged, truncated, longer, withoutBytes, unreadableNote, fromSamePath
  }

  /// A process ends after its download has broken off. The next process has another path.
  @Test(arguments: Leftover.allCases)
  func anotherProcessContinuesOnlyIntactBytes(leftover: Leftover) async throws {
    try await withTemporaryDirectory { directory in
      let (old, new) = (
        directory.appending("old"), directory.appending(leftover == .fromSamePath ? "old" : "new")
      )
      let isContinued = [.intact, .longer, .fromSamePath].contains(leftover)
      try await Self.serving([Self.brokenOff(), isContinued ? Self.rest() : Self.whole()]) {
        url, log in
        let error = await #expect(throws: APIError.self) {
          _ = try await Self.download(url, to: old, tries: 1)
        }
        #expect(error?.kind == .temporary)
        #expect(try Self.names(directory) == ["old.partial", "old.partial.json"])
        #expect(
          Self.content(directory.appending("old.partial.json"))?.contains("127.0.0.1") == false)
        #expect(
          ComplianceClient.pathOfInterruptedDownload(note: "old.partial.json") == "old")

        let partial = directory.appending("old.partial").string
        var bytes = Array(try Data(contentsOf: URL(filePath: partial)))
        #expect(bytes.count == Self.sent)
        switch leftover {
        case .intact, .otherJob, .fromSamePath: break
        case .damaged: bytes[500] ^= 1
        case .truncated: bytes.removeLast()
        // A process that was killed may have written more than its last note counts.
        case .longer: bytes += Array("garbage".utf8)
        case .withoutBytes: bytes = []
        case .unreadableNote:
          try "{".write(toFile: partial + ".json", atomically: true, encoding: .utf8)
        }
        try Data(bytes).write(to: URL(filePath: partial))

        _ = try await Self.download(
          url, to: new, job: leftover == .otherJob ? "8" : "7",
          former: leftover == .fromSamePath ? [] : [old])
        #expect(Self.content(new) == Self.text)
        #expect(log.requests == ["", isContinued ? Self.continued : ""])
        #expect(try Self.names(directory) == [leftover == .fromSamePath ? "old" : "new"])
      }
    }
  }

  /// An error that has another cause than the received bytes leaves them for the next download: here, the URL expired.
  @Test func aDownloadContinuesWithAFreshURL() async throws {
    try await withTemporaryDirectory { directory in
      try await Self.serving([
        Self.brokenOff(), [Self.head(403, [], length: 0)], Self.rest(),
      ]) { url, log in
        let path = directory.appending("r")
        let error = await #expect(throws: APIError.self) {
          _ = try await Self.download(url, to: path)
        }
        #expect(error?.kind == .urlRefused)
        _ = try await Self.download(url, to: path)
        #expect(Self.content(path) == Self.text)
        #expect(log.requests == ["", Self.continued, Self.continued])
        #expect(try Self.names(directory) == ["r"])
      }
    }
  }
}
