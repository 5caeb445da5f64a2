import ComplianceAPI
import Foundation
import HTTPTypes
import Hummingbird
import NIOCore
import Synchronization
import SystemPackage
import TestSupport
import Testing
import Vocabulary

/// Uploads in parts to storage hosts that behave incorrectly. Each upload ends, and Lethe accepts no wrong response.
@Suite(.endedIfItHangs) struct StorageHostTests {
  private static let unit = 256 * 1024
  private static let bytes = 4 * unit

  /// A request that uploads a part or asks for the state of the upload.
  private struct Put: Sendable {
    /// The number among all requests. The first is 1.
    let number: Int
    /// The bytes of the part. Nil if the request asks for the state.
    let range: Range<Int>?
  }

  private enum PutResponse: Sendable {
    /// Status 308. The host has stored this many bytes.
    case stored(Int)
    case status(Int)
    /// Status 200. The host reports this many bytes as stored.
    case done(Int)
  }

  private final class Host: Sendable {
    let counts = Mutex((sessions: 0, puts: 0))
    let respond: @Sendable (Put) -> PutResponse

    init(_ respond: @escaping @Sendable (Put) -> PutResponse) {
      self.respond = respond
    }

    func begin(_ base: String) -> Response {
      let number = counts.withLock { counts in
        counts.sessions += 1
        return counts.sessions
      }
      return Response(status: .created, headers: [.location: "\(base)/s?session=\(number)"])
    }

    func receive(_ request: Request) async throws -> Response {
      _ = try await request.body.collect(upTo: 1 << 24)
      let parts = (request.headers[.contentRange] ?? "").split { " -/".contains($0) }
      let range =
        parts.count == 4 ? Int(parts[1]).flatMap { a in Int(parts[2]).map { a..<$0 + 1 } } : nil
      let number = counts.withLock { counts in
        counts.puts += 1
        return counts.puts
      }
      switch respond(Put(number: number, range: range)) {
      case .stored(0): return Response(status: .init(code: 308))
      case .stored(let bytes):
        return Response(status: .init(code: 308), headers: [.range: "bytes=0-\(bytes - 1)"])
      case .status(let status): return Response(status: .init(code: status))
      case .done(let bytes):
        return Response(
          status: .ok, headers: [HTTPField.Name("x-goog-stored-content-length")!: "\(bytes)"])
      }
    }
  }

  /// - Returns: the error that the upload threw, and the numbers of its sessions and PUT requests.
  private static func upload(
    partBytes: Int = unit, _ respond: @escaping @Sendable (Put) -> PutResponse
  ) async throws -> (error: APIError?, sessions: Int, puts: Int) {
    let host = Host(respond)
    let address = Mutex("")
    let router = Router()
    router.post("**") { _, _ in host.begin(address.withLock { $0 }) }
    router.put("**") { request, _ in try await host.receive(request) }
    return try await servingLoopback(router) { url in
      address.withLock { $0 = url }
      let file = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path
      try String(repeating: "1234567\n", count: bytes / 8)
        .write(toFile: file, atomically: true, encoding: .utf8)
      defer { try? FileManager.default.removeItem(atPath: file) }
      var network = NetworkSettings()
      network.partBytes = partBytes
      var error: APIError?
      do {
        try await ComplianceClient.withClient(
          baseURL: "http://localhost:1", token: BearerToken("t"), allowedHosts: ["127.0.0.1"],
          network: network,
          retry: .init(attemptsMax: 4, delaySecondsFirst: 0.001, delaySecondsMax: 0.002),
          logger: PipelineFixture.logger
        ) {
          try await $0.upload(
            file: FilePath(file), bytes: bytes,
            to: SignedURL("\(url)/o?X-Goog-SignedHeaders=host%3Bx-goog-resumable"), job: "1")
        }
      } catch let thrown as APIError {
        error = thrown
      }
      let counts = host.counts.withLock { $0 }
      return (error, counts.sessions, counts.puts)
    }
  }

  @Test func anUploadToACorrectHostSucceeds() async throws {
    let (error, sessions, puts) = try await Self.upload { put in
      put.range.map { $0.upperBound == Self.bytes ? .done(Self.bytes) : .stored($0.upperBound) }
        ?? .status(400)
    }
    #expect(error == nil && sessions == 1 && puts == 4)
  }

  /// The host stores the first part, fails at the second part, and then reports that it has no bytes. It repeats this.
  @Test func anUploadToAHostThatLosesBytesFails() async throws {
    let (error, sessions, puts) = try await Self.upload { put in
      guard let range = put.range else { return .stored(0) }
      return range.lowerBound == 0 ? .stored(range.upperBound) : .status(503)
    }
    #expect(error?.kind == .urlRefused)
    #expect(sessions == 3 && puts == 9)
  }

  @Test func anUploadFailsIfTheHostReportsMoreBytesThanWereSent() async throws {
    let (error, _, puts) = try await Self.upload { put in
      put.range?.lowerBound == 0 ? .stored(Self.bytes - 8) : .done(Self.bytes)
    }
    #expect(error?.kind == .unconfirmed && puts == 1)
  }

  @Test func anUploadFailsIfTheHostHasAllBytesAndDoesNotFinish() async throws {
    let (error, _, puts) = try await Self.upload { put in
      .stored(put.range?.upperBound ?? Self.bytes)
    }
    #expect(error?.kind == .unconfirmed && puts < 12)
  }

  @Test func oneStoredByteOfEachPartIsNotEnoughProgress() async throws {
    let (error, sessions, puts) = try await Self.upload { put in
      .stored((put.range?.lowerBound ?? 0) + 1)
    }
    #expect(error != nil && sessions <= 3 && puts < 30)
  }

  @Test func partsThatAreTooLargeForAProxyAreMadeSmaller() async throws {
    let (error, sessions, _) = try await Self.upload(partBytes: 4 * Self.unit) { put in
      guard let range = put.range else { return .stored(0) }
      if range.count > Self.unit { return .status(413) }
      return range.upperBound == Self.bytes ? .done(Self.bytes) : .stored(range.upperBound)
    }
    #expect(error == nil && sessions == 1)
  }

  @Test func anUploadFailsIfEverySizeOfPartIsTooLarge() async throws {
    let (error, _, puts) = try await Self.upload(partBytes: 4 * Self.unit) { put in
      put.range == nil ? .stored(0) : .status(413)
    }
    #expect(error?.kind == .tooLarge && puts < 12)
  }
}
