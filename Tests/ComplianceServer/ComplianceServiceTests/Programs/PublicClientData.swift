import ComplianceService
import Foundation
import PostgreSQL
import SystemPackage
import TestSupport
import Testing

/// The platform's state. It contains a post or an account for each kind of event.
enum PublicClientData {
  static let script = """
    INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at) VALUES
      (1, 'ann', '2015-01-01', 'active', NULL), (2, 'bob', '2015-01-01', 'protected', '2020-01-01'),
      (3, 'cal', '2015-01-01', 'suspended', '2020-01-01'), (4, 'dee', '2015-01-01', 'deleted', '2020-01-01'),
      (5, 'eve', '2015-01-01', 'deactivated', '2020-01-01');
    INSERT INTO platform.posts (post_id, author_id, created_at)
    SELECT a, a, '2016-01-01' FROM generate_series(1, 5) AS a;
    INSERT INTO platform.posts
      (post_id, author_id, created_at, deleted_at, bounced_at, edited_at, geo_removed_at)
    VALUES (6, 1, '2016-01-01', '2020-01-01', NULL, NULL, NULL), (7, 1, '2016-01-01', NULL, '2020-01-01', NULL, NULL),
           (8, 1, '2016-01-01', NULL, NULL, '2020-01-01', NULL), (9, 1, '2016-01-01', NULL, NULL, NULL, '2020-01-01'),
           (10, 4, '2016-01-01', NULL, NULL, NULL, NULL);
    """

  /// Post 10 is not submitted, and 99 does not exist.
  static let submission = "1\n2\n3\n4\n5\n6\n7\n8\n9\n99\n"

  /// Returns SQL that selects the IDs with the expected action and reason in a profile.
  static func expectedEvents(_ type: String, _ profile: WireProfile) -> String {
    let isGCS = profile == .gcs
    return type == "users"
      ? "SELECT account_id, 'delete ' || state FROM platform.accounts WHERE state <> 'active'"
      : """
      SELECT post_id, CASE WHEN state <> 'active' THEN 'delete ' || state
                           WHEN deleted_at IS NOT NULL THEN 'delete deleted'
                           WHEN bounced_at IS NOT NULL THEN 'delete bounced'
                           WHEN geo_removed_at IS NOT NULL
                           THEN '\(isGCS ? "delete scrub_geo" : "scrub_geo scrub_geo")'
                           WHEN edited_at IS NOT NULL AND \(!isGCS) THEN 'rehydrate tweet_edited' END
      FROM platform.posts JOIN platform.accounts ON account_id = author_id WHERE post_id <> 10
      """
  }
}

extension LocalService {
  /// Compares a downloaded result with the platform's state, and expects that the job is complete.
  func expectEvents(
    _ result: String, _ type: String, _ profile: WireProfile,
    _ location: SourceLocation = #_sourceLocation
  ) async throws {
    let expected = try await database.withConnection {
      try await $0.query(
        """
        SELECT id || ' ' || action_and_reason
        FROM (\(trusted: PublicClientData.expectedEvents(type, profile))) AS event (id, action_and_reason)
        WHERE action_and_reason IS NOT NULL
        """
      ).rows(as: String.self)
    }
    let lines = try result.split(separator: "\n").map { line in
      let event = try JSONDecoder().decode([String: String].self, from: Data(line.utf8))
      return ["id", "action", "reason"].map { event[$0] ?? "" }.joined(separator: " ")
    }
    #expect(lines.sorted() == expected.sorted(), sourceLocation: location)
    #expect(try await states().first == "\(type) complete", sourceLocation: location)
  }

  /// Returns the type and status of each job.
  func states() async throws -> [String] {
    try await database.withConnection {
      try await $0.query("SELECT type || ' ' || status FROM compliance.jobs ORDER BY id")
        .rows(as: String.self)
    }
  }
}

/// The JSON that a client script prints about its calls.
struct ClientOutput {
  let object: [String: Any]

  init(_ output: String) throws {
    let object = try JSONSerialization.jsonObject(with: Data(output.utf8))
    self.object = try #require(object as? [String: Any])
  }

  func job(_ step: String) throws -> [String: String] {
    let value = try #require(object[step], "\(step): \(object)")
    let jobs = try #require(value as? [[String: Any]] ?? [value] as? [[String: Any]], "\(value)")
    try #require(jobs.count == 1, "\(step): \(object)")
    return jobs[0].mapValues { "\($0)" }
  }

  /// Checks that a job was created, shown, listed and completed.
  func expectOneJob(type: String, name: String) throws {
    let created = try job("created")
    #expect(created["type"] == type && created["status"] == "created" && created["name"] == name)
    #expect(try job("got") == created)
    #expect(try job("listed") == created)
    let complete = try job("complete")
    #expect(complete == created.merging(["status": "complete"]) { $1 })
    #expect(try job("listed complete") == complete)
  }
}

/// Runs twarc's command line in its own working directory.
struct Twarc {
  let service: LocalService
  private let directory: String
  private let environment: [String: String]

  static func with(
    _ profile: WireProfile, _ body: (Twarc) async throws -> Void
  ) async throws {
    try await PublicHosts.run(profile) { hosts in
      try await hosts.service.execute(PublicClientData.script)
      try await withTemporaryDirectory { directory in
        try PublicClientData.submission.write(
          toFile: directory.appending("ids.txt").string, atomically: true, encoding: .utf8)
        let token = ["BEARER_TOKEN": LocalService.token]
        try await body(
          Twarc(
            service: hosts.service, directory: directory.string,
            environment: hosts.environment.merging(token) { $1 }))
      }
    }
  }

  func run(_ arguments: String...) async throws -> String {
    try await run(arguments)
  }

  private func run(_ arguments: [String]) async throws -> String {
    try await Tool.run(
      Tool.path("twarc2"), ["compliance-job"] + arguments, environment: environment,
      directory: directory)
  }

  func json(_ arguments: String...) async throws -> Any {
    let output = try await run(arguments + ["--json-output"])
    return try JSONSerialization.jsonObject(with: Data(output.utf8))
  }

  /// Lets twarc create a job and upload the submission.
  /// - Returns: the job's ID.
  func created(_ type: String) async throws -> String {
    _ = try await run("create", type, "ids.txt", "--job-name", "by twarc", "--no-wait")
    return try await service.database.withConnection {
      try await $0.query("SELECT id::text FROM compliance.jobs").onlyRow(as: String.self)
    }
  }

  func file(_ name: String) throws -> String {
    try String(contentsOfFile: "\(directory)/\(name)", encoding: .utf8)
  }
}
