import CZlib
import Foundation
import Hummingbird
import NIOCore
import PostgreSQL
import Synchronization
import TestSupport
import Testing

/// Runs in which the API, a storage host or this machine's clock behaves unusually.
@Suite struct WireTests {
  private static func withFixture(
    _ configure: @escaping (inout ScriptedAPI.Script) -> Void,
    _ body: @escaping @Sendable (RefusalFixture, _ file: String) async throws -> Void
  ) async throws {
    try await RefusalFixture.with(configure: configure) { fixture in
      try await body(fixture, try fixture.file(ids: 1000))
    }
  }

  private static func jobs(_ fixture: RefusalFixture) async throws -> Int {
    try await fixture.base.value(
      """
      SELECT count(*) FROM lethe.job AS j JOIN lethe.chunk AS c USING (chunk_id) WHERE c.type = 'tweets'
      """,
      as: Int.self)
  }

  /// An unusual response, and its effect on the only chunk of posts.
  struct Kind: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let response: @Sendable (ScriptedAPI.Call) -> ScriptedAPI.ScriptedResponse?
    var code: Int32 = 0
    /// The number of jobs for the posts.
    var jobs = 1
    /// Parts of the messages on stderr.
    var messageParts: [String] = []
  }

  private static func forFirst(
    _ kind: ScriptedAPI.Call.Kind, _ response: ScriptedAPI.ScriptedResponse, upTo: Int = 1
  ) -> @Sendable (ScriptedAPI.Call) -> ScriptedAPI.ScriptedResponse? {
    { $0.kind == kind && $0.number <= upTo ? response : nil }
  }

  private static let gone = ScriptedAPI.ScriptedResponse(
    json: """
      {"errors":[{"value":"1","title":"Not Found Error","parameter":"id",
      "type":"https://api.twitter.com/2/problems/resource-not-found"}]}
      """)
  private static let expired = ScriptedAPI.ScriptedResponse(
    status: 400, contentType: "application/xml",
    body: Array("<Error><Code>ExpiredToken</Code></Error>".utf8))

  static let kinds: [Kind] = [
    Kind(
      testDescription: "a download URL that has expired once",
      response: forFirst(.download, expired)),
    Kind(
      testDescription: "a download that is redirected once",
      response: forFirst(
        .download,
        .init(status: 302, headers: ["Location": "https://login.example/?token=secret-token"]))),
    Kind(
      testDescription: "a status 200 with an error that the job does not exist",
      response: forFirst(.get, gone), jobs: 2,
      messageParts: ["does not have"]),
    Kind(
      testDescription: "an unknown HTTP status for a job",
      response: forFirst(.get, .init(status: 418, json: "{}")), jobs: 2, messageParts: ["HTTP 418"]),
    Kind(
      testDescription: "a response about a job that contains no job",
      response: forFirst(.get, .init(json: "{}")), jobs: 2),
    Kind(
      testDescription: "an upload that is refused once",
      response: forFirst(.upload, .init(status: 400, json: "{}")), jobs: 2,
      messageParts: ["HTTP 400"]
    ),
    Kind(
      testDescription: "an upload that is redirected",
      response: forFirst(
        .upload,
        .init(status: 307, headers: ["Location": "https://login.example/page?token=secret-token"])),
      jobs: 2, messageParts: ["a redirect to https://login.example/page"]),
    Kind(
      testDescription: "no credits",
      response: forFirst(.create, .init(status: 402, json: "{}"), upTo: 99),
      code: 77, jobs: 1, messageParts: ["credits"]),
    Kind(
      testDescription: "a monthly usage cap",
      response: forFirst(
        .create,
        .init(status: 429, json: #"{"title":"UsageCapExceeded","detail":"Monthly product cap"}"#),
        upTo: 99), code: 75, jobs: 1,
      messageParts: ["Monthly product cap", "the cap's next period"]),
    Kind(
      testDescription: "an API that redirects to another host",
      response: forFirst(
        .create,
        .init(status: 302, headers: ["Location": "https://portal.example/?token=secret-token"]),
        upTo: 99), code: 1, jobs: 1,
      messageParts: ["a redirect to https://portal.example/", "api.base_url"]),
    Kind(
      testDescription: "a rate limit reset that is not a time",
      response: forFirst(
        .create,
        .init(
          status: 429,
          headers: [
            "x-rate-limit-remaining": "0", "x-rate-limit-reset": "1e300", "Retry-After": "1",
          ]))),
  ]

  @Test(arguments: kinds)
  func anUnusualResponseAffectsOnlyItsJobOrIsReported(kind: Kind) async throws {
    try await Self.withFixture({ $0.intercept = kind.response }) { fixture, _ in
      let posts = try fixture.base.definitionFile {
        CollectTests.postsOnly(RefusalFixture.definition("batch: 20", ids: 1000)($0))
      }
      let result = try await fixture.lethe("run", posts)
      #expect(result.code == kind.code, "\(result.stderr)")
      #expect(try await Self.jobs(fixture) == kind.jobs, "\(result.stderr)")
      for part in kind.messageParts {
        #expect(result.stderr.contains(part), "\(part): \(result.stderr)")
      }
      #expect(!result.stderr.contains("secret-token"))
      guard kind.code == 0 else { return }
      #expect(try await fixture.base.ledgerFaults() == [])
      #expect(try await fixture.unfinishedPosts() == [])
    }
  }

  /// Lethe limits the attempts for a lasting fault. The chunk is set aside, and the other dataset is done.
  @Test func aLastingFaultSetsItsChunkAside() async throws {
    try await Self.withFixture({
      $0.intercept = { call in
        call.kind == .download && call.name?.contains("-c1-") == true ? Self.expired : nil
      }
    }) { fixture, file in
      let result = try await fixture.lethe("run", file)
      #expect(result.code == 5, "\(result.stderr)")
      #expect(try await Self.jobs(fixture) == 3)
      #expect(result.stderr.contains("HTTP 400"), "\(result.stderr)")
      #expect(try await fixture.usersLeft() == "1008 protected")
    }
  }

  /// The API has created the job, but the response is lost. The listing also has unusual entries.
  @Test(arguments: [
    #"{"id":"7","error":{"code":3}}"#, #"{"id":7,"status":["odd"]}"#, "{}", "3", "null", #""text""#,
  ])
  func aJobIsFoundAmongUnusualEntries(odd: String) async throws {
    try await Self.withFixture({
      $0.created = { $0 == 1 ? .init(status: 500, json: "{}") : nil }
      $0.listing = { [odd] + $0 + [odd] }
    }) { fixture, _ in
      let posts = try fixture.base.definitionFile {
        CollectTests.postsOnly(RefusalFixture.definition("batch: 20", ids: 1000)($0))
      }
      let result = try await fixture.lethe("run", posts)
      #expect(result.code == 0, "\(result.stderr)")
      #expect(try await Self.jobs(fixture) == 1)
      #expect(result.stderr.contains("adopted"), "\(result.stderr)")
      #expect(try await fixture.unfinishedPosts() == [])
    }
  }

  /// The API's clock is 16 minutes behind this machine's clock. By this machine's clock, the API's URLs expire before
  /// they are created.
  @Test func expiryIsMeasuredByTheAPIsClock() async throws {
    @Sendable func text(_ date: Date, _ format: String) -> String {
      let formatter = DateFormatter()
      formatter.locale = Locale(identifier: "en_US_POSIX")
      formatter.timeZone = TimeZone(secondsFromGMT: 0)
      formatter.dateFormat = format
      return formatter.string(from: date)
    }
    try await Self.withFixture({
      $0.fields = { _ in
        ["upload_expires_at": text(Date().addingTimeInterval(-60), "yyyy-MM-dd'T'HH:mm:ss'.000Z'")]
      }
    }) { fixture, file in
      try await RewritingRelay.serving(
        upstream: fixture.url,
        rewriting: { block in
          let date = text(Date().addingTimeInterval(-960), "EEE, dd MMM yyyy HH:mm:ss 'GMT'")
          return block.replacing(/(?i)\r\ndate: [^\r]*\r\n/, with: "\r\nDate: \(date)\r\n")
        }
      ) { url in
        let result = try await RefusalFixture(base: fixture.base, url: url).lethe("run", file)
        #expect(result.code == 0, "\(result.stderr)")
        #expect(try await Self.jobs(fixture) == 1)
        #expect(try await fixture.unfinishedPosts() == [])
        let lines = result.stderr.split(separator: "\n").filter { $0.contains("clock is") }
        #expect(lines.count == 1, "\(result.stderr)")
        #expect(lines.first?.contains("ahead of the API's") == true, "\(lines)")
      }
    }
  }

  /// The upload URL has expired, and the API gives the job another one. The job is used, and counts once.
  @Test func anUploadContinuesWithTheJobsFreshURL() async throws {
    try await Self.withFixture({
      $0.intercept = Self.forFirst(.upload, .init(status: 403, json: "{}"))
    }) { fixture, _ in
      let responses = Mutex(0)
      try await RewritingRelay.serving(
        upstream: fixture.url,
        rewriting: { block in
          guard block.contains("token=up") else { return block }
          let number = responses.withLock { count in
            count += 1
            return count
          }
          return block.replacing("token=up", with: "token=u\(number % 10)")
        }
      ) { url in
        let posts = try fixture.base.definitionFile {
          CollectTests.postsOnly(RefusalFixture.definition("batch: 20", ids: 1000)($0))
        }
        let result = try await RefusalFixture(base: fixture.base, url: url).lethe("run", posts)
        #expect(result.code == 0, "\(result.stderr)")
        #expect(result.stderr.contains("has a fresh upload URL"), "\(result.stderr)")
        #expect(try await Self.jobs(fixture) == 1)
        #expect(try await fixture.unfinishedPosts() == [])
      }
    }
  }

  // MARK: Bytes

  private static func compressed(_ text: String) -> [UInt8] {
    let bytes = Array(text.utf8)
    var size = compressBound(uLong(bytes.count))
    var compressed = [UInt8](repeating: 0, count: Int(size))
    guard compress(&compressed, &size, bytes, uLong(bytes.count)) == Z_OK else { return [] }
    return Array(compressed.prefix(Int(size)))
  }

  @Test(arguments: ["deflate", "br"])
  func anUnrequestedContentCodingIsDecodedOrReported(coding: String) async throws {
    try await Self.withFixture({
      $0.download = { download in
        .init(
          headers: ["Content-Encoding": coding],
          body: Self.compressed(RefusalFixture.answers(download.ids)))
      }
    }) { fixture, file in
      let result = try await fixture.lethe("run", file)
      #expect(result.code == (coding == "br" ? 5 : 0), "\(result.stderr)")
      if coding == "br" {
        #expect(result.stderr.contains("the content coding br"), "\(result.stderr)")
      } else {
        #expect(try await fixture.unfinishedPosts() == [])
      }
    }
  }

  @Test func theNameOfATransferCodingIsCaseInsensitive() async throws {
    try await Self.withFixture({
      $0.download = { download in
        .init(
          headers: ["Transfer-Encoding": "chunked"],
          body: Array(RefusalFixture.answers(download.ids).utf8))
      }
    }) { fixture, file in
      try await RewritingRelay.serving(
        upstream: fixture.url,
        rewriting: {
          $0.replacing(/(?i)transfer-encoding: chunked/, with: "Transfer-Encoding: Chunked")
        }
      ) { url in
        let result = try await RefusalFixture(base: fixture.base, url: url).lethe("run", file)
        #expect(result.code == 0, "\(result.stderr)")
        #expect(try await fixture.unfinishedPosts() == [])
      }
    }
  }

  /// A storage host that stores other bytes than were sent, or does not report what it stored.
  struct Storage: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// The headers of the response to the first upload. Later uploads are stored and reported correctly.
    let headers: [String: String]
  }

  static let storages: [Storage] = [
    Storage(testDescription: "half of the bytes", headers: ["x-goog-stored-content-length": "3"]),
    Storage(
      testDescription: "another checksum", headers: ["x-goog-hash": "crc32c=AAAAAA==,md5=AAAA"]),
    Storage(testDescription: "another MD5 without a CRC32C", headers: ["x-goog-hash": "md5=AAAA"]),
    Storage(testDescription: "no report", headers: [:]),
    Storage(
      testDescription: "a length that is not a number",
      headers: ["x-goog-stored-content-length": "much"]),
  ]

  @Test(arguments: storages)
  func anUploadIsVerifiedOrRepeated(storage: Storage) async throws {
    let api = Mutex<ScriptedAPI?>(nil)
    let count = Mutex(0)
    let router = Router()
    router.put("/o/:id") { request, context in
      let bytes = try await request.body.collect(upTo: 1 << 24)
      let ids = String(buffer: bytes).split(separator: "\n").compactMap { Int64($0) }
      let id = try context.parameters.require("id")
      let number = count.withLock { count in
        count += 1
        return count
      }
      let isFirst = number == 1
      // The first upload stores only half of the IDs, so its result covers only these IDs.
      api.withLock { $0 }?.uploaded(isFirst ? Array(ids.prefix(ids.count / 2)) : ids, to: id)
      return ScriptedAPI.ScriptedResponse(
        headers: isFirst
          ? storage.headers : ["x-goog-stored-content-length": "\(bytes.readableBytes)"]
      ).response
    }
    try await servingLoopback(router) { host in
      var script = ScriptedAPI.Script()
      script.result = RefusalFixture.answers
      script.uploadURL = { "\(host)/o/\($0)?signature=s" }
      let scripted = ScriptedAPI(script)
      api.withLock { $0 = scripted }
      try await PipelineFixture.with { base in
        try await base.execute(
          """
          INSERT INTO warehouse.posts (post_id, author_id, text, latitude, created_at)
          SELECT p, 1, 'text of ' || p, 1, now() FROM generate_series(1, 100) AS p
          """)
        try await scripted.serving { url in
          let fixture = RefusalFixture(base: base, url: url)
          let posts = try base.definitionFile {
            CollectTests.postsOnly(RefusalFixture.definition("batch: 20", ids: 1000)($0))
              .editing("bearer_token:", to: "allowed_hosts: [127.0.0.1]\n  bearer_token:")
          }
          let result = try await fixture.lethe("run", posts)
          #expect(result.code == 0, "\(result.stderr)")
          #expect(try await Self.jobs(fixture) == 2, "\(result.stderr)")
          #expect(result.stderr.contains("stored"), "\(result.stderr)")
          #expect(try await fixture.unfinishedPosts() == [])
          #expect(try await fixture.damagedPosts() == 0)
        }
      }
    }
  }

  /// The API runs one job of a type at a time: the type has one slot. Another program's job uses the slot for longer
  /// than `slot_hours_max`.
  @Test func chunksAreSetAsideIfTheSlotStaysInUse() async throws {
    try await Self.withFixture({
      $0.intercept = { call in
        call.kind == .create ? .init(status: 409, json: #"{"title":"Conflict"}"#) : nil
      }
      $0.listing = { _ in [#"{"id":"7","name":"somebody-else","status":"in_progress"}"#] }
    }) { fixture, _ in
      let file = try fixture.base.definitionFile {
        RefusalFixture.definition("batch: 20", ids: 1000)($0)
          .editing("bearer_token:", to: "slot_hours_max: 0.0001\n  bearer_token:")
      }
      let result = try await fixture.lethe("run", file)
      #expect(result.code == 5, "\(result.stderr)")
      #expect(result.stderr.contains("is taken by job 7 (somebody-else)"), "\(result.stderr)")
      #expect(result.stderr.contains("lethe jobs cancel"), "\(result.stderr)")
    }
  }
}
