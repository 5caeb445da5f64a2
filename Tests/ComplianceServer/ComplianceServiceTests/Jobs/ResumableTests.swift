import AsyncHTTPClient
import ComplianceService
import Foundation
import NIOCore
import NIOHTTP1
import PostgreSQL
import TestSupport
import Testing

/// Resumable uploads of the gcs profile.
@Suite(.endedIfItHangs) struct ResumableTests {
  /// Of a part that is not the last one, the service keeps only a multiple of this number of bytes.
  private static let unit = 256 * 1024

  /// A submission of `count` bytes.
  private static func text(_ count: Int) -> [UInt8] {
    var text = Array(String(repeating: "1234567\n", count: (count + 7) / 8).utf8.prefix(count))
    if count > 0 { text[count - 1] = UInt8(ascii: "\n") }
    return text
  }

  private static func run(
    _ configure: @escaping @Sendable (inout ComplianceServer.Configuration) -> Void = { _ in },
    _ body: (LocalService) async throws -> Void
  ) async throws {
    try await LocalService.run(
      {
        $0.profile = .gcs
        configure(&$0)
      }, body)
  }

  /// Creates a job and begins its upload.
  private static func begin(_ service: LocalService) async throws -> (job: WireJob, session: String)
  {
    let job = try await service.post(#"{"type":"tweets","resumable":true}"#).job()
    let response = try await service.begin(job)
    #expect(response.status == 201, "\(response.text)")
    return (job, try #require(response.headers.first(name: "location")))
  }

  @Test func partsAreCombined() async throws {
    try await Self.run { service in
      let (job, session) = try await Self.begin(service)
      let text = Self.text(2 * Self.unit + 100)
      #expect(try await service.query(session) == "308")
      let first = try await service.part(text, 0..<Self.unit, of: session)
      #expect(first.outcome == "308 bytes=0-262143")
      #expect(try await service.query(session) == "308 bytes=0-262143")
      let second = try await service.part(text, Self.unit..<2 * Self.unit, of: session)
      #expect(second.outcome == "308 bytes=0-524287")
      #expect(try await service.job(job.id).status == "created")
      let last = try await service.part(text, 2 * Self.unit..<text.count, of: session)
      #expect(last.outcome == "200")
      #expect(last.headers[canonicalForm: "x-goog-hash"].count == 2)
      #expect(
        last.headers.first(name: "x-goog-stored-content-length") == "\(text.count)")
      // A repeated query gets the same response, because the first response may have been lost.
      #expect(try await service.query(session) == "200")
      try await service.gate.reached { $0 == .processed(jobID: job.id) }
      #expect(try await service.job(job.id).status == "complete")
      #expect(try await service.query(session, total: "\(text.count)") == "200")
    }
  }

  @Test func onlyMultiplesOf256KiBAreKeptOfAPartThatIsNotTheLast() async throws {
    try await Self.run { service in
      let (_, session) = try await Self.begin(service)
      let text = Self.text(3 * Self.unit)
      let odd = try await service.part(text, 0..<Self.unit + 1000, of: session)
      #expect(odd.outcome == "308 bytes=0-262143")
      let small = try await service.part(text, Self.unit..<Self.unit + 1000, of: session)
      #expect(small.outcome == "308 bytes=0-262143")
      // Bytes that are stored already are skipped.
      let overlapping = try await service.part(text, 100_000..<2 * Self.unit, of: session)
      #expect(overlapping.outcome == "308 bytes=0-524287")
      let all = try await service.part(text, 0..<text.count, of: session)
      #expect(all.outcome == "200")
    }
  }

  @Test func anInvalidPartIsRefusedAndStoredPartsAreKept() async throws {
    try await Self.run({ $0.storageUploadBytesMax = 1_000_000 }) { service in
      let (_, session) = try await Self.begin(service)
      let text = Self.text(2 * Self.unit)
      _ = try await service.part(text, 0..<Self.unit, of: session)
      for (range, count, error) in [
        ("bytes 300000-300009/524288", 10, "400 InvalidArgument"),
        ("bytes 262144-262153/524288", 9, "400 InvalidArgument"),
        ("bytes 5-2/10", 0, "400 InvalidArgument"),
        ("bytes 0-10/5", 11, "400 InvalidArgument"),
        ("octets 0-10/11", 11, "400 InvalidArgument"),
        ("bytes 262144-*/100", 10, "400 InvalidArgument"),
        ("bytes 0-*/100", 100, "400 InvalidArgument"),
        ("bytes 262144-262153/1000001", 10, "400 EntityTooLarge"),
      ] {
        let response = try await service.put(
          Array(text.prefix(count)), to: session, ["content-range": range])
        #expect(response.storageError == error, "\(range)")
      }
      #expect(try await service.query(session) == "308 bytes=0-262143")
      #expect(
        try await service.part(text, Self.unit..<text.count, of: session).outcome == "200")
    }
  }

