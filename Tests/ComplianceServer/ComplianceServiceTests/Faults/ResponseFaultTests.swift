import ComplianceService
import FaultPlans
import Foundation
import NIOHTTP1
import TestSupport
import Testing

/// Responses that a fault plan sends or changes, as the bytes that a client receives.
@Suite(.endedIfItHangs) struct ResponseFaultTests {
  private static func run(
    _ faults: String..., profile: WireProfile = .native,
    _ body: (LocalService) async throws -> Void
  ) async throws {
    let list = faults.map { "  - \($0)\n" }.joined()
    let plan = try FaultPlan(yaml: "seed: 7\nfaults:\n\(list)", file: "plan.yaml")
    try await LocalService.run(
      {
        $0.faults = plan
        $0.profile = profile
      }, body)
  }

  private struct Raw {
    let status: String
    /// The header lines, unchanged.
    let headers: [String]
    let body: String

    init(_ text: String) {
      let parts = text.components(separatedBy: "\r\n\r\n")
      let lines = parts[0].components(separatedBy: "\r\n")
      status = lines[0]
      headers = Array(lines.dropFirst())
      body = parts.dropFirst().joined(separator: "\r\n\r\n")
    }

    func values(_ name: String) -> [String] {
      headers.filter { $0.hasPrefix("\(name): ") }.map { String($0.dropFirst(name.count + 2)) }
    }
  }

  /// - Parameter isLast: whether to send `Connection: close`. If it is false, the service must close the connection by
  ///   itself, because the test reads until the end.
  private static func raw(
    _ service: LocalService, _ method: String, _ url: String, body: String? = nil,
    isLast: Bool = true
  ) async throws -> Raw {
    let connection = try RawConnection(to: url.hasPrefix("/") ? service.baseURL + url : url)
    let isOwn = url.hasPrefix("/") || url.hasPrefix(service.baseURL)
    var head = "\(method) \(connection.target) HTTP/1.1\r\nHost: \(connection.authority)\r\n"
    if isOwn { head += "Authorization: Bearer \(LocalService.token)\r\n" }
    if isLast { head += "Connection: close\r\n" }
    if let body { head += "Content-Type: text/plain\r\nContent-Length: \(body.utf8.count)\r\n" }
    try connection.send("\(head)\r\n\(body ?? "")")
    return Raw(await connection.readToEnd())
  }

  /// A plan can respond to any call with any status, headers and body. The request itself is not processed.
  @Test(arguments: [WireProfile.native, .gcs])
  func aPlanCanSendAnyResponseToAnyCall(profile: WireProfile) async throws {
    let statuses = [200, 201, 204, 206, 301, 304, 307, 308, 400, 418, 451, 507, 599]
    let places = "[create, list, get, cancel, upload, download, session]"
    let rules = statuses.enumerated().map { index, status in
      let text = [204, 304].contains(status) ? "" : #", text: "a\r\nb \#(status)""#
      // Each fault counts the calls of all endpoints together. Call 1 is the request that creates the job.
      let calls = (0..<6).map { "\(2 + index + $0 * statuses.count)" }.joined(separator: ", ")
      return """
          - {at: \(places), call: [\(calls)], answer: {status: \(status), \
        headers: {Location: "https://other.example/\(status)", X-Odd: [one, two]}\(text)}}

        """
    }
    let plan = try FaultPlan(yaml: "faults:\n\(rules.joined())", file: "plan.yaml")
    try await LocalService.run({
      $0.faults = plan
      $0.profile = profile
    }) { service in
      let job = try await service.create()
      let jobs = LocalService.jobsPath
      let calls = [
        ("POST", jobs), ("GET", "\(jobs)?type=tweets"), ("GET", "\(jobs)/\(job.id)"),
        profile == .native ? ("DELETE", "\(jobs)/\(job.id)") : ("POST", job.upload_url),
        ("PUT", job.upload_url), ("GET", job.download_url),
      ]
      for (method, url) in calls {
        for status in statuses {
          let response = try await Self.raw(
            service, method, url, body: ["POST", "PUT"].contains(method) ? "{}" : nil)
          #expect(response.status.hasPrefix("HTTP/1.1 \(status)"), "\(method) \(response)")
          #expect(response.values("Location") == ["https://other.example/\(status)"], "\(response)")
          #expect(response.values("X-Odd") == ["one", "two"])
          #expect(response.body == ([204, 304].contains(status) ? "" : "a\r\nb \(status)"))
        }
      }
      #expect(try await service.job(job.id) == job)
    }
  }

