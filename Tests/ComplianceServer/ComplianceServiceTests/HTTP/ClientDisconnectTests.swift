import ComplianceService
import Foundation
import NIOHTTP1
import TestSupport
import Testing

/// Clients that disconnect in the middle of a request. Each request ends, and none counts as a server error.
@Suite(.endedIfItHangs) struct ClientDisconnectTests {
  private struct Line: Decodable {
    let method: String
    let status: Int
  }

  /// Runs a service, and expects the same numbers of requests in its access log and in its metrics.
  /// - Returns: the statuses of all requests except GET requests.
  private static func statuses(
    _ profile: WireProfile, _ body: (LocalService) async throws -> Void
  ) async throws -> [Int] {
    let log = LineCollector()
    return try await LocalService.run({
      $0.profile = profile
      $0.accessLog = log.add
    }) { service in
      try await body(service)
      // The request for the metrics counts itself.
      while try await service.gauge("compliance_requests_under_way") != 1 {
        try await pollingPause()
      }
      let page = try await service.get("/metrics").text
      let lines = try log.all.map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
        .filter { $0.method != "GET" }
      for endpoint in ["create", "upload", "session"] {
        let counted = page.matches(
          of: try Regex(
            "compliance_requests_total\\{endpoint=\"\(endpoint)\",status=\"(\\d+)\"\\} (\\d+)",
            as: (Substring, Substring, Substring).self))
        for match in counted {
          let logged = try log.all.count(where: {
            try JSONDecoder().decode(Line.self, from: Data($0.utf8)).status == Int(match.1)
              && $0.contains("\"endpoint\":\"\(endpoint)\"")
          })
          #expect(logged == Int(match.2), "\(match.0)")
        }
      }
      return lines.map(\.status)
    }
  }

  @Test(arguments: [true, false])
  func aRequestEndsWhenTheClientDisconnects(_ isReset: Bool) async throws {
    let statuses = try await Self.statuses(.native) { service in
      service.gate.hold { $0 == .createReceived(type: "tweets") }
      let connection = try RawConnection(to: service.baseURL)
      let body = #"{"type":"tweets"}"#
      try connection.send(
        """
        POST \(LocalService.jobsPath) HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\
        Authorization: Bearer \(LocalService.token)\r\n\r\n\(body)
        """)
      try await service.gate.reached { $0 == .createReceived(type: "tweets") }
      if isReset {
        connection.reset()
        // Wait until the server has noticed the reset.
        while try await service.gauge("compliance_connections") > 1 { try await pollingPause() }
      } else {
        connection.close()
      }
      service.gate.release()
    }
    #expect(statuses == [499] || statuses == [200], "\(statuses)")
  }

  private enum Body: String, CaseIterable {
    case create
    case upload
    case object
    case part

    var profile: WireProfile { self == .create || self == .upload ? .native : .gcs }
  }

  @Test(arguments: ["create", "upload", "object", "part"], [true, false])
  func anIncompleteBodyIsAClientError(_ body: String, _ isReset: Bool) async throws {
    let body = try #require(Body(rawValue: body))
    let statuses = try await Self.statuses(body.profile) { service in
      var url = service.baseURL + LocalService.jobsPath
      var method = "POST"
      var headers = service.uploadHeaders(body.profile == .native ? .native : .gcs)
      if body != .create {
        let way: UploadMethod = body == .upload ? .native : body == .object ? .gcs : .gcsInParts
        url = try await service.target(of: service.post(way.create()).job(), way)
        method = "PUT"
        if way == .gcsInParts { headers.add(name: "content-range", value: "bytes 0-999/1000") }
      }
      let connection = try RawConnection(to: url)
      let fields = headers.map { "\($0.name): \($0.value)\r\n" }.joined()
      try connection.send(
        """
        \(method) \(connection.target) HTTP/1.1\r\nHost: \(connection.authority)\r\n\(fields)\
        Content-Length: 1000\r\n\r\n{"type":
        """)
      // Wait until the server processes the request.
      while try await service.gauge("compliance_requests_under_way") < 2 {
        try await pollingPause()
      }
      if isReset { connection.reset() } else { connection.close() }
    }
    let status = try #require(statuses.last)
    // The service keeps the received bytes of a part, and responds with 308.
    #expect((400..<500).contains(status) || body == .part && status == 308, "\(statuses)")
    #expect(statuses.dropLast().allSatisfy { $0 < 300 }, "\(statuses)")
  }
}

extension LocalService {
  /// The value of a metric without labels.
  fileprivate func gauge(_ name: String) async throws -> Int {
    let page = try await get("/metrics").text
    let line = try #require(page.split(separator: "\n").first { $0.hasPrefix("\(name) ") })
    return try #require(Int(line.dropFirst(name.count + 1)))
  }
}
