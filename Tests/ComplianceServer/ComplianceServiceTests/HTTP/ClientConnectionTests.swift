import ComplianceService
import Foundation
import TestSupport
import Testing

/// The service's limits on a client's request headers, its speed, its body and its connections.
@Suite(.endedIfItHangs) struct ClientConnectionTests {
  private static func run(
    _ configure: @escaping @Sendable (inout ComplianceServer.ConnectionLimits) -> Void = { _ in },
    _ body: (LocalService) async throws -> Void
  ) async throws {
    try await LocalService.run({ configure(&$0.connections) }, body)
  }

  /// Decodes the problem document in the text of a response.
  private static func problem(_ response: String) throws -> WireProblem {
    let body = try #require(response.split(separator: "\r\n\r\n").last)
    return try JSONDecoder().decode(WireProblem.self, from: Data(body.utf8))
  }

  private static let host = "Host: x\r\nAuthorization: Bearer \(LocalService.token)\r\n"

  // MARK: Headers

  /// The number of headers, and the number of bytes in the value of each header.
  @Test(arguments: [(1, 40_000), (200, 5)])
  func aRequestWithTooLongOrTooManyHeadersIsRefused(fields: Int, bytes: Int) async throws {
    try await Self.run { service in
      let field = "X-Long: \(String(repeating: "x", count: bytes))\r\n"
      let headers = String(repeating: field, count: fields)
      let connection = try RawConnection(to: service.baseURL)
      try connection.send("GET /healthz HTTP/1.1\r\n\(Self.host)\(headers)\r\n")
      let response = await connection.readToEnd()
      #expect(response.hasPrefix("HTTP/1.1 431 "), "\(response)")
      #expect(response.contains("connection: close\r\n"))
      #expect(try Self.problem(response).kind == "header-fields-too-large")
    }
  }