  @Test func theHeadersOfAResponseAreRewritten() async throws {
    try await Self.run(
      """
      {at: get, call: 1, rewrite: {headers: {Date: "{date-960}", x-rate-limit-reset: "{epoch_ms+7200}", \
      X-RATE-LIMIT-LIMIT: 1e300, x-rate-limit-remaining: , Retry-After: "{epoch+5}"}}}
      """, "{at: get, call: 2, rewrite: {header_case: upper}}",
      "{at: get, call: [2, 3], rewrite: {header_case: lower, headers: {content-type: Text/HTML}}}"
    ) { service in
      let job = try await service.create()
      let path = "\(LocalService.jobsPath)/\(job.id)"
      let now = Date.now.timeIntervalSince1970
      let first = try await Self.raw(service, "GET", path)
      let date = try #require(first.values("Date").first)
      let seconds = try #require(Self.epochSeconds(ofDate: date), "\(date)")
      #expect((now - 961...now - 900).contains(seconds), "\(date)")
      let reset = first.values("x-rate-limit-reset").compactMap(Double.init)
      #expect(reset.count == 1 && (now + 7199...now + 7300).contains(reset[0] / 1000))
      #expect(first.values("X-RATE-LIMIT-LIMIT") == ["1e300"])
      #expect(first.values("x-rate-limit-limit") == [])
      #expect(first.values("x-rate-limit-remaining") == [])
      #expect(first.values("Retry-After").count == 1)
      #expect(first.body.contains(job.id))
      let later = try await Self.raw(service, "GET", path)
      let names = later.headers.map { $0.prefix { $0 != ":" } }
      #expect(names.allSatisfy { $0 == $0.lowercased() })
      #expect(later.values("content-type") == ["Text/HTML"])
      let plain = try await service.get(path)
      #expect(plain.headers["content-type"] == ["Text/HTML"])
      #expect(try await service.job(job.id) == job)
    }
  }

