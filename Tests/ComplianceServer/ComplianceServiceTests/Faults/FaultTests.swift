import AsyncHTTPClient
import ComplianceService
import FaultPlans
import Foundation
import NIOHTTP1
import TestSupport
import Testing

/// Injected faults, as a client sees them.
@Suite(.endedIfItHangs) struct FaultTests {
  private static func run(
    _ faults: [String],
    _ configure: @escaping @Sendable (inout ComplianceServer.Configuration) -> Void = { _ in },
    _ body: (LocalService) async throws -> Void
  ) async throws {
    let list = faults.map { "  - \($0)\n" }.joined()
    let plan = try FaultPlan(yaml: "seed: 7\nfaults:\n\(list)", file: "plan.yaml")
    try await LocalService.run(
      {
        $0.faults = plan
        configure(&$0)
      }, body)
  }

  /// Adds deleted accounts, which a users job reports.
  private static func addDeletedAccounts(_ count: Int, _ service: LocalService) async throws {
    try await service.execute(
      """
      INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
      SELECT id, 'a' || id, '2015-01-01', 'deleted', '2020-01-01'
      FROM generate_series(1, \(count)) AS id
      """)
  }

  private static func ids(_ count: Int) -> String { (1...count).map { "\($0)\n" }.joined() }

  private static let list = "\(LocalService.jobsPath)?type=tweets"

  private static func jobs(_ service: LocalService) async throws -> [WireJob] {
    try await service.get(list).decoded(WireJob.List.self).data ?? []
  }

  // MARK: Requests

