import ComplianceService
import Foundation
import NIOHTTP1
import SystemPackage
import TestSupport
import Testing

/// Clients that others wrote, for the real API.
@Suite(.timeLimit(.minutes(2))) struct PublicClientTests {
  private static func run(
    _ profile: WireProfile, _ body: (LocalService) async throws -> Void
  ) async throws {
    try await LocalService.run({ $0.profile = profile }) { service in
      try await service.execute(
        """
        INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
        VALUES (1, 'a', '2015-01-01', 'active', NULL), (2, 'b', '2015-01-01', 'suspended', '2020-01-01');
        INSERT INTO platform.posts (post_id, author_id, created_at, deleted_at)
        VALUES (1, 1, '2016-01-01', NULL), (2, 1, '2016-01-01', '2021-01-01')
        """)
      try await body(service)
    }
  }

  // MARK: tweepy

  @Test(arguments: WireProfile.allCases, [("tweets", "deleted"), ("users", "suspended")])
  func tweepyTakesAJobThroughItsLife(profile: WireProfile, job: (type: String, reason: String))
    async throws
  {
    struct Said: Decodable {
      let none: [WireJob]?
      let created: WireJob
      let second: Int
      let listed: [String]
      let done: String
      let events: [[String: String]]
      let badRequest: String
      let notFound: String
      let unauthorized: String

      enum CodingKeys: String, CodingKey {
        case none, created, second, listed, done, events, unauthorized
        case badRequest = "bad request"
        case notFound = "not found"
      }
    }
    try await Self.run(profile) { service in
      let output = try await Tool.python([
        Tool.script("tweepy_client.py"), service.baseURL, LocalService.token, job.type,
        profile.rawValue, "1", "2", "3",
      ])
      let said = try JSONDecoder().decode(Said.self, from: Data(output.utf8))
      #expect(said.none == nil)
      #expect(said.created.type == job.type && said.created.status == "created")
      #expect(said.created.name == "from tweepy")
      #expect(said.second == 409)
      #expect(said.listed == [said.created.id])
      #expect(said.done == "complete")
      #expect(said.events.map { $0["id"] } == ["2"])
      #expect(said.events.map { $0["reason"] } == [job.reason])
      #expect(said.badRequest == "BadRequest")
      #expect(said.notFound == "NotFound")
      #expect(said.unauthorized == "Unauthorized")
    }
  }

  // MARK: curl, as the guides write it: only the host is another

  /// - Returns: the status and the body.
  private static func curl(_ arguments: [String]) async throws -> Answer {
    let output = try await Tool.run(
      "/usr/bin/env", ["curl", "-sS", "-w", "\n%{http_code}"] + arguments)
    let end = output.lastIndex(of: "\n") ?? output.startIndex
    return Answer(
      status: Int(output[end...].dropFirst()) ?? 0, headers: [:], body: Array(output[..<end].utf8))
  }

  private static let bearer = ["--header", "Authorization: Bearer \(LocalService.token)"]
  private static let plain = ["--header", "Content-Type: text/plain"]

  private static func create(_ service: LocalService, _ json: String) async throws -> WireJob {
    try await curl(
      ["--request", "POST", service.baseURL + LocalService.jobsPath] + bearer + [
        "--header", "Content-Type: application/json", "--data-raw", json,
      ]
    ).job()
  }

  private static func finished(_ service: LocalService, _ id: String) async throws -> WireJob {
    try await service.gate.reached { $0 == .processed(jobID: id) }
    return try await curl(
      ["--request", "GET", "\(service.baseURL)\(LocalService.jobsPath)/\(id)"] + bearer
    ).job()
  }

  /// Runs `body` with the path of a file of IDs.
  private static func withIDs(_ body: (String) async throws -> Void) async throws {
    try await withTemporaryDirectory { directory in
      let path = directory.appending("ids.txt").string
      try Data("1\n2\n3\n".utf8).write(to: URL(filePath: path))
      try await body(path)
    }
  }

  @Test(arguments: ["--data-binary @", "--upload-file "])
  func curlTakesANativeJobThroughItsLife(sending: String) async throws {
    try await Self.run(.native) { service in
      let job = try await Self.create(service, #"{"type":"tweets","name":"curl"}"#)
      let listed = try await Self.curl(
        ["\(service.baseURL)\(LocalService.jobsPath)?type=tweets"] + Self.bearer)
      #expect(try listed.decoded(WireJob.List.self).data?.map(\.id) == [job.id])
      try await Self.withIDs { path in
        let file = (sending + path).split(separator: " ").map(String.init)
        let upload = try await Self.curl(
          ["--request", "PUT"] + Self.bearer + Self.plain + file + [job.upload_url])
        #expect(try upload.job().status == "in_progress")
      }
      let done = try await Self.finished(service, job.id)
      #expect(done.status == "complete")
      let result = try await Self.curl(["--request", "GET", done.download_url] + Self.bearer)
      #expect(result.status == 200)
      #expect(result.text.hasPrefix(#"{"id":"2","action":"delete","reason":"deleted","#))
    }
  }

  @Test(arguments: ["--data-binary @", "--upload-file "])
  func curlTakesALegacyJobThroughItsLife(sending: String) async throws {
    try await Self.run(.gcs) { service in
      let job = try await Self.create(service, #"{"type":"users"}"#)
      try await Self.withIDs { path in
        let file = (sending + path).split(separator: " ").map(String.init)
        let upload = try await Self.curl(
          ["--request", "PUT"] + Self.plain + file + [job.upload_url])
        #expect(upload.status == 200)
      }
      let done = try await Self.finished(service, job.id)
      #expect(done.status == "complete")
      let result = try await Self.curl(["--request", "GET", done.download_url])
      #expect(result.status == 200)
      #expect(result.text.hasPrefix(#"{"id":"2","action":"delete","reason":"suspended","#))
    }
  }

  @Test func curlUploadsInParts() async throws {
    try await Self.run(.gcs) { service in
      let job = try await Self.create(service, #"{"type":"users","resumable":true}"#)
      let begun = try await Self.curl(
        ["--request", "POST", "--include", "--header", "Content-Length: 0"] + Self.plain + [
          "--header", "x-goog-resumable: start", job.upload_url,
        ])
      #expect(begun.status == 201)
      let session = String(
        try #require(begun.text.firstMatch(of: /(?i)\r\nlocation: (\S+)/), "\(begun.text)").1)
      let asked = try await Self.curl(
        [
          "--request", "PUT", "--header", "Content-Length: 0", "--header",
          "Content-Range: bytes */6",
        ]
          + [session])
      #expect(asked.status == 308)
      try await Self.withIDs { path in
        let sent = try await Self.curl(
          ["--upload-file", path, "--header", "Content-Range: bytes 0-5/6", session])
        #expect(sent.status == 200)
      }
      #expect(try await Self.finished(service, job.id).status == "complete")
    }
  }
}
