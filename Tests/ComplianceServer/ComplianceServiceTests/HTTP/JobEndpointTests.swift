import ComplianceService
import Foundation
import NIOHTTP1
import TestSupport
import Testing

@Suite(.endedIfItHangs) struct JobEndpointTests {
  @Test func aCreatedJobHasTheFormatOfTheAPI() async throws {
    try await LocalService.run { service in
      let response = try await service.post(#"{"type":"tweets","name":"nightly é"}"#)
      let job = try response.job()
      #expect(response.headers.first(name: "content-type")?.hasPrefix("application/json") == true)
      #expect(job.type == "tweets")
      #expect(job.status == "created")
      #expect(job.name == "nightly é")
      #expect(job.error == nil)
      #expect(job.id.wholeMatch(of: /[0-9]{1,19}/) != nil)
      // IDs exceed 2^53, so that a client that reads them as doubles fails.
      #expect(try #require(Int64(job.id)) > 1 << 53)
      for instant in [job.created_at, job.upload_expires_at, job.download_expires_at] {
        #expect(
          instant.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/) != nil, "\(instant)")
      }
      let path = "\(service.baseURL)/2/compliance/jobs/\(job.id)"
      #expect(job.upload_url.hasPrefix("\(path)/upload?token="))
      #expect(job.download_url.hasPrefix("\(path)/download?token="))
      #expect(try await service.job(job.id) == job)
    }
  }

  @Test func lifetimesStartAtTheCreation() async throws {
    try await LocalService.run { service in
      let job = try await service.create()
      let created = try seconds(job.created_at)
      #expect(try seconds(job.upload_expires_at) - created == 15 * 60)
      #expect(try seconds(job.download_expires_at) - created == 7 * 24 * 60 * 60)
    }
  }

  private func seconds(_ text: String) throws -> Double {
    try Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true))
      .timeIntervalSince1970.rounded()
  }

  @Test func aJobHasANameOnlyIfTheRequestHadOne() async throws {
    try await LocalService.run { service in
      let unnamed = try #require(
        try await service.post(#"{"type":"users"}"#).object["data"] as? [String: Any])
      #expect(unnamed["name"] == nil)
      #expect(unnamed["error"] == nil)
      let name = String(repeating: "é", count: 64)
      #expect(try await service.post(#"{"type":"tweets","name":"\#(name)"}"#).job().name == name)
    }
  }

  @Test(arguments: [
    (#"{}"#, "type"),
    (#"{"type":"posts"}"#, "type"),
    (#"{"type":7}"#, "type"),
    (#"{"type":null}"#, "type"),
    (#"{"type":"tweets","name":7}"#, "name"),
    (#"{"type":"tweets","name":null}"#, "name"),
    (#"{"type":"tweets","name":"\u0000"}"#, "name"),
    (#"{"type":"tweets","name":"\#(String(repeating: "x", count: 65))"}"#, "name"),
    (#"{"type":"tweets","resumable":true}"#, "resumable"),
    (#"{"type":"tweets","resumable":0}"#, "resumable"),
    (#"{"type":"tweets","resumable":"false"}"#, "resumable"),
    (#"{"type":"tweets","resumable":null}"#, "resumable"),
    (#"{"type":"tweets","resumable":[false]}"#, "resumable"),
    (#"{"type":"tweets","priority":"high"}"#, "priority"),
  ])
  func anInvalidCreateRequestIsRefused(_ json: String, naming parameter: String) async throws {
    try await LocalService.run { service in
      let response = try await service.post(json)
      let problem = try response.problem()
      #expect(problem.status == 400)
      #expect(problem.kind == "invalid-request")
      #expect(problem.parameter == parameter)
      let errors = try #require(response.object["errors"] as? [[String: Any]])
      let parameters = try #require(errors.first?["parameters"] as? [String: Any])
      #expect(Array(parameters.keys) == [parameter])
      #expect(try await service.get("/2/compliance/jobs?type=tweets").object["data"] == nil)
    }
  }

  @Test(arguments: WireProfile.allCases) func resumableFalseIsAccepted(
    _ profile: WireProfile
  ) async throws {
    try await LocalService.run({ $0.profile = profile }) { service in
      let response = try await service.post(#"{"type":"tweets","resumable":false}"#)
      #expect(try response.job().status == "created")
      let job = try #require(response.object["data"] as? [String: Any])
      #expect(job["resumable"] as? Bool == false)
    }
  }

  @Test(arguments: [
    "", "[", "[]", "null", #""tweets""#, #"{"type":"tweets""#, "type=tweets",
    #"{"type":"tweets","name":"\ud800"}"#, String(repeating: "[", count: 5000),
  ])
  func aBodyThatIsNotAJSONObjectIsRefused(_ body: String) async throws {
    try await LocalService.run { service in
      let problem = try await service.post(body).problem()
      #expect(problem.status == 400)
    }
  }

  @Test func aBodyThatIsTooLargeIsRefused() async throws {
    try await LocalService.run { service in
      let name = String(repeating: "x", count: 1_000_000)
      let problem = try await service.post(#"{"type":"tweets","name":"\#(name)"}"#).problem()
      #expect(problem.status == 413)
    }
  }

  @Test func jobsAreListedNewestFirstAndByStatus() async throws {
    try await LocalService.run { service in
      let path = "/2/compliance/jobs?type=tweets"
      let empty = try await service.get(path)
      #expect(empty.text == #"{"meta":{"result_count":0}}"#)

      let first = try await service.create()
      _ = try await service.send(.DELETE, "/2/compliance/jobs/\(first.id)").job()
      let second = try await service.finish(service.create(), uploading: "1\n")
      let third = try await service.create()
      _ = try await service.create("users")

      func listed(_ query: String = "") async throws -> [String] {
        let list = try await service.get(path + query).decoded(WireJob.List.self)
        #expect(list.meta.result_count == list.data?.count ?? 0)
        return (list.data ?? []).map(\.id)
      }
      #expect(try await listed() == [third.id, second.id, first.id])
      #expect(try await listed("&status=created") == [third.id])
      #expect(try await listed("&status=complete") == [second.id])
      #expect(try await listed("&status=failed") == [first.id])
      #expect(try await listed("&status=in_progress") == [])
    }
  }

  @Test(arguments: [
    ("", "type"),
    ("?status=created", "type"),
    ("?type=", "type"),
    ("?type=posts", "type"),
    ("?type=tweets&status=expired", "status"),
    ("?type=tweets&type=users", "type"),
    ("?type=tweets&max_results=5", "max_results"),
    ("?type=tweets&compliance_job.fields=", "compliance_job.fields"),
    ("?type=tweets&compliance_job.fields=id,error", "compliance_job.fields"),
    ("?type=tweets&compliance_job.fields=id,id", "compliance_job.fields"),
  ])
  func anInvalidListRequestIsRefused(_ query: String, naming parameter: String) async throws {
    try await LocalService.run { service in
      let problem = try await service.get("/2/compliance/jobs" + query).problem()
      #expect(problem.status == 400)
      #expect(problem.kind == "invalid-request")
      #expect(problem.parameter == parameter)
    }
  }

  @Test func onlyTheRequestedFieldsAreReturned() async throws {
    try await LocalService.run { service in
      let query = "?compliance_job.fields=id,status"
      func members(_ response: ServiceResponse) throws -> [String] {
        let data = response.object["data"] as? [String: Any] ?? [:]
        return data.keys.sorted()
      }
      let created = try await service.post(#"{"type":"tweets","name":"n"}"#, query: query)
      #expect(try members(created) == ["id", "status"])
      let data = try #require(created.object["data"] as? [String: Any])
      let path = "/2/compliance/jobs/\(try #require(data["id"] as? String))"
      #expect(try members(await service.get(path + query)) == ["id", "status"])
      #expect(
        try members(await service.get(path + "?compliance_job.fields=name%2Cresumable"))
          == ["name", "resumable"])
      #expect(
        try await service.get("/2/compliance/jobs?type=tweets&compliance_job.fields=status").text
          == #"{"data":[{"status":"created"}],"meta":{"result_count":1}}"#)

      let url = try await service.get(path).job().upload_url
      let uploaded = try await service.put("1", to: url + "&compliance_job.fields=status")
      #expect(uploaded.text == #"{"data":{"status":"in_progress"}}"#)
      let cancelled = try await service.send(.DELETE, path + query)
      #expect([200, 409].contains(cancelled.status))
    }
  }

  @Test func aFailedJobAlwaysHasAnError() async throws {
    try await LocalService.run { service in
      let job = try await service.create()
      let cancelled = try await service.send(
        .DELETE, "/2/compliance/jobs/\(job.id)?compliance_job.fields=status")
      #expect(
        cancelled.text == #"{"data":{"error":"The job was cancelled.","status":"failed"}}"#)
    }
  }

  @Test func anAppHasAtMostOneActiveJobOfAType() async throws {
    try await LocalService.run { service in
      let job = try await service.create()
      let response = try await service.post(#"{"type":"tweets"}"#)
      let problem = try response.problem()
      #expect(problem.status == 409)
      #expect(problem.kind == "conflict")
      #expect(response.object.keys.sorted() == ["detail", "status", "title", "type"])
      #expect(response.object["title"] as? String == "Conflict")

      _ = try await service.create("users")
      _ = try await service.create("tweets", token: LocalService.otherToken)
      let cancelled = try await service.send(.DELETE, "/2/compliance/jobs/\(job.id)").job()
      #expect(cancelled.status == "failed")
      _ = try await service.create()
    }
  }

  @Test func simultaneousRequestsCreateOnlyOneJob() async throws {
    try await LocalService.run { service in
      // The HTTP client sends this many requests at the same time.
      let requests = 8
      service.gate.hold { $0 == .createReceived(type: "tweets") }
      let statuses = try await withThrowingTaskGroup(of: Int.self) { group in
        for _ in 0..<requests {
          group.addTask { try await service.post(#"{"type":"tweets"}"#).status }
        }
        try await service.gate.reached(times: requests) { $0 == .createReceived(type: "tweets") }
        service.gate.release()
        return try await group.reduce(into: []) { $0.append($1) }
      }
      #expect(statuses.count { $0 == 200 } == 1)
      #expect(statuses.count { $0 == 409 } == requests - 1)
    }
  }

  @Test func onlyAnActiveJobCanBeCancelled() async throws {
    try await LocalService.run { service in
      let job = try await service.finish(service.create(), uploading: "1\n")
      let problem = try await service.send(.DELETE, "/2/compliance/jobs/\(job.id)").problem()
      #expect(problem.status == 409)
      #expect(try await service.job(job.id) == job)
    }
  }

  @Test func anUnusedJobExpiresAndAllowsANewJob() async throws {
    try await LocalService.run {
      $0.uploadLifetime = .zero
    } _: { service in
      let first = try await service.create()
      let second = try await service.create()
      #expect(try await service.job(first.id).status == "expired")
      let refused = try await service.put("1\n", to: second.upload_url).problem()
      #expect(refused.status == 403)
      #expect(try await service.send(.DELETE, "/2/compliance/jobs/\(first.id)").status == 409)
    }
  }
}