  @Test func aPartOfUnknownLengthEndsTheUpload() async throws {
    try await Self.run { service in
      let (_, session) = try await Self.begin(service)
      let text = Self.text(Self.unit + 5)
      let first = try await service.put(
        Array(text[..<Self.unit]), to: session, ["content-range": "bytes 0-262143/*"])
      #expect(first.outcome == "308 bytes=0-262143")
      let last = try await service.put(
        Array(text[Self.unit...]), to: session, ["content-range": "bytes 262144-*/\(text.count)"])
      #expect(last.outcome == "200")
    }
  }

  @Test func aPutWithoutARangeIsTheWholeUpload() async throws {
    try await Self.run { service in
      let (job, session) = try await Self.begin(service)
      #expect(try await service.put(Array("1\n".utf8), to: session, [:]).outcome == "200")
      try await service.gate.reached { $0 == .processed(jobID: job.id) }
      #expect(try await service.job(job.id).status == "complete")
    }
  }

  @Test func anEndedOrUnknownSessionIsRefused() async throws {
    try await Self.run { service in
      let (job, session) = try await Self.begin(service)
      let unknown = session.replacing(/upload_id=.*/, with: "upload_id=0123")
      #expect(try await service.put([], to: unknown, ["content-range": "bytes */*"]).status == 404)
      let cancelled = try await service.send(.DELETE, session, token: nil)
      #expect(cancelled.status == 499)
      #expect(try await service.put([], to: session, ["content-range": "bytes */*"]).status == 410)
      #expect(try await service.send(.DELETE, session, token: nil).status == 410)
      // A new session can be started.
      let again = try #require(try await service.begin(job).headers.first(name: "location"))
      #expect(try await service.put(Array("1\n".utf8), to: again, [:]).status == 200)
    }
    try await Self.run({ $0.sessionLifetime = .zero }) { service in
      let (_, session) = try await Self.begin(service)
      #expect(try await service.put([], to: session, ["content-range": "bytes */*"]).status == 410)
    }
  }

