import AsyncHTTPClient
import ComplianceService
import NIOHTTP1
import TestSupport
import Testing

/// Downloads of whole results and of ranges, from the API host and from the storage host.
@Suite(.endedIfItHangs) struct DownloadTests {
  private static func run(
    _ profile: WireProfile, _ body: (_ fetch: Fetch, _ whole: ServiceResponse) async throws -> Void
  ) async throws {
    try await LocalService.run({ $0.profile = profile }) { service in
      try await service.execute(
        """
        INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
        SELECT id, 'a' || id, '2015-01-01', 'deleted', '2020-01-01' FROM generate_series(1, 20) AS id
        """)
      let job = try await service.uploaded("users", (1...20).map { "\($0)\n" }.joined())
      let fetch = Fetch(
        service: service, url: job.download_url,
        token: profile == .native ? LocalService.token : nil)
      try await body(fetch, try await fetch(.GET))
    }
  }

  private struct Fetch {
    let service: LocalService
    let url: String
    let token: String?

    func callAsFunction(_ method: HTTPMethod, _ headers: HTTPHeaders = [:]) async throws
      -> ServiceResponse
    {
      var request = HTTPClientRequest(url: url)
      request.method = method
      request.headers = headers
      if let token { request.headers.add(name: "authorization", value: "Bearer \(token)") }
      return try await service.send(request)
    }
  }

  @Test(arguments: WireProfile.allCases)
  func aHEADResponseHasTheHeadersOfAGETAndNoBody(profile: WireProfile) async throws {
    try await Self.run(profile) { fetch, whole in
      #expect(whole.status == 200 && whole.body.count > 1000)
      let head = try await fetch(.HEAD)
      #expect(head.status == 200 && head.body.isEmpty)
      for name in ["content-length", "content-type", "etag", "accept-ranges"] {
        #expect(whole.headers.first(name: name) != nil, "\(name)")
        #expect(head.headers.first(name: name) == whole.headers.first(name: name), "\(name)")
      }
      #expect(whole.headers.first(name: "content-length") == "\(whole.body.count)")
    }
  }

  @Test(arguments: WireProfile.allCases)
  func aRangeRequestGetsThatPartOfTheResult(profile: WireProfile) async throws {
    try await Self.run(profile) { fetch, whole in
      let count = whole.body.count
      for (range, part) in [
        ("bytes=0-0", 0..<1), ("bytes=10-19", 10..<20), ("bytes=100-", 100..<count),
        ("bytes=-7", count - 7..<count), ("bytes=0-999999", 0..<count),
        ("bytes=-999999", 0..<count), ("bytes=3-\(Int64.max)", 3..<count),
        ("bytes=0-\(Int64.max - 1)", 0..<count), ("bytes=-\(Int64.max)", 0..<count),
      ] {
        let response = try await fetch(.GET, ["range": range])
        #expect(response.status == 206, "\(range)")
        #expect(response.body[...] == whole.body[part], "\(range)")
        #expect(
          response.headers.first(name: "content-range")
            == "bytes \(part.lowerBound)-\(part.upperBound - 1)/\(count)")
        #expect(response.headers.first(name: "content-length") == "\(part.count)")
        #expect(response.headers.first(name: "etag") == whole.headers.first(name: "etag"))
      }
    }
  }

  @Test(arguments: WireProfile.allCases)
  func aRangeBeyondTheEndIsRefused(profile: WireProfile) async throws {
    try await Self.run(profile) { fetch, whole in
      for range in [
        "bytes=\(whole.body.count)-", "bytes=999999-1000000", "bytes=-0",
        "bytes=\(Int64.max)-\(Int64.max)", "bytes=\(Int64.max)-",
      ] {
        let response = try await fetch(.GET, ["range": range])
        #expect(response.status == 416, "\(range)")
        #expect(response.headers.first(name: "content-range") == "bytes */\(whole.body.count)")
      }
    }
  }

  /// A range is only for GET.
  @Test(arguments: WireProfile.allCases)
  func aRangeOfAHEADRequestIsIgnored(profile: WireProfile) async throws {
    try await Self.run(profile) { fetch, whole in
      let response = try await fetch(.HEAD, ["range": "bytes=0-0"])
      #expect([200, 403, 405].contains(response.status))
      #expect(response.headers.first(name: "content-range") == nil)
    }
  }

  @Test(arguments: WireProfile.allCases)
  func malformedAndMultipleRangesAreIgnored(profile: WireProfile) async throws {
    try await Self.run(profile) { fetch, whole in
      for range in [
        "bytes=5-2", "bytes=a-b", "bytes=-", "bytes=1", "bytes=0-1,5-6", "lines=0-1", "bytes=+1-2",
        "bytes=99999999999999999999-", "bytes=0-9223372036854775808",
      ] {
        let response = try await fetch(.GET, ["range": range])
        #expect(response.status == 200 && response.body == whole.body, "\(range)")
      }
    }
  }

  @Test(arguments: WireProfile.allCases)
  func conditionalRequestsUseTheEntityTag(profile: WireProfile) async throws {
    try await Self.run(profile) { fetch, whole in
      let tag = try #require(whole.headers.first(name: "etag"))
      for known in [tag, "\"x\", \(tag)", "W/\(tag)", "*"] {
        let response = try await fetch(.GET, ["if-none-match": known])
        #expect(response.status == 304 && response.body.isEmpty, "\(known)")
        #expect(response.headers.first(name: "etag") == tag)
      }
      #expect(try await fetch(.GET, ["if-none-match": "\"x\""]).status == 200)
      #expect(try await fetch(.GET, ["range": "bytes=0-0", "if-range": tag]).status == 206)
      #expect(try await fetch(.GET, ["range": "bytes=0-0", "if-range": "\"x\""]).status == 200)
    }
  }
}