  @Test(arguments: [500, 502, 503, 429], ["json", "html", "empty"])
  func anErrorIsInjected(status: Int, body: String) async throws {
    try await Self.run(["{at: create, call: 1, answer: {status: \(status), body: \(body)}}"]) {
      service in
      let response = try await service.post(#"{"type":"tweets"}"#)
      #expect(response.status == status)
      let type = response.headers.first(name: "content-type")
      switch body {
      case "json":
        #expect(type == "application/problem+json")
        let problem = try response.decoded(WireProblem.self)
        #expect(problem.status == status)
        #expect(!problem.title.isEmpty && !problem.detail.isEmpty)
      case "html":
        #expect(type == "text/html")
        #expect(response.text.hasPrefix("<!DOCTYPE html>"))
      default: #expect(response.body.isEmpty)
      }
      if status == 429 {
        #expect(response.headers.first(name: "x-rate-limit-remaining") == "0")
        let reset = response.headers.first(name: "x-rate-limit-reset").flatMap { Int($0) }
        #expect(try #require(reset) > Int(Date.now.timeIntervalSince1970))
      }
      // The request was not processed.
      #expect(try await Self.jobs(service).isEmpty)
      _ = try await service.create()
      #expect(try await service.faultsServed() == ["1 answer at create 1"])
    }
  }

  @Test func aResponseIsDelayed() async throws {
    try await Self.run(["{at: list, call: 2, latency: 300ms}"]) { service in
      _ = try await Self.jobs(service)
      let began = ContinuousClock.now
      _ = try await Self.jobs(service)
      #expect(ContinuousClock.now - began >= .milliseconds(300))
      #expect(try await service.faultsServed() == ["1 latency at list 2"])
    }
  }

  @Test func aConnectionIsClosedBeforeProcessing() async throws {
    try await Self.run(["{at: create, call: 1, cut: before}"]) { service in
      await #expect(throws: (any Error).self) { try await service.post(#"{"type":"tweets"}"#) }
      let jobs = try await Self.jobs(service)
      #expect(jobs.isEmpty)
      #expect(try await service.faultsServed() == ["1 cut at create 1"])
    }
  }

  @Test func aConnectionIsClosedInTheMiddleOfTheResponse() async throws {
    try await Self.run(["{at: get, call: 1, cut: during}"]) { service in
      let job = try await service.create()
      let connection = try RawConnection(to: service.baseURL)
      try connection.send(
        """
        GET \(LocalService.jobsPath)/\(job.id) HTTP/1.1\r\nHost: x\r
        Authorization: Bearer \(LocalService.token)\r\n\r\n
        """)
      let response = await connection.readToEnd()
      let parts = response.components(separatedBy: "\r\n\r\n")
      let length = response.firstMatch(of: /(?i)content-length: (\d+)/).flatMap { Int($0.1) }
      #expect(response.hasPrefix("HTTP/1.1 200 "), "\(response)")
      #expect(parts.last?.utf8.count == length.map { $0 / 2 })
      #expect(try await service.job(job.id) == job)
    }
  }

  @Test func aConnectionIsClosedAfterTheResponse() async throws {
    try await Self.run(["{at: get, call: 1, cut: after}"]) { service in
      let job = try await service.create()
      let connection = try RawConnection(to: service.baseURL)
      try connection.send(
        """
        GET \(LocalService.jobsPath)/\(job.id) HTTP/1.1\r\nHost: x\r
        Authorization: Bearer \(LocalService.token)\r\n\r\n
        """)
      let response = await connection.readToEnd()
      #expect(response.hasSuffix("}}"))
      #expect(!response.lowercased().contains("connection: close"))
      #expect(try await service.job(job.id) == job)
    }
  }

  @Test func aResponseIsLostAfterProcessing() async throws {
    let losses = ["create", "upload", "cancel"].map { "{at: \($0), call: 1, lose_response: true}" }
    try await Self.run(losses) { service in
      await #expect(throws: (any Error).self) { try await service.create() }
      let job = try #require(try await Self.jobs(service).first)
      #expect(job.status == "created")
      await #expect(throws: (any Error).self) {
        try await service.put("1\n", to: job.upload_url)
      }
      try await service.gate.reached { $0 == .processed(jobID: job.id) }
      #expect(try await service.job(job.id).status == "complete")
      let other = try await service.create()
      await #expect(throws: (any Error).self) {
        try await service.send(.DELETE, "\(LocalService.jobsPath)/\(other.id)")
      }
      #expect(try await service.job(other.id).status == "failed")
      #expect(try await service.faultsServed().count == 3)
    }
  }

  // MARK: Results

  @Test func aDownloadIsTruncated() async throws {
    try await Self.run(["{truncate: 0.5, call: 1}"]) { service in
      try await Self.addDeletedAccounts(1000, service)
      let job = try await service.uploaded("users", Self.ids(1000))
      let part = try await service.get(job.download_url)
      let whole = try await service.get(job.download_url)
      #expect(part.status == 200)
      #expect(part.body.count == whole.body.count / 2)
      #expect(whole.body.starts(with: part.body))
      #expect(try await service.faultsServed() == ["1 truncate at download 1 of \(job.id)"])
    }
  }

  @Test func aDownloadIsCorrupted() async throws {
    try await Self.run(["{corrupt: 3, call: [1, 2]}"]) { service in
      try await Self.addDeletedAccounts(1000, service)
      let job = try await service.uploaded("users", Self.ids(1000))
      var results: [[UInt8]] = []
      for _ in 1...3 { results.append(try await service.get(job.download_url).body) }
      for wrong in results.prefix(2) {
        #expect(wrong.count == results[2].count)
        #expect(zip(wrong, results[2]).count { $0 != $1 } == 3)
      }
      #expect(results[0] != results[1])
    }
  }

  @Test(arguments: [
    ("duplicate_lines", 2), ("unknown_lines", 2), ("malformed_lines", 2), ("blank_lines", 2),
  ])
  func faultyLinesAreAddedToAResult(kind: String, count: Int) async throws {
    try await Self.run(["{\(kind): \(count), call: 1}"]) { service in
      try await Self.addDeletedAccounts(5, service)
      let lines = try await service.resultLines("users", Self.ids(5))
      let clean = try await service.resultLines("users", Self.ids(5))
      #expect(clean.count == 5)
      #expect(lines.count == 5 + count)
      #expect(Set(clean).isSubset(of: lines))
      let added = [1, 3].map { lines[$0] }
      switch kind {
      case "duplicate_lines": #expect(added == Array(clean.prefix(2)))
      case "blank_lines": #expect(added == ["", ""])
      case "malformed_lines":
        #expect(added.allSatisfy { !$0.isEmpty && !$0.hasSuffix("}") })
      default: #expect(added.first == #"{"action":"archive","id":"1","reason":"archived"}"#)
      }
    }
  }

  // MARK: Jobs

  @Test func aJobFailsOrTakesLonger() async throws {
    try await Self.run(["{fail: internal error, call: 1}", "{slow: 200ms, call: 2}"]) { service in
      let failed = try await service.uploaded("tweets", "1\n")
      #expect(failed.status == "failed")
      #expect(failed.error == "internal error")
      let began = ContinuousClock.now
      #expect(try await service.uploaded("tweets", "1\n").status == "complete")
      #expect(ContinuousClock.now - began >= .milliseconds(200))
      let served = try await service.faultsServed().map { $0.split(separator: " of ")[0] }
      #expect(served == ["1 fail at processing 1", "2 slow at processing 2"])
    }
  }

  @Test func aJobExpiresAtOnce() async throws {
    try await Self.run(["{expire: true, call: 1}"]) { service in
      let job = try await service.create()
      #expect(try await service.put("1\n", to: job.upload_url).problem().status == 403)
      // The expired job does not prevent a new job of the same type.
      let next = try await service.create()
      #expect(try await service.job(job.id).status == "expired")
      #expect(try await service.put("1\n", to: next.upload_url).status == 200)
    }
  }

  @Test(arguments: [WireProfile.native, .gcs])
  func aFaultChangesTheProfileOfOneJob(from profile: WireProfile) async throws {
    let other: WireProfile = profile == .native ? .gcs : .native
    try await Self.run(["{profile: \(other.rawValue), call: 2}"], { $0.profile = profile }) {
      service in
      var isOnStorage: [Bool] = []
      for _ in 1...3 {
        let job = try await service.uploaded("tweets", "1\n")
        #expect(job.status == "complete")
        isOnStorage.append(!job.upload_url.hasPrefix(service.baseURL))
      }
      #expect(isOnStorage == [profile == .gcs, other == .gcs, profile == .gcs])
    }
  }

  // MARK: Affected calls and records

  @Test func theSamePlanAffectsTheSameCalls() async throws {
    func statuses() async throws -> [Int] {
      var statuses: [Int] = []
      try await Self.run(
        [
          "{at: list, rate: 0.4, answer: {status: 503}}",
          "{at: list, every: 7, times: 2, answer: {status: 502}}",
        ]
      ) { service in
        for _ in 1...60 { statuses.append(try await service.get(Self.list).status) }
      }
      return statuses
    }
    let first = try await statuses()
    #expect(try await statuses() == first)
    #expect((10...40).contains(first.count { $0 == 503 }))
    #expect(first.count { $0 == 502 } <= 2)
    #expect(first.contains(200))
  }

  @Test func everyServedFaultIsRecorded() async throws {
    let lines = LineCollector()
    try await Self.run(
      ["{name: flood, at: list, every: 2, answer: {status: 429}}"], { $0.accessLog = lines.add }
    ) { service in
      for _ in 1...4 { _ = try await service.get(Self.list) }
      let record = try await service.get("/admin/faults").object
      #expect(record["plan"] as? String == "plan.yaml")
      #expect(record["seed"] as? Int == 7)
      let faults = try #require(record["faults"] as? [[String: Any]])
      #expect(faults.first?["name"] as? String == "flood")
      #expect(faults.first?["calls"] as? Int == 4)
      #expect(faults.first?["served"] as? Int == 2)
      #expect(try await service.faultsServed() == ["flood at list 2", "flood at list 4"])
      let metrics = try await service.get("/metrics").text
      #expect(metrics.contains(#"compliance_faults_total{fault="flood"} 2"#))
      #expect(lines.all.count { $0.contains(#""faults":["flood"]"#) } == 2)
    }
  }

  @Test func withoutAPlanNoFaultsAreListed() async throws {
    try await LocalService.run { service in
      let record = try await service.get("/admin/faults")
      #expect(record.text == #"{"faults":[],"served":[]}"#)
    }
  }

  /// A fault that closes connections must not close another request's connection.
  @Test func aFaultThatClosesConnectionsDoesNotCutADownload() async throws {
    try await Self.run(["{at: get, cut: after}"]) { service in
      try await Self.addDeletedAccounts(100_000, service)
      let job = try await service.create("users")
      _ = try await service.put(Self.ids(100_000), to: job.upload_url).job()
      try await service.gate.reached { $0 == .processed(jobID: job.id) }
      var request = HTTPClientRequest(url: job.download_url)
      request.headers = ["authorization": "Bearer \(LocalService.token)", "connection": "close"]
      let response = try await service.send(request)
      #expect(response.body.count { $0 == UInt8(ascii: "\n") } == 100_000)
    }
  }
}

extension LocalService {
  /// Returns the served faults that `/admin/faults` lists. `1 cut at create 3` is the fault `1 cut` in the third call
  /// of create. If the fault belongs to a job, ` of ` and the job's ID follow.
  func faultsServed() async throws -> [String] {
    let served = try #require(try await get("/admin/faults").object["served"] as? [[String: Any]])
    return served.map { fault in
      let job = (fault["job"] as? String).map { " of \($0)" } ?? ""
      return "\(fault["fault"] ?? "") at \(fault["at"] ?? "") \(fault["call"] ?? "")\(job)"
    }
  }
}
