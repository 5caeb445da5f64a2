import ComplianceService
import Foundation
import SystemPackage
import TestSupport
import Testing

/// Public clients of the API work with the service.
@Suite(.endedIfItHangs) struct PublicClientTests {
  // MARK: tweepy

  @Test(arguments: [(WireProfile.native, "tweets"), (.native, "users"), (.gcs, "tweets")])
  func tweepyCompletesAJob(_ profile: WireProfile, _ type: String) async throws {
    try await PublicHosts.run(profile) { hosts in
      try await hosts.service.execute(PublicClientData.script)
      let output = try await Tool.python(
        [Tool.script("tweepy_client.py"), LocalService.token, profile.rawValue, type]
          + [PublicClientData.submission], environment: hosts.environment)
      let printed = try ClientOutput(output)
      let empty = try #require(printed.object["empty"] as? [String: Any])
      #expect(empty["data"] is NSNull)
      #expect((empty["meta"] as? [String: Int]) == ["result_count": 0])
      try printed.expectOneJob(type: type, name: "by tweepy")
      try await hosts.service.expectEvents(
        try #require(printed.object["result"] as? String), type, profile)

      var refusals = [
        ("conflict", "HTTPException", 409), ("unknown", "NotFound", 404),
        ("filter", "BadRequest", 400), ("stranger", "Unauthorized", 401),
      ]
      if profile == .native {
        refusals.append(("resumable", "BadRequest", 400))
      } else {
        #expect(try printed.job("resumable")["resumable"] == "1")
      }
      for (step, error, status) in refusals {
        let refusal = try #require(printed.object[step] as? [Any], "\(step): \(printed)")
        #expect(refusal[0] as? String == error && refusal[1] as? Int == status, "\(refusal)")
        // The client must find the error message in the response.
        #expect((refusal.last as? String)?.isEmpty == false, "\(refusal)")
      }
    }
  }

  // MARK: xdk

  /// xdk is X's own client. It has a setting for the base URL, so the test needs no proxy.
  @Test(arguments: [(WireProfile.native, "tweets"), (.native, "users"), (.gcs, "tweets")])
  func xdkCompletesAJob(_ profile: WireProfile, _ type: String) async throws {
    try await LocalService.run({
      $0.profile = profile
      $0.rateLimit = nil
    }) { service in
      try await service.execute(PublicClientData.script)
      let output = try await Tool.python(
        [Tool.script("xdk_client.py"), service.baseURL, LocalService.token, profile.rawValue, type]
          + [PublicClientData.submission])
      let printed = try ClientOutput(output)
      #expect(
        (printed.object["empty"] as? [Any])?.isEmpty == true
          && printed.object["count"] as? Int == 0)
      try printed.expectOneJob(type: type, name: "by xdk")
      try await service.expectEvents(
        try #require(printed.object["result"] as? String), type, profile)
      for (step, status) in [
        ("conflict", 409), ("unknown", 404), ("filter", 400), ("stranger", 401),
      ] { #expect(printed.object[step] as? Int == status, "\(step): \(printed)") }
    }
  }

  // MARK: twarc

  /// Uses twarc's command line with `--no-wait`, because twarc polls for the first time only after a minute.
  @Test(arguments: ["tweets", "users"])
  func twarcCompletesAJobOfTheGCSProfile(type: String) async throws {
    try await Twarc.with(.gcs) { twarc in
      let job = try await twarc.created(type)
      try await twarc.service.gate.reached { $0 == .processed(jobID: job) }
      let got = try #require(try await twarc.json("get", job) as? [String: Any])
      let data = try #require(got["data"] as? [String: Any])
      #expect(data["status"] as? String == "complete" && data["name"] as? String == "by twarc")
      let listed = try await twarc.json("list", type, "--status", "complete") as? [[String: Any]]
      #expect(listed?.map { $0["id"] as? String } == [job])
      // With --verbose, twarc reads all times and whether the upload was resumable.
      _ = try await twarc.run("list", type, "--verbose")

      _ = try await twarc.run("download", job, "result.ndjson", "--no-wait")
      try await twarc.service.expectEvents(try twarc.file("result.ndjson"), type, .gcs)
    }
  }

  /// twarc sends no token for uploads and downloads, and ignores the statuses of the responses. So uploads and
  /// downloads fail in the native profile, and twarc stores the error response as the result. twarc's other commands
  /// work.
  @Test func twarcCreatesAndListsJobsOfTheNativeProfile() async throws {
    try await Twarc.with(.native) { twarc in
      let job = try await twarc.created("tweets")
      #expect(try await twarc.service.states() == ["tweets created"])

      // The test uploads the submission itself.
      let url = try await twarc.service.job(job).upload_url
      let path = try #require(url.split(separator: "https://api.x.com").first)
      _ = try await twarc.service.put(PublicClientData.submission, to: String(path)).job()
      try await twarc.service.gate.reached { $0 == .processed(jobID: job) }
      let listed = try await twarc.json("list", "tweets") as? [[String: Any]]
      #expect(listed?.map { $0["status"] as? String } == ["complete"])
      _ = try await twarc.run("download", job, "result.ndjson", "--no-wait")
      let refusal = try JSONDecoder().decode(
        WireProblem.self, from: Data(twarc.file("result.ndjson").utf8))
      #expect(refusal.status == 401)
    }
  }

  // MARK: curl

  /// Returns the curl commands in the service's reference page. The key of each part is its first comment, up to the
  /// colon.
  private static func quickStart() throws -> [Substring: String] {
    let page = try String(
      contentsOfFile: repositoryRootPath + "/docs/reference/service.md", encoding: .utf8)
    let section = try #require(page.split(separator: "\n## ").first { $0.hasPrefix("By hand") })
    let block = try #require(section.split(separator: "```sh\n").dropFirst().first)
      .prefix { $0 != "`" }
    var parts: [Substring: String] = [:]
    var name: Substring = ""
    for line in block.split(separator: "\n") {
      if line.hasPrefix("# ") { name = line.dropFirst(2).prefix { $0 != ":" } }
      parts[name, default: ""] += line + "\n"
    }
    return parts
  }

  @Test(arguments: [
    (WireProfile.native, "native"), (.gcs, "--profile gcs"), (.gcs, "--profile gcs, resumable"),
  ])
  func theCurlCommandsOfTheReferenceWork(_ profile: WireProfile, _ part: String) async throws {
    let parts = try Self.quickStart()
    let script = try #require(parts["for both"]) + #require(parts[part[...]])
    try await LocalService.run({ $0.profile = profile }) { service in
      try await service.execute(PublicClientData.script)
      try await withTemporaryDirectory { directory in
        let ids = directory.appending("ids.txt").string
        try PublicClientData.submission.write(toFile: ids, atomically: true, encoding: .utf8)
        _ = try await Tool.run(
          "/bin/bash", ["-euo", "pipefail", "-c", "cd '\(directory)'\n" + script],
          environment: [
            "API": service.baseURL, "COMPLIANCE_SERVER_TOKEN": LocalService.token,
          ])
        let result = directory.appending("result.ndjson").string
        try await service.expectEvents(
          try String(contentsOfFile: result, encoding: .utf8), "tweets", profile)
      }
    }
  }
}