  @Test func anAbandonedUploadExpiresAndAllowsANewJob() async throws {
    try await Self.run { service in
      let (job, session) = try await Self.begin(service)
      let text = Self.text(2 * Self.unit)
      // The time for the upload has ended, but its session is in use.
      try await service.execute(
        """
        UPDATE compliance.jobs SET created_at = created_at - interval '1 hour',
          upload_expires_at = upload_expires_at - interval '1 hour'
        """)
      #expect(
        try await service.part(text, 0..<Self.unit, of: session).outcome == "308 bytes=0-262143")
      #expect(try await service.job(job.id).status == "created")
      #expect(try await service.post(#"{"type":"tweets"}"#).problem().status == 409)
      // No part arrived for 16 minutes. The upload was allowed to take 15 minutes.
      try await service.execute(
        "UPDATE compliance.upload_sessions SET used_at = used_at - interval '16 minutes'")
      #expect(try await service.job(job.id).status == "expired")
      #expect(try await service.part(text, Self.unit..<text.count, of: session).status == 410)
      _ = try await service.create()
    }
  }

  @Test func aSessionThatReceivesAPartIsInUse() async throws {
    try await Self.run { service in
      let (_, session) = try await Self.begin(service)
      let connection = try RawConnection(to: session)
      try connection.send(
        """
        PUT \(connection.target) HTTP/1.1\r\nHost: \(connection.authority)\r\n\
        Content-Length: 1000\r\nContent-Range: bytes 0-999/1000\r\n\r\n123\n
        """)
      while try await service.query(session) != "503" { try await pollingPause() }
      try await service.execute(
        "UPDATE compliance.upload_sessions SET used_at = used_at - interval '1 day'")
      var isInUse = false
      while !isInUse {
        isInUse = try await service.database.withConnection {
          try await $0.query(
            "SELECT used_at > clock_timestamp() - interval '1 hour' FROM compliance.upload_sessions"
          ).onlyRow(as: Bool.self)
        }
      }
    }
  }

  @Test func aRequestToASessionWithABearerTokenIsRefused() async throws {
    try await Self.run { service in
      let (_, session) = try await Self.begin(service)
      let response = try await service.put(
        [], to: session, ["content-range": "bytes */*", "authorization": "Bearer first-app"])
      #expect(response.storageError == "400 InvalidArgument")
    }
  }

  @Test func onlyAResumableJobHasSessions() async throws {
    try await Self.run { service in
      let job = try await service.create()
      #expect(try await service.begin(job).storageError == "403 SignatureDoesNotMatch")
    }
  }

  @Test func anUploadContinuesAfterARestart() async throws {
    try await LocalService.withSite { site in
      var site = site
      site.configure = { $0.profile = .gcs }
      let text = Self.text(2 * Self.unit + 12)
      var begun: (job: WireJob, session: String)?
      try await site.interrupting { service in
        begun = try await Self.begin(service)
        _ = try await service.part(text, 0..<Self.unit, of: try #require(begun).session)
      }
      let (job, session) = try #require(begun)
      try await site.serving { service in
        let host = try await service.job(job.id).upload_url.prefix { $0 != "?" }
        let moved = String(host + session.drop { $0 != "?" })
        #expect(try await service.query(moved) == "308 bytes=0-262143")
        let last = try await service.part(text, Self.unit..<text.count, of: moved)
        #expect(last.outcome == "200")
        try await service.gate.reached { $0 == .processed(jobID: job.id) }
        #expect(try await service.job(job.id).status == "complete")
      }
    }
  }

  @Test func anInterruptedPartIsKept() async throws {
    try await Self.run { service in
      let (_, session) = try await Self.begin(service)
      let text = Self.text(2 * Self.unit)
      let connection = try RawConnection(to: session)
      try connection.send(
        """
        PUT \(connection.target) HTTP/1.1\r\nHost: \(connection.authority)\r\n\
        Content-Length: \(text.count)\r\nContent-Range: bytes 0-\(text.count - 1)/\(text.count)\r\n\r\n
        """)
      try connection.send(Array(text[..<(Self.unit + 1000)]))
      connection.close()
      var outcome = ""
      // Wait until the server notices that the connection is closed. Until then, the session is busy with the part.
      while !["308 bytes=0-262143", "308 bytes=0-263143"].contains(outcome) {
        outcome = try await service.query(session)
      }
      #expect(outcome == "308 bytes=0-262143")
      #expect(
        try await service.part(text, Self.unit..<text.count, of: session).outcome == "200")
    }
  }

  /// Sends the same requests to this service and to the public emulator of Google Cloud Storage, and compares the
  /// responses. They differ in these points:
  /// - If nothing is stored, the emulator sends `Range: bytes=0-0`. According to Google's description, the response
  ///   has no `Range` header in this case, so that a client can distinguish 0 stored bytes from 1.
  /// - The emulator has no signed URLs for sessions, so its session is started with the JSON API.
  /// - The emulator keeps parts of any length, and responds with 404 to a query of a completed session. The test omits
  ///   these steps.
  /// - The emulator returns the stored object's hashes and length in JSON. Google's XML API and this service return
  ///   them in headers.
  @Test func responsesMatchTheEmulatorOfGoogleCloudStorage() async throws {
    try await Self.run { service in
      let (_, session) = try await Self.begin(service)
      let ours = try await Self.exchange(service, session)
      let theirs = try await Tool.serving(["storage_emulator.py"]) { port in
        let url = "http://127.0.0.1:\(port)"
        let begin = try await service.send(
          .POST, "\(url)/upload/storage/v1/b/bucket/o?uploadType=resumable&name=ids", token: nil,
          contentType: "application/json", body: .bytes(ByteBuffer(string: "{}")))
        let location = try #require(begin.headers.first(name: "location"), "\(begin.text)")
        return try await Self.exchange(service, location)
      }
      #expect(ours.first == "308" && theirs.first == "308 bytes=0-0")
      #expect(ours.dropFirst() == theirs.dropFirst(), "\(ours), \(theirs)")
    }
  }

  private static func exchange(
    _ service: LocalService, _ session: String
  ) async throws -> [String] {
    let text = Self.text(3 * unit + 77)
    var outcomes = [try await service.query(session, total: "\(text.count)")]
    outcomes.append(try await service.part(text, 0..<unit, of: session).outcome)
    outcomes.append(try await service.query(session, total: "\(text.count)"))
    outcomes.append(try await service.query(session))
    outcomes.append(try await service.part(text, unit..<3 * unit, of: session).outcome)
    outcomes.append(try await service.query(session))
    let last = try await service.part(text, 3 * unit..<text.count, of: session)
    outcomes += [last.outcome, last.storedObject]
    let unknown = session.replacing(/upload_id=[^&]*/, with: "upload_id=0123")
    outcomes.append(try await service.put([], to: unknown, ["content-range": "bytes */*"]).outcome)
    return outcomes
  }
}

