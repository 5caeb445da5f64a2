import ComplianceService
import Foundation
import SystemPackage
import TestSupport
import Testing

/// Clients that others wrote, as their users use them.
@Suite(.endedIfItHangs) struct PublicClientTests {
  /// Account 2 and what account 2 wrote are gone.
  private static let world = """
    INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at) VALUES
      (1, 'ann', '2015-01-01', 'active', NULL), (2, 'bob', '2015-01-01', 'deleted', '2020-01-01');
    INSERT INTO platform.posts (post_id, author_id, created_at)
    VALUES (1, 1, '2016-01-01'), (2, 2, '2016-01-01');
    """

  /// The begin of the one line that the world says of either type.
  private static let begin = #"{"id":"2","action":"delete","reason":"deleted""#

  // MARK: tweepy

  @Test(arguments: ["tweets", "users"])
  func tweepyCreatesListsAndGetsJobs(type: String) async throws {
    try await LocalService.run { service in
      try await service.execute(Self.world)
      let output = try await Tool.python([
        Tool.script("tweepy_client.py"), service.baseURL, LocalService.token, type, "1\n2\n3\n",
      ])
      let said = try #require(
        try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any])
      func jobs(_ step: String) throws -> [[String: String]] {
        let value = try #require(said[step], "\(step): \(said)")
        let jobs = try #require(
          value as? [[String: Any]] ?? [value] as? [[String: Any]], "\(value)")
        return jobs.map { $0.mapValues { "\($0)" } }
      }
      let empty = try #require(said["empty"] as? [String: Any])
      #expect(empty["data"] is NSNull)
      #expect((empty["meta"] as? [String: Int]) == ["result_count": 0])

      let created = try #require(jobs("created").first)
      #expect(created["type"] == type && created["status"] == "created")
      #expect(created["name"] == "by tweepy")
      #expect(try jobs("got") == [created])
      #expect(try jobs("listed") == [created])

      let complete = try #require(jobs("complete").first)
      #expect(complete["status"] == "complete")
      let changed = created.filter { $0 != ("status", "created") }
      #expect(changed.allSatisfy { complete[$0.key] == $0.value })
      #expect(try jobs("listed complete") == [complete])
      let result = try #require(said["result"] as? String)
      #expect(
        result.split(separator: "\n").map { $0.prefix(Self.begin.count) } == [Self.begin[...]])

      for (step, error, status) in [
        ("conflict", "HTTPException", 409), ("unknown", "NotFound", 404),
        ("filter", "BadRequest", 400), ("stranger", "Unauthorized", 401),
        ("resumable", "BadRequest", 400),
      ] {
        let refusal = try #require(said[step] as? [Any], "\(step): \(said)")
        #expect(refusal[0] as? String == error && refusal[1] as? Int == status, "\(refusal)")
        // It found a message where it looks for one.
        #expect((refusal.last as? String)?.isEmpty == false, "\(refusal)")
      }
    }
  }

  // MARK: curl

  /// The lines of README's section on the service that are for curl, by the comment that begins each part.
  private static func quickStart() throws -> [Substring: String] {
    let readme = try String(contentsOfFile: repositoryRootPath + "/README.md", encoding: .utf8)
    let section = try #require(
      readme.split(separator: "\n## ").first { $0.hasPrefix("The service") })
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
  func theQuickStartsCurlLinesWorkAsWritten(_ profile: WireProfile, _ part: String) async throws {
    let parts = try Self.quickStart()
    let script = try #require(parts["for both"]) + #require(parts[part[...]])
    try await LocalService.run({ $0.profile = profile }) { service in
      try await service.execute(Self.world)
      try await withTemporaryDirectory { directory in
        let ids = directory.appending("ids.txt").string
        try "1\n2\n3\n".write(toFile: ids, atomically: true, encoding: .utf8)
        _ = try await Tool.run(
          "/bin/bash", ["-euo", "pipefail", "-c", "cd '\(directory)'\n" + script],
          environment: [
            "API": service.baseURL, "COMPLIANCE_SERVER_TOKEN": LocalService.token,
          ])
        let result = try String(
          contentsOfFile: directory.appending("result.ndjson").string, encoding: .utf8)
        #expect(
          result.split(separator: "\n").map { $0.prefix(Self.begin.count) } == [Self.begin[...]])
      }
    }
  }
}
