import AsyncHTTPClient
import ComplianceService
import Foundation
import NIOCore
import NIOHTTP1
import PostgreSQL
import TestSupport
import Testing

/// The operator's pages, and the access to them.
@Suite(.endedIfItHangs) struct OperatorPageTests {
  private static let pages = ["/", "/metrics", "/admin/faults"]

  private static func fetch(
    _ service: LocalService, _ path: String, authorization: String?
  ) async throws -> ServiceResponse {
    var request = HTTPClientRequest(url: service.baseURL + path)
    if let authorization { request.headers.add(name: "authorization", value: authorization) }
    return try await service.send(request)
  }

  private static func basic(_ password: String) -> String {
    "Basic " + Data("operator:\(password)".utf8).base64EncodedString()
  }

  // MARK: Access

  @Test(arguments: pages)
  func theOperatorsPagesRequireTheAdminToken(_ page: String) async throws {
    try await LocalService.run({ $0.adminToken = "secret:admin" }) { service in
      for right in ["Bearer secret:admin", Self.basic("secret:admin")] {
        #expect(try await Self.fetch(service, page, authorization: right).status == 200)
      }
      let wrong = [
        nil, "Bearer \(LocalService.token)", "Bearer secret", "secret:admin", Self.basic(""),
        Self.basic("secret:admim"), "Basic ???",
        "Basic \(Data("secret".utf8).base64EncodedString())",
      ]
      for wrong in wrong {
        let response = try await Self.fetch(service, page, authorization: wrong)
        #expect(try response.problem().status == 401, "\(wrong ?? "")")
        #expect(
          response.headers.first(name: "www-authenticate") == "Basic realm=\"compliance-server\"")
      }
      // The admin token is not the token of an App.
      #expect(
        try await service.get("\(LocalService.jobsPath)?type=tweets", token: "secret:admin").status
          == 401)
    }
  }

  @Test(arguments: pages)
  func withoutAnAdminTokenTheOperatorsPagesAreServedOnlyLocally(_ page: String) async throws {
    try await LocalService.run { service in
      let seen = try await Self.fetch(service, page, authorization: nil)
      #expect(seen.status == 200)
    }
    try await LocalService.run({
      $0.host = "0.0.0.0"
      $0.publicURL = "http://127.0.0.1"
    }) { service in
      let hidden = try await Self.fetch(service, page, authorization: nil)
      #expect(try hidden.problem().status == 404)
      #expect(try await Self.fetch(service, "/healthz", authorization: nil).status == 200)
    }
  }

  private static let names: [(host: String, isLoopback: Bool)] = [
    ("127.0.0.1", true), ("127.0.0.1:8080", true), ("127.8.9.10", true), ("localhost", true),
    ("LocalHost:1", true), ("[::1]", true), ("[::1]:8080", true),
    ("evil.example", false), ("evil.example:8080", false), ("127.0.0.1.evil.example", false),
    ("127.evil.example", false), ("127.0.0.256", false), ("127.0.0", false),
    ("localhost.evil.example", false),
    ("xlocalhost", false), ("10.0.0.1", false), ("0.0.0.0", false), ("[::2]", false),
    ("::1", false),
    ("", false),
  ]

  /// Returns the status of the response to a request with these header lines.
  private static func status(
    _ service: LocalService, _ path: String, _ fields: [String], version: String = "1.1"
  ) async throws -> Int? {
    let connection = try RawConnection(to: service.baseURL)
    let lines = ["GET \(path) HTTP/\(version)"] + fields + ["Connection: close", "", ""]
    try connection.send(lines.joined(separator: "\r\n"))
    let response = await connection.readToEnd()
    return response.split(separator: " ").dropFirst().first.flatMap { Int($0) }
  }

  @Test func withoutAnAdminTokenTheOperatorsPagesRequireALoopbackHost() async throws {
    try await LocalService.run { service in
      for name in Self.names {
        let host = "Host: \(name.host)"
        for page in Self.pages {
          let status = try await Self.status(service, page, [host])
          #expect(status == (name.isLoopback ? 200 : 404), "\(page) of \(name.host)")
        }
        // The API accepts any host name.
        for (path, status) in [
          ("/healthz", 200), ("/readyz", 200), ("/livez", 200), ("/2/openapi.json", 200),
          ("\(LocalService.jobsPath)?type=tweets", 401),
        ] {
          #expect(try await Self.status(service, path, [host]) == status, "\(path) of \(name.host)")
        }
      }
      // A proxy on this machine can send any host name. So a request with a proxy's headers is refused.
      for header in ["Forwarded: for=1.2.3.4", "Via: 1.1 proxy", "X-Forwarded-For: 1.2.3.4"] {
        #expect(
          try await Self.status(service, "/", ["Host: localhost", header]) == 404, "\(header)")
      }
      // If the request target is an absolute URL, its host must equal the Host header.
      for (target, status) in [
        ("http://evil.example/", 400), ("http://LOCALHOST/", 200),
        ("http://localhost/healthz", 200),
      ] {
        #expect(try await Self.status(service, target, ["Host: localhost"]) == status, "\(target)")
      }
    }
    // If a public URL is set, a proxy is in front of the service. So the operator's pages require a token.
    try await LocalService.run({ $0.publicURL = "http://127.0.0.1:1" }) { service in
      let hidden = try await Self.status(service, "/", ["Host: 127.0.0.1"])
      let open = try await Self.status(service, "/readyz", ["Host: 127.0.0.1"])
      #expect(hidden == 404 && open == 200)
    }
    // With the token, any host name is accepted.
    try await LocalService.run({ $0.adminToken = "admin" }) { service in
      for host in ["evil.example", "127.0.0.1"] {
        let fields = ["Host: \(host)"]
        let without = try await Self.status(service, "/", fields)
        let with = try await Self.status(service, "/", fields + ["Authorization: Bearer admin"])
        #expect(without == 401 && with == 200, "\(host)")
      }
    }
  }

  @Test(arguments: WireProfile.allCases)
  func aRequestNeedsExactlyOneValidHost(_ profile: WireProfile) async throws {
    try await LocalService.run({ $0.profile = profile }) { service in
      for path in ["/healthz", "/", "\(LocalService.jobsPath)?type=tweets"] {
        for fields in [
          [], ["Host: localhost", "Host: localhost"], ["Host: localhost", "hOST: evil.example"],
          ["Host: localhost, evil.example"], ["Host: evil.example/"], ["Host: a@localhost"],
          ["Host: local host"],
        ] {
          #expect(try await Self.status(service, path, fields) == 400, "\(path), \(fields)")
        }
      }
      // HTTP/1.0 requires no Host, but the operator's pages do.
      #expect(try await Self.status(service, "/healthz", [], version: "1.0") == 200)
      #expect(try await Self.status(service, "/", [], version: "1.0") == 404)
      guard profile == .gcs else { return }
      let storage = try RawConnection(to: try await service.create().upload_url)
      try storage.send("PUT \(storage.target) HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
      let response = await storage.readToEnd()
      #expect(
        response.hasPrefix("HTTP/1.1 400 ") && response.contains("<Code>InvalidArgument</Code>"))
    }
  }

  // MARK: Health

  private static let healthy = #"{"database":"ok","spool":"ok","status":"ok"}"#

  @Test func theServiceIsReadyOnlyWhileTheDatabaseIsAvailable() async throws {
    try await LocalService.run { service in
      for page in ["/healthz", "/readyz"] {
        let response = try await service.get(page, token: nil)
        #expect(response.status == 200 && response.text == Self.healthy)
      }
      // Make the database unavailable.
      let name = service.database.name
      try await withTestDatabase { other in
        try await other.withConnection {
          try await $0.runScript("ALTER DATABASE \(trusted: name) WITH ALLOW_CONNECTIONS false")
          _ = try await $0.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = \(name)"
          )
        }
        let unavailable = try await service.get("/readyz", token: nil)
        #expect(try unavailable.problem().status == 503)
        #expect(unavailable.text.contains("the database is unavailable"))
        #expect(unavailable.headers.first(name: "retry-after") == "1")
        let health = try await service.get("/healthz", token: nil)
        #expect(health.status == 503)
        // A restart would not help.
        #expect(try await service.get("/livez", token: nil).status == 200)
        #expect(health.text == #"{"database":"away","spool":"ok","status":"degraded"}"#)
        try await other.withConnection {
          try await $0.runScript("ALTER DATABASE \(trusted: name) WITH ALLOW_CONNECTIONS true")
        }
      }
      // The service's pool might still contain a terminated connection.
      while try await service.get("/readyz", token: nil).status != 200 { try await pollingPause() }
      #expect(try await service.get("/healthz", token: nil).text == Self.healthy)
    }
  }

  @Test func theHealthPageReportsThatTheSpoolIsUnavailable() async throws {
    try await LocalService.withSite { site in
      try await site.serving { service in
        let away = site.spool + "-away"
        try FileManager.default.moveItem(atPath: site.spool, toPath: away)
        let unavailable = try await service.get("/readyz", token: nil)
        #expect(try unavailable.problem().status == 503)
        #expect(unavailable.text.contains("the spool is unavailable"))
        let health = try await service.get("/healthz", token: nil)
        #expect(health.status == 503)
        #expect(health.text == #"{"database":"ok","spool":"away","status":"degraded"}"#)
        try FileManager.default.moveItem(atPath: away, toPath: site.spool)
        #expect(try await service.get("/readyz", token: nil).status == 200)
      }
    }
  }

  /// All connections to the database wait for a lock, but the health page responds.
  @Test func theHealthPageRespondsWhileTheDatabaseHangs() async throws {
    try await LocalService.run({ $0.healthTimeout = .milliseconds(700) }) { service in
      try await service.database.withConnection { holder in
        try await holder.withTransaction { transaction in
          _ = try await transaction.run("LOCK TABLE compliance.jobs IN ACCESS EXCLUSIVE MODE")
          try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 1...6 {
              group.addTask { _ = try await service.get("\(LocalService.jobsPath)?type=tweets") }
            }
            var text = ""
            while text != #"{"database":"slow","spool":"ok","status":"degraded"}"# {
              text = try await service.get("/healthz", token: nil).text
            }
            #expect(try await service.get("/readyz", token: nil).problem().status == 503)
            group.cancelAll()
          }
        }
      }
      while try await service.get("/readyz", token: nil).status != 200 { try await pollingPause() }
    }
  }

  @Test(arguments: pages + ["/healthz", "/readyz", "/livez", "/2/openapi.json"])
  func aResponseToHEADHasNoBody(_ page: String) async throws {
    try await LocalService.run { service in
      let head = try await service.send(.HEAD, page, token: nil)
      let get = try await service.get(page, token: nil)
      #expect(head.status == 200 && head.body.isEmpty)
      #expect(head.headers["content-type"] == get.headers["content-type"])
    }
  }

  // MARK: Metrics

  @Test func theMetricsCountTheServedRequests() async throws {
    try await LocalService.run { service in
      let job = try await service.uploaded("tweets", "1\n2\n")
      _ = try await service.get(job.download_url)
      _ = try await service.get("/2/compliance/jobs/1")
      _ = try await service.get("/nothing")
      let response = try await service.get("/metrics")
      #expect(
        response.headers.first(name: "content-type") == "text/plain; version=0.0.4; charset=utf-8")
      let samples = try Self.samples(response.text)
      for (sample, value) in [
        (#"compliance_requests_total{endpoint="create",status="200"}"#, 1.0),
        (#"compliance_requests_total{endpoint="get",status="404"}"#, 1),
        (#"compliance_requests_total{endpoint="unknown",status="404"}"#, 1),
        (#"compliance_request_seconds_count{endpoint="create"}"#, 1),
        (#"compliance_request_seconds_bucket{endpoint="create",le="+Inf"}"#, 1),
        (#"compliance_received_bytes_total{endpoint="upload"}"#, 4),
        (#"compliance_sent_bytes_total{endpoint="download"}"#, 0),
        (#"compliance_jobs{type="tweets",status="complete"}"#, 1),
        ("compliance_jobs_processed_total", 1),
        // This is the request for the metrics.
        ("compliance_requests_under_way", 1),
      ] {
        #expect(samples[sample] == value, "\(sample)")
      }
      #expect(try #require(samples["compliance_connections"]) >= 1)
      #expect(try #require(samples["compliance_processing_seconds_total"]) > 0)
    }
  }

  /// Parses Prometheus' text format, and checks its rules: each family's HELP and TYPE appear once and before its
  /// samples, and buckets are cumulative.
  private static func samples(_ text: String) throws -> [String: Double] {
    var samples: [String: Double] = [:]
    var families: Set<String> = []
    var family = ""
    var bucket = 0.0
    #expect(text.hasSuffix("\n"))
    for line in text.split(separator: "\n") {
      if let head = line.wholeMatch(of: /# (HELP|TYPE) (\w+) (.+)/) {
        guard head.1 == "TYPE" else { continue }
        family = String(head.2)
        #expect(families.insert(family).inserted, "\(family) appears twice")
        #expect(["counter", "gauge", "histogram"].contains(head.3))
        continue
      }
      let pattern = /((\w+?)(_bucket|_sum|_count)?(?:\{\w+="[^"\n]*"(?:,\w+="[^"\n]*")*\})?) (\S+)/
      let sample = try #require(line.wholeMatch(of: pattern), "\(line)")
      #expect(line.hasPrefix(family), "\(line) is listed under \(family)")
      let value = try #require(Double(sample.4), "\(line)")
      if sample.3 == "_bucket" {
        #expect(value >= bucket, "\(line)")
        bucket = sample.1.contains("+Inf") ? 0 : value
      }
      #expect(samples.updateValue(value, forKey: String(sample.1)) == nil, "\(line) appears twice")
    }
    return samples
  }

  // MARK: Access log

  @Test(arguments: WireProfile.allCases)
  func theAccessLogHasEveryRequestAndNoToken(profile: WireProfile) async throws {
    struct Line: Decodable {
      let time: String
      let remote: String
      let method: String
      let path: String
      let endpoint: String
      let status: Int
      let app: String?
      let job: String?
      let received_bytes: Int
      let sent_bytes: Int
      let seconds: Double
    }
    let log = LineCollector()
    try await LocalService.run({
      $0.profile = profile
      $0.accessLog = log.add
      $0.adminToken = "the-admin"
    }) { service in
      let job = try await service.uploaded("users", "1\nx\n".replacing("x", with: "2"))
      _ = try await service.send(
        .GET, job.download_url, token: profile == .native ? LocalService.token : nil)
      _ = try await service.get("/metrics", token: "the-admin")
      _ = try await service.get("/2/compliance/jobs?type=tweets", token: "not-a-token")
      // The service might write a request's line shortly after the response, so wait for all lines.
      while log.all.count < 6 { _ = try await service.get("/healthz", token: nil) }

      let lines = try log.all.map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
        .filter { $0.endpoint != "health" && $0.endpoint != "get" }
      #expect(
        lines.map { "\($0.method) \($0.endpoint) \($0.status)" } == [
          "POST create 200", "PUT upload 200", "GET download 200", "GET metrics 200",
          "GET list 401",
        ])
      #expect(lines.prefix(3).allSatisfy { $0.job == job.id })
      #expect(lines[1].received_bytes == 4)
      #expect(lines[0].sent_bytes > 100 && lines[0].seconds > 0)
      #expect(lines[0].app?.count == 8 && lines[4].app == nil)
      let secrets = [
        LocalService.token, "the-admin", "not-a-token", "token=", "Signature", "?", "earer",
        String(job.upload_url.suffix(32)), String(job.download_url.suffix(32)),
      ]
      for line in log.all {
        for secret in secrets { #expect(!line.contains(secret), "\(line)") }
        #expect(line.contains(#""remote":"127.0.0."#))
        #expect(line.contains(/"time":"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z"/), "\(line)")
      }
    }
  }
}
