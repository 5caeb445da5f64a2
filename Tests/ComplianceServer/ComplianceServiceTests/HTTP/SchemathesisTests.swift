import ComplianceService
import Foundation
import SystemPackage
import TestSupport
import Testing

/// schemathesis generates valid and invalid requests from a description, and checks every response against the
/// description.
///
/// The hook scripts exclude some findings and explain why:
/// - `schemathesis_hooks.py`: ranges beyond a result's end, and responses that show a cancelled job
/// - `schemathesis_storage_hooks.py`: dependencies between a signature's parameters, and the status of a cancellation
/// - `schemathesis_x_hooks.py`: differences between X's published description and X's behaviour
///
/// The tests are serialized, because each test uses a processor for some seconds.
@Suite(.serialized, .endedIfItHangs) struct SchemathesisTests {
  /// A small number keeps the tests fast. schemathesis's coverage phase does not depend on it.
  private static let examplesMax = 10

  private static func run(
    _ profile: WireProfile, _ body: (LocalService) async throws -> Void
  ) async throws {
    try await LocalService.run({
      $0.profile = profile
      // High enough for all requests. With a limit, every response must have the limit's headers.
      $0.rateLimit = .init(requestsMax: 1_000_000)
      // The admin token equals the App's token, so that one header is enough for the App's endpoints and the operator's
      // pages.
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

  /// - Parameter description: The path of a description. By default the service's own is downloaded, because
  ///   schemathesis waits only 10 seconds for it.
  /// - Throws: schemathesis's output, if schemathesis reports a failure.
  private static func check(
    _ service: LocalService, describedBy description: String? = nil, hooks: String, at url: String,
    _ arguments: [String]
  ) async throws {
    try await withTemporaryDirectory { directory in
      let file = directory.appending("openapi.json").string
      if description == nil {
        try await service.get("/2/openapi.json").text
          .write(toFile: file, atomically: false, encoding: .utf8)
      }
      _ = try await Tool.run(
        Tool.path("schemathesis"),
        [
          "run", description ?? file, "--url", url, "--checks", "all", "--no-color",
          "--generation-deterministic", "--max-examples", "\(examplesMax)",
          // The default of 10 seconds can be too short on a busy test machine.
          "--request-timeout", "600", "--max-response-time", "600",
          // Depends on the speed of the machine.
          "--suppress-health-check", "too_slow",
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

  /// Checks that the service sent each of these statuses for the endpoint at least once.
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
  func responsesMatchTheDescription(profile: WireProfile) async throws {
    try await Self.run(profile) { service in
      try await Self.check(
        service, hooks: "schemathesis_hooks", at: service.baseURL,
        Self.bearer + ["--exclude-path-regex", "^/compliance/"])
      try await Self.expectServed("create", [200, 400, 401, 409], by: service)
      try await Self.expectServed("get", [200, 400, 401], by: service)
      try await Self.expectServed("status", [200, 401], by: service)
      guard profile == .native else { return }
      try await Self.expectServed("upload", [200, 400, 401, 403], by: service)
      try await Self.expectServed("download", [200, 206, 400, 401, 403], by: service)
      try await Self.expectServed("cancel", [200, 400, 401, 409], by: service)
    }
  }

  @Test func theStorageHostMatchesTheDescription() async throws {
    try await Self.run(.gcs) { service in
      let upload = try await service.create("users", token: LocalService.otherToken).upload_url
      let host = upload.prefix { $0 != "?" }.split(separator: "/").prefix(2)
        .joined(separator: "//")
      try await Self.check(
        service, hooks: "schemathesis_storage_hooks", at: host,
        ["--include-path-regex", "^/compliance/"])
      try await Self.expectServed("upload", [200, 403, 404], by: service)
      try await Self.expectServed("session", [201, 403, 404, 499], by: service)
      try await Self.expectServed("download", [200, 206, 400, 403], by: service)
    }
  }

  /// The path of X's published description, from the environment. It is not part of this repository.
  private static let publishedDescription = ProcessInfo.processInfo.environment["LETHE_OPENAPI"]

  @Test(.enabled(if: publishedDescription != nil, "LETHE_OPENAPI is not set"))
  func responsesMatchTheDescriptionOfX() async throws {
    try await Self.run(.native) { service in
      try await Self.check(
        service, describedBy: Self.publishedDescription,
        hooks: "schemathesis_x_hooks", at: service.baseURL, Self.bearer)
      try await Self.expectServed("upload", [200, 400, 401, 403], by: service)
      try await Self.expectServed("download", [200, 400, 401, 403], by: service)
    }
  }
}
