import ComplianceService
import Foundation
import SystemPackage
import TestSupport
import Testing

/// schemathesis makes up requests, right and wrong ones, from a description, and holds every answer against
/// it, with all of its checks.
///
/// What is left out of its findings, and why, stands in the scripts that it runs with: a range beyond a
/// result's end, and that a cancelled job is still there (`schemathesis_hooks.py`); what a signature's
/// parameters have to do with one another, and Google's status for a cancel
/// (`schemathesis_storage_hooks.py`); and where the description that X publishes says other things than X
/// does (`schemathesis_x_hooks.py`).
///
/// One after another: each keeps a processor busy for some seconds.
@Suite(.serialized, .endedIfItHangs) struct SchemathesisTests {
  /// Enough to reach every case of its coverage phase, whose number does not depend on it.
  private static let examplesMax = 10

  private static func run(
    _ profile: WireProfile, _ body: (LocalService) async throws -> Void
  ) async throws {
    try await LocalService.run({
      $0.profile = profile
      // No request meets it, and so every answer has to have its headers.
      $0.rateLimit = .init(requestsMax: 1_000_000)
      // One header opens both the App's endpoints and the operator's pages.
      $0.adminToken = AppToken(LocalService.token)
    }) { service in
      try await service.execute(
        """
        INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
        VALUES (1, 'a', '2015-01-01', 'deleted', '2020-01-01'), (2, 'b', '2015-01-01', 'deleted', '2020-01-01')
        """)
      try await body(service)
    }
  }

  /// - Throws: what schemathesis found, as it says it.
  private static func check(
    _ description: String, _ service: LocalService, hooks: String, at url: String,
    _ arguments: [String]
  ) async throws {
    try await withTemporaryDirectory { directory in
      _ = try await Tool.run(
        Tool.path("schemathesis"),
        [
          "run", description, "--url", url, "--checks", "all", "--no-color",
          "--generation-deterministic", "--max-examples", "\(examplesMax)",
          // Its own limit of 10 seconds is about this machine, and not about the service.
          "--request-timeout", "600",
        ] + arguments,
        environment: [
          "PYTHONPATH": Tool.script(""), "PYTHONDONTWRITEBYTECODE": "1",
          "SCHEMATHESIS_HOOKS": hooks, "SERVICE_URL": service.baseURL,
          "SERVICE_TOKEN": LocalService.token, "SERVICE_OTHER_TOKEN": LocalService.otherToken,
        ], directory: directory.string)
    }
    let metrics = try await service.get("/metrics").text
    #expect(metrics.firstMatch(of: /requests_total\{[^}]*status="5/) == nil, "\(metrics)")
  }

  private static let bearer = ["--header", "Authorization: Bearer \(LocalService.token)"]

  /// How often such requests were answered so.
  private static func expectServed(
    _ endpoint: String, _ statuses: [Int], by service: LocalService
  ) async throws {
    let metrics = try await service.get("/metrics").text
    for status in statuses {
      #expect(
        metrics.contains("requests_total{endpoint=\"\(endpoint)\",status=\"\(status)\"}"),
        "\(endpoint) \(status)")
    }
  }

  @Test(arguments: WireProfile.allCases)
  func answersAreAsTheServiceDescribesThem(profile: WireProfile) async throws {
    try await Self.run(profile) { service in
      try await Self.check(
        service.baseURL + "/2/openapi.json", service, hooks: "schemathesis_hooks",
        at: service.baseURL, Self.bearer + ["--exclude-path-regex", "^/compliance/"])
      try await Self.expectServed("create", [200, 400, 401, 409], by: service)
      try await Self.expectServed("get", [200, 400, 401], by: service)
      try await Self.expectServed("status", [200, 401], by: service)
      guard profile == .native else { return }
      try await Self.expectServed("upload", [200, 400, 401, 403], by: service)
      try await Self.expectServed("download", [200, 206, 400, 401, 403], by: service)
      try await Self.expectServed("cancel", [200, 400, 401, 409], by: service)
    }
  }

  @Test func theStorageHostAnswersAsTheServiceDescribesIt() async throws {
    try await Self.run(.gcs) { service in
      let upload = try await service.create("users", token: LocalService.otherToken).upload_url
      let host = upload.prefix { $0 != "?" }.split(separator: "/").prefix(2)
        .joined(separator: "//")
      try await Self.check(
        service.baseURL + "/2/openapi.json", service, hooks: "schemathesis_storage_hooks",
        at: host, ["--include-path-regex", "^/compliance/"])
      try await Self.expectServed("upload", [200, 403, 404], by: service)
      try await Self.expectServed("session", [201, 403, 404, 499], by: service)
      try await Self.expectServed("download", [200, 206, 400, 403], by: service)
    }
  }

  /// The description that X publishes is not part of this repository: its path is in the environment.
  private static let publishedDescription = ProcessInfo.processInfo.environment["LETHE_OPENAPI"]

  @Test(.enabled(if: publishedDescription != nil, "LETHE_OPENAPI names no description"))
  func answersAreAsXDescribesThem() async throws {
    try await Self.run(.native) { service in
      try await Self.check(
        try #require(Self.publishedDescription), service, hooks: "schemathesis_x_hooks",
        at: service.baseURL, Self.bearer)
      try await Self.expectServed("upload", [200, 400, 401, 403], by: service)
      try await Self.expectServed("download", [200, 400, 401, 403], by: service)
    }
  }
}
