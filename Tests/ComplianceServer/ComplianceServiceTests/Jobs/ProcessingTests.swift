import ComplianceService
import Foundation
import NIOHTTP1
import PostgreSQL
import TestSupport
import Testing

@Suite(.endedIfItHangs) struct ProcessingTests {
  /// Accounts 1 to 5 each have a different state. The account with the largest ID is deleted.
  private static let accounts = """
    INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at) VALUES
      (1, 'ann', '2015-01-01 00:00:00Z', 'active', NULL),
      (2, 'bob', '2015-02-01 00:00:00Z', 'protected', '2020-02-01 10:20:30.456Z'),
      (3, 'cleo', '2015-03-01 00:00:00Z', 'suspended', '2020-03-01 00:00:00Z'),
      (4, 'dora', '2015-04-01 00:00:00Z', 'deactivated', '2020-04-01 00:00:00Z'),
      (5, 'emil', '2015-05-01 00:00:00Z', 'deleted', '2020-05-01 00:00:00Z'),
      (9223372036854775807, 'max', '2015-05-01 00:00:00Z', 'deleted', '2020-05-01 00:00:00Z');
    """

  @Test func aUsersJobReportsTheStatesOfAccounts() async throws {
    try await LocalService.run { service in
      try await service.execute(Self.accounts)
      let lines = try await service.lines("users", "5\n4\n3\n2\n1\n6\n9223372036854775807\n")
      #expect(
        lines == [
          event(2, "delete", "protected", "2015-02-01", "2020-02-01T10:20:30.456Z"),
          event(3, "delete", "suspended", "2015-03-01", "2020-03-01T00:00:00.000Z"),
          event(4, "delete", "deactivated", "2015-04-01", "2020-04-01T00:00:00.000Z"),
          event(5, "delete", "deleted", "2015-05-01", "2020-05-01T00:00:00.000Z"),
          event(.max, "delete", "deleted", "2015-05-01", "2020-05-01T00:00:00.000Z"),
        ])
    }
  }

  @Test func aTweetsJobReportsTheReasonOfHighestPrecedence() async throws {
    try await LocalService.run { service in
      try await service.execute(
        Self.accounts + """
          INSERT INTO platform.posts
            (post_id, author_id, created_at, deleted_at, edited_at, geo_removed_at) VALUES
            (10, 1, '2016-01-01', NULL, NULL, NULL),
            (11, 1, '2016-01-01', NULL, NULL, '2021-01-03'),
            (12, 1, '2016-01-01', NULL, '2021-01-02', '2021-01-03'),
            (13, 1, '2016-01-01', '2021-01-01', '2021-01-02', '2021-01-03'),
            (20, 2, '2016-01-01', NULL, '2021-01-02', '2021-01-03'),
            (21, 2, '2016-01-01', '2021-01-01', NULL, NULL),
            (30, 3, '2016-01-01', NULL, NULL, NULL),
            (40, 4, '2016-01-01', NULL, NULL, '2021-01-03'),
            (50, 5, '2016-01-01', NULL, NULL, NULL);
          """)
      let lines = try await service.lines("tweets", "50\n40\n30\n21\n20\n13\n12\n11\n10\n99\n")
      #expect(
        lines == [
          event(11, "scrub_geo", "scrub_geo", "2016-01-01", "2021-01-03T00:00:00.000Z"),
          event(12, "rehydrate", "tweet_edited", "2016-01-01", "2021-01-02T00:00:00.000Z"),
          event(13, "delete", "deleted", "2016-01-01", "2021-01-01T00:00:00.000Z"),
          event(20, "delete", "protected", "2016-01-01", "2020-02-01T10:20:30.456Z"),
          event(21, "delete", "deleted", "2016-01-01", "2021-01-01T00:00:00.000Z"),
          event(30, "delete", "suspended", "2016-01-01", "2020-03-01T00:00:00.000Z"),
          event(40, "delete", "deactivated", "2016-01-01", "2020-04-01T00:00:00.000Z"),
          event(50, "delete", "deleted", "2016-01-01", "2020-05-01T00:00:00.000Z"),
        ])
    }
  }

  private func event(
    _ id: Int64, _ action: String, _ reason: String, _ created: String, _ redacted: String
  ) -> String {
    #"{"id":"\#(id)","action":"\#(action)","reason":"\#(reason)","#
      + #""created_at":"\#(created)T00:00:00.000Z","redacted_at":"\#(redacted)"}"#
  }

  @Test func theSmallestAndTheLargestIDCanBeInOneSubmission() async throws {
    try await LocalService.run { service in
      try await service.execute(Self.accounts)
      let lines = try await service.lines("users", "0\n5\n9223372036854775807\n")
      #expect(lines.map { $0.prefix(8) } == [#"{"id":"5"#, #"{"id":"9"#])
    }
  }

  /// PostgreSQL's times can be infinite or have other years.
  @Test(arguments: [
    ("-infinity", "0001-01-01T00:00:00.000Z"), ("0044-03-15 BC", "0001-01-01T00:00:00.000Z"),
    ("infinity", "9999-12-31T23:59:59.999Z"), ("20000-01-01", "9999-12-31T23:59:59.999Z"),
  ])
  func aTimeWithoutAYearOfFourDigitsBecomesTheNearestOne(time: String, written: String) async throws
  {
    try await LocalService.run { service in
      try await service.execute(
        Self.accounts
          + "UPDATE platform.accounts SET state_changed_at = '\(time)' WHERE account_id = 5")
      let lines = try await service.lines("users", "5\n")
      #expect(lines.first?.contains(#""redacted_at":"\#(written)""#) == true, "\(lines)")
    }
  }

  @Test func aRepeatedIDHasOneResultLine() async throws {
    try await LocalService.run { service in
      try await service.execute(Self.accounts)
      let lines = try await service.lines("users", "2\n02\n2\n3\n2")
      #expect(lines.map { $0.prefix(10) } == [#"{"id":"2","#, #"{"id":"3","#])
    }
  }

  @Test func everyInvalidLineIsReported() async throws {
    try await LocalService.run { service in
      try await service.execute(Self.accounts)
      let lines = try await service.lines(
        "users",
        "not_a_valid_id\n\n 2\n2\r\n+2\n\"\\\u{1}é\n9223372036854775808\n2\n12345678901234567890")
      let ids = try lines.dropLast().map { line in
        let object = try JSONDecoder().decode([String: String].self, from: Data(line.utf8))
        #expect(object["error"] == "invalid_id")
        #expect(object.count == 2)
        return object["id"]
      }
      #expect(lines.first == #"{"id":"not_a_valid_id","error":"invalid_id"}"#)
      #expect(
        ids == [
          "not_a_valid_id", "", " 2", "2\r", "+2", "\"\\\u{1}é", "9223372036854775808",
          "12345678901234567890",
        ])
      #expect(lines.last?.contains(#""reason":"protected""#) == true)
    }
  }

  @Test func anEmptySubmissionHasAnEmptyResult() async throws {
    try await LocalService.run { service in
      let job = try await service.finish(service.create(), uploading: "")
      let result = try await service.get(job.download_url)
      #expect(result.status == 200)
      #expect(result.body.isEmpty)
      #expect(result.headers.first(name: "content-length") == "0")
    }
  }

  @Test func aResultOfManyBlocksIsComplete() async throws {
    try await LocalService.run { service in
      try await service.execute(
        """
        INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
        SELECT id, 'a' || id, '2015-01-01',
          CASE WHEN id % 3 = 0 THEN 'suspended' ELSE 'active' END::platform.account_state,
          CASE WHEN id % 3 = 0 THEN '2020-01-01'::timestamptz END
        FROM generate_series(1000000000000, 1000000029999) id
        """)
      let ids = (Int64(1_000_000_000_000)..<1_000_000_030_000).map(String.init)
      let job = try await service.finish(
        service.create("users"), uploading: ids.joined(separator: "\n") + "\n")
      let result = try await service.get(job.download_url)
      #expect(result.headers.first(name: "content-length") == "\(result.body.count)")
      #expect(result.headers.first(name: "content-type") == "application/octet-stream")
      let lines = result.text.split(separator: "\n")
      #expect(lines.count == 10_000)
      #expect(Set(lines).count == 10_000)
    }
  }

  @Test func thereIsNoResultBeforeTheJobIsComplete() async throws {
    try await LocalService.run { service in
      let job = try await service.create()
      #expect(try await service.get(job.download_url).problem().status == 404)
      service.gate.hold { $0 == .processing(jobID: job.id) }
      _ = try await service.put("1\n", to: job.upload_url).job()
      #expect(try await service.get(job.download_url).problem().status == 404)
      service.gate.release()
    }
  }

  @Test func aCancellationStopsTheProcessingAndAllowsANewJob() async throws {
    try await LocalService.withSite { site in
      try await site.serving { service in
        let job = try await service.create()
        service.gate.hold { $0 == .processing(jobID: job.id) }
        _ = try await service.put("1\n", to: job.upload_url).job()
        try await service.gate.reached { $0 == .processing(jobID: job.id) }
        let cancelled = try await service.send(.DELETE, "/2/compliance/jobs/\(job.id)").job()
        #expect(cancelled.status == "failed")
        // The gate holds the job, but the cancellation ends the wait.
        try await service.gate.reached { $0 == .processed(jobID: job.id) }
        #expect(try await service.job(job.id) == cancelled)
        #expect(try site.spooledFiles.isEmpty)
        service.gate.release()
        #expect(try await service.finish(service.create(), uploading: "1\n").status == "complete")
      }
    }
  }

  @Test func aProcessingErrorFailsTheJob() async throws {
    try await LocalService.run { service in
      let job = try await service.create()
      try await service.execute("ALTER TABLE platform.posts RENAME TO lost")
      let failed = try await service.finish(job, uploading: "1\n")
      #expect(failed.status == "failed")
      #expect(failed.error?.isEmpty == false)
      #expect(try await service.get(failed.download_url).problem().status == 404)
      _ = try await service.create()
    }
  }

  @Test func aJobCompletesAfterTheDatabaseConnectionsAreLost() async throws {
    try await LocalService.run { service in
      let job = try await service.create()
      service.gate.hold { $0 == .processing(jobID: job.id) }
      _ = try await service.put("1\n", to: job.upload_url).job()
      try await service.execute(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
        """)
      service.gate.release()
      let response = try await service.get("/2/compliance/jobs/\(job.id)")
      #expect([200, 503].contains(response.status))
      if response.status == 503 { #expect(try response.problem().kind == "service-unavailable") }
      // If the processing lost its connection, it starts again. Wait until the job is complete.
      while try await service.get("/2/compliance/jobs/\(job.id)").text.contains("in_progress") {
        try await pollingPause()
      }
      #expect(try await service.job(job.id).status == "complete")
    }
  }
}
