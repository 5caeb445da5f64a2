import AsyncHTTPClient
import ComplianceService
import Foundation
import NIOCore
import NIOHTTP1
import PostgreSQL
import TestSupport
import Testing

/// Uploads that nobody should send. Whatever comes, the native profile answers every line of it, the gcs profile
/// fails the job and names the line, and no answer is a 5xx.
@Suite(.timeLimit(.minutes(2))) struct HostileUploadTests {
  /// The accounts whose IDs a users job has an answer for.
  private static let suspended: Set<Int64> = [1, 22, 333, 4444, 55_555, .max]

  private static func run(
    _ profile: WireProfile, _ body: (LocalService) async throws -> Void
  ) async throws {
    try await LocalService.run({
      $0.profile = profile
      $0.rateLimit = nil
      $0.uploadBytesMax = 64_000_000
    }) { service in
      let rows = suspended.map { "(\($0), 'a', '2015-01-01', 'suspended', '2020-01-01')" }
      try await service.execute(
        """
        INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
        VALUES \(rows.joined(separator: ", "))
        """)
      try await body(service)
    }
  }

  // MARK: What has to be answered

  private struct Expected: Equatable {
    /// As a result shows them, in order.
    var invalid: [String] = []
    var events: Set<Int64> = []
    /// The number of the first line that is no ID.
    var firstInvalid: Int?
  }

  /// Line by line, by other means than the service's.
  private static func expected(_ bytes: [UInt8]) -> Expected {
    var expected = Expected()
    var lines = bytes.split(separator: 0x0A, omittingEmptySubsequences: false)
    if lines.last?.isEmpty == true { lines.removeLast() }
    for (number, line) in lines.enumerated() {
      let text = String(decoding: line.prefix(4096), as: UTF8.self)
      let isDigits = (1...19).contains(line.count) && line.allSatisfy { (48...57).contains($0) }
      if isDigits, let id = Int64(text) {
        if suspended.contains(id) { expected.events.insert(id) }
      } else {
        expected.firstInvalid = expected.firstInvalid ?? number + 1
        expected.invalid.append(text)
      }
    }
    return expected
  }

  /// Uploads it, and holds what came of it against what has to.
  private static func check(
    _ bytes: [UInt8], _ profile: WireProfile, _ service: LocalService, _ what: String,
    _ location: SourceLocation = #_sourceLocation
  ) async throws {
    let expected = expected(bytes)
    let created = try await service.create("users")
    let token = profile == .native ? LocalService.token : nil
    let upload = try await service.send(
      .PUT, created.upload_url, token: token, contentType: "text/plain",
      body: .bytes(ByteBuffer(bytes: bytes)))
    #expect(upload.status == 200, "\(what): \(upload.text)", sourceLocation: location)
    try await service.gate.reached { $0 == .processed(jobID: created.id) }
    let job = try await service.job(created.id)
    if profile == .gcs, let line = expected.firstInvalid {
      #expect(job.status == "failed", "\(what)", sourceLocation: location)
      #expect(
        job.error?.hasPrefix("Line \(line) of the submission is not an ID") == true,
        "\(what): \(job.error ?? "")", sourceLocation: location)
      return
    }
    #expect(job.status == "complete", "\(what): \(job.error ?? "")", sourceLocation: location)
    let result = try await service.send(.GET, job.download_url, token: token)
    #expect(result.status == 200, "\(what)", sourceLocation: location)
    var found = Expected(firstInvalid: expected.firstInvalid)
    for line in result.body.split(separator: 0x0A) {
      // JSONDecoder refuses a line that is not UTF-8 or not JSON.
      let said = try JSONDecoder().decode([String: String].self, from: Data(line))
      if said["error"] == "invalid_id" {
        #expect(said.count == 2, sourceLocation: location)
        found.invalid.append(said["id"] ?? "")
      } else {
        #expect(said["reason"] == "suspended", sourceLocation: location)
        found.events.insert(try #require(said["id"].flatMap { Int64($0) }))
      }
    }
    #expect(found == expected, "\(what)", sourceLocation: location)
  }

  // MARK: The uploads

  private static let million = [UInt8](repeating: UInt8(ascii: "7"), count: 1_000_000)

  @Test(arguments: WireProfile.allCases)
  func oddLinesAreAnswered(profile: WireProfile) async throws {
    try await Self.run(profile) { service in
      let uploads: [(String, String)] = [
        ("empty", ""), ("a line feed", "\n"), ("empty lines", "\n\n1\n\n"),
        ("no final newline", "1\n22"), ("CRLF", "1\r\n22\r\n"), ("CR", "1\r22\r"),
        ("CRLF without an end", "1\r\n22\r"), ("NUL", "\0"), ("NULs", "1\n2\0\0\n\0\n22\n"),
        ("negative", "-1\n1\n-9223372036854775808\n"), ("signs", "+1\n1\n--1\n"),
        (
          "64-bit overflow",
          "9223372036854775807\n9223372036854775808\n18446744073709551616\n18446744073709551617\n"
        ),
        ("19 and 20 digits", "9999999999999999999\n00000000000000000001\n0000000000000000001\n"),
        ("zeros", "0\n00\n"), ("blanks", " 1\n1 \n\t1\n1\n"), ("decimals", "1.0\n1e3\n0x1\n1_0\n"),
        ("other digits", "١\n１\n²\n"), ("a byte order mark", "\u{FEFF}1\n"),
        ("quotes", "\"1\"\n\\\n'1'\n{\"id\":\"1\"}\n"), ("a CSV", "id,x\n1,2\n"),
        ("form feeds and DEL", "1\u{c}\n\u{7f}\n\u{85}\n\u{2028}\n"),
        ("the same a thousand times", String(repeating: "1\n", count: 1000)),
      ]
      for (what, text) in uploads { try await Self.check(Array(text.utf8), profile, service, what) }
    }
  }

  @Test(arguments: WireProfile.allCases)
  func bytesThatAreNoTextAreAnswered(profile: WireProfile) async throws {
    try await Self.run(profile) { service in
      let utf16: [UInt8] = "1\n22\n".utf16.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
      let uploads: [(String, [UInt8])] = [
        ("every byte", [UInt8](0...255)), ("0xFF", [0xFF]),
        ("half a character", [0x31, 0x0A, 0xC3]),
        ("overlong", [0xC0, 0xB1, 0x0A]), ("a surrogate", [0xED, 0xA0, 0x80, 0x0A, 0x31]),
        ("UTF-16", utf16), ("gzip", [0x1F, 0x8B, 0x08, 0x00, 0x0A, 0x00]),
      ]
      for (what, bytes) in uploads { try await Self.check(bytes, profile, service, what) }
    }
  }

  @Test(arguments: WireProfile.allCases)
  func linesOfTenMegabytesAreAnswered(profile: WireProfile) async throws {
    try await Self.run(profile) { service in
      let line = [UInt8]((0..<10).map { _ in Self.million }.joined())
      let end = Array("\n1\n".utf8)
      try await Self.check(line + end, profile, service, "digits")
      try await Self.check(line, profile, service, "digits without an end")
      let zeros = [UInt8](repeating: 0, count: 10_000_000)
      try await Self.check(Array("22\n".utf8) + zeros + end + line + end, profile, service, "NULs")
      let quotes = [UInt8](repeating: UInt8(ascii: "\""), count: 10_000_000)
      try await Self.check(quotes + end, profile, service, "quotes")
    }
  }

  @Test(arguments: WireProfile.allCases)
  func halfOfTheBytesMayBeOthers(profile: WireProfile) async throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    var dice = SeededGenerator(seed: seed)
    try await Self.run(profile) { service in
      for round in 1...8 {
        var bytes = Array(
          (0..<20_000).map { _ in "\(Int64.random(in: 1...60_000, using: &dice))\n" }.joined().utf8)
        for place in bytes.indices where Bool.random(using: &dice) {
          bytes[place] = UInt8.random(in: 0...255, using: &dice)
        }
        try await Self.check(bytes, profile, service, "seed \(seed), round \(round)")
      }
    }
  }

  @Test(arguments: WireProfile.allCases)
  func aSubmissionMayEndAnywhere(profile: WireProfile) async throws {
    try await Self.run(profile) { service in
      let text = Array("1\n22\n9223372036854775807\n-5\n333\r\n\n4444\n".utf8)
      for length in 0...text.count {
        try await Self.check(Array(text[..<length]), profile, service, "\(length) bytes")
      }
    }
  }

  /// The connection ends before as many bytes came as were announced.
  @Test func anUploadThatIsCutAnywhereChangesNothing() async throws {
    try await Self.run(.native) { service in
      let text = Array("1\n22\n333\n4444\n55555\n".utf8)
      let job = try await service.create("users")
      for length in 0..<text.count {
        let connection = try RawConnection(to: job.upload_url)
        try connection.send(
          """
          PUT \(connection.target) HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \(LocalService.token)\r\n\
          Content-Length: \(text.count)\r\n\r\n
          """)
        try connection.send(Array(text[..<length]))
        connection.close()
        // In chunks, cut in a chunk.
        let chunked = try RawConnection(to: job.upload_url)
        try chunked.send(
          """
          PUT \(chunked.target) HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \(LocalService.token)\r\n\
          Transfer-Encoding: chunked\r\n\r\n\(String(text.count, radix: 16))\r\n
          """)
        try chunked.send(Array(text[..<length]))
        chunked.close()
      }
      // Nothing of it counts: all of them are through once nobody is being answered but this request.
      while try await !service.get("/metrics").text.contains("compliance_requests_under_way 1\n") {}
      #expect(!service.gate.history.contains(.uploadReceived(jobID: job.id)))
      #expect(try await service.job(job.id).status == "created")
      let done = try await service.finish(job, uploading: String(decoding: text, as: UTF8.self))
      let result = try await service.get(done.download_url)
      #expect(result.body.count { $0 == 0x0A } == 5)
      let metrics = try await service.get("/metrics").text
      #expect(metrics.firstMatch(of: /endpoint="upload",status="5/) == nil)
    }
  }

  /// What announces its length wrongly, or says nothing sensible about it.
  @Test(arguments: [
    "Content-Length: -1", "Content-Length: 99999999999999999999", "Content-Length: x",
    "Content-Length: 3\r\nContent-Length: 4", "Content-Length: 3\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: gzip", "Transfer-Encoding: chunked\r\n\r\nxyz",
    "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n1",
  ])
  func wrongLengthsAreRefused(head: String) async throws {
    try await Self.run(.native) { service in
      let job = try await service.create("users")
      let connection = try RawConnection(to: job.upload_url)
      try connection.send(
        """
        PUT \(connection.target) HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \(LocalService.token)\r\n\
        Connection: close\r\n\(head)\r\n\r\n1\n2\n
        """)
      let answer = await connection.read(until: "}")
      #expect(answer.wholeMatch(of: /(?s)HTTP\/1.1 4\d\d .*/) != nil, "\(answer)")
      connection.close()
      #expect(try await service.job(job.id).status == "created")
    }
  }
}