  /// Parses the date without the service's code.
  private static func epochSeconds(ofDate text: String) -> Double? {
    let pattern =
      /(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT/
    let months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(separator: " ")
    guard let parts = text.wholeMatch(of: pattern)?.output,
      let month = months.firstIndex(of: parts.2)
    else { return nil }
    func number(_ text: Substring) -> Int32 { Int32(text) ?? 0 }
    var time = tm()
    (time.tm_mday, time.tm_mon, time.tm_year) = (
      number(parts.1), Int32(month), number(parts.3) - 1900
    )
    (time.tm_hour, time.tm_min, time.tm_sec) = (number(parts.4), number(parts.5), number(parts.6))
    return Double(timegm(&time))
  }

  /// A fault also changes the headers of the service's own error responses, which its middleware writes.
  @Test(arguments: [WireProfile.native, .gcs])
  func theHeadersOfAnErrorResponseAreRewritten(profile: WireProfile) async throws {
    try await Self.run(
      "{at: [get, upload], rewrite: {status: 200, headers: {X-Odd: yes}, framing: close}}",
      profile: profile
    ) { service in
      let unknown = try await Self.raw(
        service, "GET", "\(LocalService.jobsPath)/7", isLast: false)
      #expect(unknown.status.hasPrefix("HTTP/1.1 404 "))
      #expect(unknown.values("X-Odd") == ["yes"])
      #expect(unknown.body.hasSuffix("}"))
      let url = try await service.create().upload_url
      let forged = try await Self.raw(
        service, "PUT", url.replacing(/(token|Signature)=./, with: "token=-"), body: "1\n",
        isLast: false)
      #expect(forged.status.hasPrefix("HTTP/1.1 40"), "\(forged)")
      #expect(forged.values("X-Odd") == ["yes"])
    }
  }

  // MARK: Bodies

  @Test(arguments: [WireProfile.native, .gcs])
  func aBodyHasTheFramingOfThePlan(profile: WireProfile) async throws {
    try await Self.run(
      "{at: download, call: 1, rewrite: {framing: close}}",
      "{at: download, call: 2, rewrite: {framing: chunked, headers: {Transfer-Encoding: Chunked}}}",
      #"{at: download, call: 3, rewrite: {headers: {Content-Length: "5"}}}"#,
      "{at: create, rewrite: {framing: close}}", profile: profile
    ) { service in
      try await service.execute(Submission.platformState)
      let ids = (1...50).map { "\($0)\n" }.joined()
      let job = try await service.uploaded("users", ids)
      let open = try await Self.raw(service, "GET", job.download_url, isLast: false)
      #expect(open.status.hasPrefix("HTTP/1.1 200 "))
      let names = open.headers.map { $0.prefix { $0 != ":" }.lowercased() }
      #expect(!names.contains("content-length") && !names.contains("transfer-encoding"))
      let chunked = try await Self.raw(service, "GET", job.download_url)
      #expect(chunked.values("Transfer-Encoding") == ["Chunked"], "\(chunked.headers)")
      let length = open.body.utf8.count
      #expect(chunked.body == "\(String(length, radix: 16))\r\n\(open.body)\r\n0\r\n\r\n")
      let wrong = try await Self.raw(service, "GET", job.download_url)
      #expect(wrong.values("Content-Length") == ["5"])
      #expect(wrong.body == open.body)
      let whole = try await Self.raw(service, "GET", job.download_url)
      #expect(whole.body == open.body)
      #expect(open.body.split(separator: "\n").count == 50)
      #expect(whole.values("Content-Length") == ["\(length)"])
    }
  }

  /// Python decompresses the body.
  @Test(arguments: ["gzip": "31", "deflate": "15", "raw_deflate": "-15"])
  func aBodyIsCompressed(coding: String, bits: String) async throws {
    try await Self.run("{at: get, call: 1, rewrite: {coding: \(coding)}}") { service in
      let job = try await service.create()
      let path = "\(LocalService.jobsPath)/\(job.id)"
      // urllib does not decompress by itself.
      let text = try await Tool.python([
        "-c",
        """
        import sys, urllib.request, zlib
        response = urllib.request.urlopen(urllib.request.Request(
            sys.argv[1], headers={"Authorization": "Bearer " + sys.argv[2]}))
        assert response.headers.get_all("Content-Encoding") == [sys.argv[3]]
        sys.stdout.write(zlib.decompress(response.read(), int(sys.argv[4])).decode())
        """, service.baseURL + path, LocalService.token, coding.replacing("raw_", with: ""), bits,
      ])
      #expect(text == (try await service.get(path).text))
    }
  }

  @Test func jobsInResponsesAreChanged() async throws {
    try await Self.run(
      """
      {at: list, call: [1, 2], rewrite: {members: {status: odd, error: {code: 3, words: [yes, "yes", 1.5]}}, \
      without: [type], shorten: {name: 4}, numbers: [id], entries: [null, {id: 7}, text, 3, {}]}}
      """,
      """
      {at: [get, create], rewrite: {members: {upload_expires_at: "{timestamp-60}", name: null}}}
      """
    ) { service in
      let empty = try await service.get("\(LocalService.jobsPath)?type=tweets").object
      #expect((empty["data"] as? [Any])?.count == 5)
      let created = try await service.post(#"{"type":"tweets","name":"a long name"}"#).object
      let shown = try #require(created["data"] as? [String: Any])
      let id = try #require(shown["id"] as? String)
      #expect(shown["name"] is NSNull)
      let expiry = try #require(shown["upload_expires_at"] as? String)
      #expect(expiry.hasSuffix("Z") && expiry < Date.now.ISO8601Format())
      let list = try await service.get("\(LocalService.jobsPath)?type=tweets").object
      let entries = try #require(list["data"] as? [Any])
      #expect(entries.count == 11)
      #expect(entries.first is NSNull)
      #expect(entries[2] as? String == "text" && entries[3] as? Int == 3)
      #expect((entries[6] as? NSNull) != nil && (entries[7] as? [String: Any])?["id"] as? Int == 7)
      let job = try #require(entries[5] as? [String: Any])
      #expect((job["id"] as? NSNumber)?.int64Value == Int64(id))
      #expect(job["status"] as? String == "odd")
      #expect(job["name"] as? String == "a lo")
      #expect(job["type"] == nil)
      let error = try #require(job["error"] as? [String: Any])
      #expect(error["code"] as? Int == 3)
      #expect((error["words"] as? [Any])?.map { "\($0)" } == ["yes", "yes", "1.5"])
    }
  }

  // MARK: Uploads

  @Test(arguments: UploadMethod.allCases)
  func halfOfAnUploadIsStored(way: UploadMethod) async throws {
    try await Self.run("{store: 0.5, times: 1}", profile: way.profile) { service in
      try await service.execute(Submission.platformState)
      let job = try await service.post(way.create()).job()
      var url = job.upload_url
      if way == .gcsInParts {
        url = try #require(try await service.begin(job).headers.first(name: "location"))
      }
      let text = "11\n12\n13\n14\n"
      let response = try await service.put(
        text, to: url, token: way == .native ? LocalService.token : nil)
      #expect(response.status == 200, "\(response.text)")
      let storedLength = response.headers.first(name: "x-goog-stored-content-length")
      #expect(storedLength == (way == .native ? nil : "6"))
      try await service.gate.reached { $0 == .processed(jobID: job.id) }
      let result = try await service.send(
        .GET, job.download_url, token: way == .native ? LocalService.token : nil)
      #expect(result.text.split(separator: "\n").count == 2, "\(result.text)")
    }
  }
}