extension LocalService {
  func begin(_ job: WireJob) async throws -> ServiceResponse {
    var request = HTTPClientRequest(url: job.upload_url)
    request.method = .POST
    request.headers = [
      "content-type": "text/plain", "x-goog-resumable": "start", "content-length": "0",
    ]
    return try await send(request)
  }

  func put(
    _ bytes: [UInt8], to url: String, _ headers: HTTPHeaders
  ) async throws -> ServiceResponse {
    var request = HTTPClientRequest(url: url)
    request.method = .PUT
    request.headers = headers
    request.body = .bytes(ByteBuffer(bytes: bytes))
    return try await send(request)
  }

  func part(
    _ text: [UInt8], _ range: Range<Int>, of session: String
  ) async throws -> ServiceResponse {
    try await put(
      Array(text[range]), to: session,
      ["content-range": "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(text.count)"])
  }

  /// Queries how many bytes are stored.
  func query(_ session: String, total: String = "*") async throws -> String {
    try await put([], to: session, ["content-range": "bytes */\(total)"]).outcome
  }
}

extension ServiceResponse {
  /// The hashes and the length of the stored object, from headers or from JSON.
  fileprivate var storedObject: String {
    let hashes = headers[canonicalForm: "x-goog-hash"]
    guard hashes.isEmpty else {
      let length = headers.first(name: "x-goog-stored-content-length") ?? ""
      return "\(hashes.joined(separator: ",")) \(length)"
    }
    func member(_ name: String) -> String { object[name] as? String ?? "" }
    return "crc32c=\(member("crc32c")),md5=\(member("md5Hash")) \(member("size"))"
  }

  /// The status, and the `Range` header if there is one.
  var outcome: String {
    ["\(status)", headers.first(name: "range")].compactMap(\.self).joined(separator: " ")
  }
}
