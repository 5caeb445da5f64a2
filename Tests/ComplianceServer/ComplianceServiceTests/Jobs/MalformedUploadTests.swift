import ComplianceService
import Foundation
import TestSupport
import Testing

/// Malformed and hostile uploads. Each upload gets the documented result or a 4xx status, and the server continues
/// normally.
@Suite(.endedIfItHangs) struct MalformedUploadTests {
  private static func run(
    _ way: UploadMethod, _ body: (LocalService.Site, LocalService) async throws -> Void
  ) async throws {
    try await LocalService.withSite { site in
      var site = site
      site.configure = {
        $0.profile = way.profile
        $0.rateLimit = nil
      }
      try await site.serving { service in
        try await service.execute(Submission.platformState)
        try await body(site, service)
      }
    }
  }

  // MARK: Contents of a file

  private static let files: [(what: String, bytes: [UInt8])] = [
    ("an empty file", []),
    ("only line feeds", Array("\n\n\n".utf8)),
    ("no final newline", Array("1\n2\n3".utf8)),
    ("CRLF", Array("1\r\n2\r\n3\r\n".utf8)),
    ("CR alone", Array("1\r2\r3\n4\n".utf8)),
    ("NUL bytes", Array("1\n\0\n2\0\n\0\0\0\n\u{0}3\n4\n".utf8)),
    ("negative numbers", Array("5\n-1\n-9223372036854775808\n-0\n".utf8)),
    (
      "64-bit overflow",
      Array(
        """
        9223372036854775807
        9223372036854775808
        9999999999999999999
        18446744073709551615
        18446744073709551617
        340282366920938463463374607431768211457
        1

        """.utf8)
    ),
    ("numbers that are not IDs", Array("+1\n 1\n1 \n0x1\n1e3\n1.0\n1,2\n１\n٣\n7\n".utf8)),
    ("leading zeros", Array("0001\n0000000000000000002\n00000000000000000003\n".utf8)),
    ("a byte order mark", Array("\u{feff}1\n2\n".utf8)),
    ("UTF-16", Array("1\n2\n".utf16.flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] })),
    ("JSON", Array("\"\n\\\n{\"id\":\"1\"}\n\\u0031\n\u{8}\u{c}\u{7f}\u{1f}\n8\n".utf8)),
    (
      "invalid UTF-8",
      [
        0xff, 10, 0xfe, 0xff, 10, 0xc3, 10, 0xc0, 0xaf, 10, 0xed, 0xa0, 0x80, 10, 0xf4, 0x90, 10,
        57,
      ]
    ),
    ("a line of 10 MB of digits", line(of: UInt8(ascii: "7")) + Array("\n9\n".utf8)),
    ("a line of 10 MB without a line feed", Array("9\n".utf8) + line(of: 0xff)),
    (
      "lines of 10 MB one after another",
      (0..<4).flatMap { line(of: UInt8(ascii: "a") + $0) + [10] } + Array("9\n".utf8)
    ),
    ("10 MB of NUL bytes", line(of: 0)),
  ]

  private static func line(of byte: UInt8) -> [UInt8] { Array(repeating: byte, count: 10_000_000) }

  @Test(arguments: UploadMethod.allCases)
  func everyFileGetsTheDocumentedResult(way: UploadMethod) async throws {
    try await Self.run(way) { _, service in
      for (what, bytes) in Self.files { try await service.expectAnswers(to: bytes, way, what) }
    }
  }

  @Test(arguments: UploadMethod.allCases)
  func aFileWithFlippedBytesGetsTheDocumentedResult(way: UploadMethod) async throws {
    let seed = SeededGenerator.seedOfTest()
    var random = SeededGenerator(seed: seed)
    try await Self.run(way) { _, service in
      // The largest file is larger than the blocks in which the server reads a submission.
      for count in [1, 10, 100, 300, 1000, 1000, 3000, 3000, 10_000, 150_000] {
        try await service.expectAnswers(
          to: Self.flipped(ids: count, &random), way, "seed \(seed), \(count) IDs")
      }
    }
  }

  private static func flipped(ids count: Int, _ random: inout SeededGenerator) -> [UInt8] {
    let text = (0..<count).map { _ in "\(Int64.random(in: 0...Int64.max, using: &random) >> 40)\n" }
    return text.joined().utf8.map { byte in
      Bool.random(using: &random) ? byte ^ UInt8.random(in: 1...255, using: &random) : byte
    }
  }

  @Test(arguments: UploadMethod.allCases)
  func aTruncatedFileGetsTheDocumentedResult(way: UploadMethod) async throws {
    let text = Array(
      "1\n22\n999999999\n9223372036854775807\n3\n\(way == .native ? "x\n" : "")44\n".utf8)
    try await Self.run(way) { _, service in
      for count in 0...text.count {
        try await service.expectAnswers(to: Array(text[..<count]), way, "\(count) bytes")
      }
    }
  }

  // MARK: Bodies with wrong lengths

  /// The client sends fewer bytes than its `Content-Length`, and then half-closes or closes the connection. The test
  /// tries each smaller number of bytes.
  @Test(arguments: UploadMethod.allCases, [true, false])
  func aBodyShorterThanItsLengthIsNotAccepted(
    way: UploadMethod, waitsForResponse: Bool
  ) async throws {
    let text = Array("1\n22\n333\n4444\n55555\n".utf8)
    try await Self.run(way) { site, service in
      let job = try await service.post(way.create()).job()
      let target = try await service.target(of: job, way)
      for count in 0..<text.count {
        let connection = try RawConnection(to: target)
        try connection.send(
          Self.head(connection, way) + "Content-Length: \(text.count)\r\n\r\n")
        try connection.send(Array(text[..<count]))
        guard waitsForResponse else {
          connection.close()
          continue
        }
        connection.endSending()
        let response = await connection.readToEnd()
        #expect(
          response.hasPrefix(way == .gcsInParts ? "HTTP/1.1 308 " : "HTTP/1.1 400 "),
          "\(count) bytes: \(response)")
        #expect(!response.contains("range:"), "\(count) bytes must not be kept")
      }
      #expect(try await service.job(job.id).status == "created")
      if way != .gcsInParts {
        while try !site.spooledFiles.isEmpty { _ = try await service.get("/healthz") }
      }
      // The job still accepts a complete body. The server might still be reading from one of the connections above.
      // Until it notices that the connection is closed, it responds with 503.
      var status: Int
      repeat {
        status = try await service.put(text, to: target, service.uploadHeaders(way)).status
      } while status == 503
      #expect(status == 200)
      #expect(try await service.processed(job.id).status == "complete")
    }
  }

  @Test(arguments: UploadMethod.allCases)
  func aBodyWithAWrongLengthIsNotAccepted(way: UploadMethod) async throws {
    try await Self.run(way) { _, service in
      let job = try await service.post(way.create()).job()
      let target = try await service.target(of: job, way)
      for (headers, body) in [
        ("Content-Length: -1", "1\n"), ("Content-Length: 2x", "1\n"), ("Content-Length: ", "1\n"),
        ("Content-Length: 99999999999999999999999", "1\n"),
        ("Content-Length: 9223372036854775807", "1\n"),
        ("Content-Length: 2\r\nContent-Length: 3", "1\n2"),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked", "2\r\n1\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "x\r\n1\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "-2\r\n1\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "fffffffffffffffff\r\n1\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "2\r\n1\n2\n3\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "2\r\n1\n\r\n"),
      ] {
        let connection = try RawConnection(to: target)
        try connection.send(Self.head(connection, way) + "\(headers)\r\n\r\n\(body)")
        connection.endSending()
        let response = await connection.readToEnd()
        let isNotAccepted =
          response.hasPrefix("HTTP/1.1 4")
          || way == .gcsInParts && response.hasPrefix("HTTP/1.1 308 ")
        #expect(isNotAccepted, "\(headers), \(body.debugDescription): \(response)")
      }
      #expect(try await service.job(job.id).status == "created")
      #expect(try await service.get("/healthz").status == 200)
    }
  }

  private static func head(_ connection: RawConnection, _ way: UploadMethod) -> String {
    """
    PUT \(connection.target) HTTP/1.1\r\nHost: \(connection.authority)\r\n\
    Content-Type: text/plain\r\n\
    \(way == .native ? "Authorization: Bearer \(LocalService.token)\r\n" : "")
    """
  }

  // MARK: Memory

  /// Uses the real program as a process, so that only the server's memory is measured.
  @Test(arguments: UploadMethod.allCases)
  func memoryUseIsBounded(way: UploadMethod) async throws {
    let seed = SeededGenerator.seedOfTest()
    var random = SeededGenerator(seed: seed)
    let files = [
      Self.line(of: UInt8(ascii: "7")), Self.flipped(ids: 10_000, &random),
      Array("1\r\n-2\n\n".utf8),
    ]
    try await LocalService.withSite { site in
      let process = try await ServerProcess.serving(site, way.profile)
      let service = try LocalService(site: site, process)
      try await service.execute(Submission.platformState)
      func round() async throws {
        for bytes in files {
          let (response, job) = try await service.submit(bytes, way)
          #expect(response.status == 200)
          _ = try await service.processed(job.id)
        }
      }
      // The first rounds allocate buffers and connections, which the server keeps.
      for _ in 0..<2 { try await round() }
      let before = try process.memoryBytes()
      for _ in 0..<4 { try await round() }
      let after = try process.memoryBytes()
      #expect(after.now - before.now < 16_000_000, "seed \(seed): \(before), \(after)")
      #expect(after.peak < 200_000_000, "seed \(seed): \(before), \(after)")
      #expect(await process.end(by: SIGTERM) == 0)
    }
  }
}