  @Test func aLongRequestLineIsRefused() async throws {
    try await Self.run { service in
      let connection = try RawConnection(to: service.baseURL)
      try connection.send("GET /\(String(repeating: "x", count: 200_000)) HTTP/1.1\r\n\r\n")
      let response = await connection.readToEnd()
      #expect(
        response.hasPrefix("HTTP/1.1 431 ") || response.hasPrefix("HTTP/1.1 400 "), "\(response)")
    }
  }

  @Test(arguments: ["\u{16}\u{3}\u{1}\u{2}", "GET\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n"])
  func aMalformedRequestIsRefused(bytes: String) async throws {
    try await Self.run { service in
      let connection = try RawConnection(to: service.baseURL)
      try connection.send(bytes)
      let response = await connection.readToEnd()
      #expect(response.hasPrefix("HTTP/1.1 400 "), "\(response)")
      #expect(try Self.problem(response).kind == "invalid-request")
    }
  }

  @Test func aRequestWithSlowHeadersIsRefused() async throws {
    try await Self.run({ $0.headTime = .milliseconds(100) }) { service in
      let connection = try RawConnection(to: service.baseURL)
      try connection.send("GET /healthz HTTP/1.1\r\nHost:")
      let response = await connection.readToEnd()
      #expect(response.hasPrefix("HTTP/1.1 408 "), "\(response)")
      #expect(try Self.problem(response).kind == "request-timeout")
    }
  }

  @Test func anIdleConnectionIsClosed() async throws {
    try await Self.run({ $0.idleTime = .milliseconds(100) }) { service in
      let connection = try RawConnection(to: service.baseURL)
      try connection.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
      let response = await connection.readToEnd()
      #expect(response.hasPrefix("HTTP/1.1 200 ") && response.hasSuffix("\"status\":\"ok\"}"))
    }
  }

  // MARK: Bodies

  @Test func aSlowBodyIsRefused() async throws {
    try await Self.run({
      $0.paceTime = .milliseconds(100)
      $0.paceBytesMin = 1000
    }) { service in
      let job = try await service.create()
      let connection = try RawConnection(to: job.upload_url)
      try connection.send(
        "PUT \(connection.target) HTTP/1.1\r\n\(Self.host)Content-Length: 2000\r\n\r\n123\n")
      let response = await connection.readToEnd()
      #expect(response.hasPrefix("HTTP/1.1 408 "), "\(response)")
      #expect(try Self.problem(response).kind == "request-timeout")
      #expect(response.contains("api-version:"))
      // The job still waits for its upload.
      #expect(try await service.put("123\n", to: job.upload_url).status == 200)
    }
  }

  @Test func aClientThatStillSendsCanReadTheRefusal() async throws {
    try await Self.run { service in
      let job = try await service.create()
      for _ in 1...5 {
        let connection = try RawConnection(to: job.upload_url)
        try connection.send(
          "PUT \(connection.target) HTTP/1.1\r\n\(Self.host)Content-Length: 200000000\r\n\r\n")
        for _ in 1...20 { try? connection.send([UInt8](repeating: 0x31, count: 65_536)) }
        let response = await connection.read(until: "payload-too-large\"}")
        #expect(response.hasPrefix("HTTP/1.1 413 "), "\(response)")
      }
    }
  }

  @Test func aRefusedUploadIsReadOnlyUpToALimit() async throws {
    try await Self.run({ $0.restBytesMax = 1_000_000 }) { service in
      let job = try await service.create()
      let connection = try RawConnection(to: job.upload_url)
      try connection.send(
        "PUT \(connection.target) HTTP/1.1\r\n\(Self.host)Content-Length: 200000000\r\n\r\n")
      // When the server closes the connection, sending fails, and the loop ends.
      while (try? connection.send([UInt8](repeating: 0x31, count: 65_536))) != nil {}
    }
  }

  @Test func aRequestWithExpectContinueGetsTheInterimResponse() async throws {
    try await Self.run { service in
      let job = try await service.create()
      let connection = try RawConnection(to: job.upload_url)
      let head = "PUT \(connection.target) HTTP/1.1\r\n\(Self.host)Expect: 100-continue\r\n"
      try connection.send("\(head)Content-Length: 4\r\n\r\n")
      #expect(await connection.read(until: "\r\n\r\n").hasPrefix("HTTP/1.1 100 Continue\r\n"))
      try connection.send("123\n")
      #expect(await connection.read(until: "}}").hasPrefix("HTTP/1.1 200 "))

      let refused = try RawConnection(to: job.upload_url)
      try refused.send("\(head)Content-Length: 4\r\n\r\n")
      let response = await refused.readToEnd()
      #expect(response.hasPrefix("HTTP/1.1 409 "), "\(response)")
      #expect(response.contains("connection: close\r\n"))
    }
  }

  @Test func aSlowReaderIsDisconnected() async throws {
    try await Self.run({ $0.paceTime = .milliseconds(200) }) { service in
      try await service.execute(
        """
        INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
        SELECT id, 'a' || id, '2015-01-01', 'deleted', '2020-01-01'
        FROM generate_series(1, 100000) AS id
        """)
      let job = try await service.uploaded("users", (1...100_000).map { "\($0)\n" }.joined())
      let connection = try RawConnection(to: job.download_url)
      try connection.send("GET \(connection.target) HTTP/1.1\r\n\(Self.host)\r\n")
      // The test does not read the response.
      while try await !service.get("/metrics").text.contains("reason=\"slow_reader\"} 1") {
        try await pollingPause()
      }
    }
  }

  /// The storage host has the same limits, with its own error format.
  @Test func theStorageHostHasTheSameLimits() async throws {
    try await LocalService.run({
      $0.profile = .gcs
      $0.connections.paceTime = .milliseconds(100)
      $0.connections.paceBytesMin = 1000
    }) { service in
      let job = try await service.create()
      let large = try RawConnection(to: job.upload_url)
      let field = "X-Long: \(String(repeating: "x", count: 40_000))\r\n"
      try large.send("PUT \(large.target) HTTP/1.1\r\n\(field)\r\n")
      let refused = await large.readToEnd()
      #expect(refused.hasPrefix("HTTP/1.1 431 "), "\(refused)")
      #expect(refused.contains("<Code>RequestHeaderSectionTooLarge</Code>"))

      let slow = try RawConnection(to: job.upload_url)
      try slow.send(
        """
        PUT \(slow.target) HTTP/1.1\r\nHost: \(slow.authority)\r\nContent-Type: text/plain\r\n\
        Content-Length: 2000\r\n\r\n123\n
        """)
      let late = await slow.readToEnd()
      #expect(late.hasPrefix("HTTP/1.1 408 "), "\(late)")
      #expect(late.contains("<Code>RequestTimeout</Code>"))
      #expect(try await service.put("123\n", to: job.upload_url, token: nil).status == 200)
    }
  }

  // MARK: Number of connections

  @Test func connectionsBeyondTheLimitWait() async throws {
    try await Self.run({ $0.connectionsMax = 2 }) { service in
      let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
      let first = try RawConnection(to: service.baseURL)
      let second = try RawConnection(to: service.baseURL)
      for connection in [first, second] {
        try connection.send(request)
        _ = await connection.read(until: "ok\"}")
      }
      let third = try RawConnection(to: service.baseURL)
      try third.send(request)
      for _ in 1...20 {
        try second.send(request)
        _ = await second.read(until: "ok\"}")
      }
      #expect(!third.hasBytes)
      first.close()
      #expect(await third.read(until: "ok\"}").hasPrefix("HTTP/1.1 200 "))
    }
  }
}
