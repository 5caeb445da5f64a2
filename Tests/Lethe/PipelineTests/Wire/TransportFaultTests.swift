import ComplianceAPI
import Foundation
import Logging
import Synchronization
import SystemPackage
import TestSupport
import Testing
import Vocabulary

/// Connections that fail or stall. Each cause has its own message. Temporary causes are retried, but no job is created
/// twice.
@Suite(.endedIfItHangs) struct TransportFaultTests {
  /// How long a test's client waits for a byte.
  private static let stallSeconds = 2.0

  private static func client<R: Sendable>(
    _ url: String, tries: Int = 2, stallSeconds: Double = 60,
    _ body: @Sendable (ComplianceClient) async throws -> R
  ) async throws -> R {
    var network = NetworkSettings()
    (network.connectSeconds, network.stallSeconds) = (10, stallSeconds)
    return try await ComplianceClient.withClient(
      baseURL: url, token: BearerToken("secret-token"), allowedHosts: [], network: network,
      retry: RetryPolicy(attemptsMax: tries, delaySecondsFirst: 0.001, delaySecondsMax: 0.001),
      logger: PipelineFixture.logger, body)
  }

  private static func error(_ body: () async throws -> Void) async throws -> APIError {
    try #require(await #expect(throws: APIError.self) { try await body() })
  }

  // MARK: Calls

  struct Fault: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let steps: [RawPeer.Step]
    let words: String
    var stallSeconds = 60.0
  }

  private static let request = RawPeer.Step.receiveThrough("\r\n\r\n")

  static let faults = [
    Fault(
      testDescription: "a reset before the request is read", steps: [.reset],
      words: "127.0.0.1 "),
    Fault(
      testDescription: "a reset in the middle of the request", steps: [.receive(20), .reset],
      words: "127.0.0.1 reset the connection"),
    Fault(
      testDescription: "a reset after the request", steps: [request, .reset],
      words: "127.0.0.1 reset the connection"),
    Fault(
      testDescription: "the end of the connection after the request", steps: [request, .close],
      words: "127.0.0.1 closed the connection before the response was complete"),
    Fault(
      testDescription: "the end of the connection in the head of the response",
      steps: [request, .sendText("HTTP/1.1 200 OK\r\nContent-Le"), .close], words: "no response ("),
    Fault(
      testDescription: "the end of the connection in the body of the response",
      steps: [request, .sendText("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"), .close],
      words: "127.0.0.1 closed the connection before the response was complete"),
    Fault(
      testDescription: "a reset in the body of the response",
      steps: [request, .sendText("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"), .reset],
      words: "127.0.0.1 "),
    Fault(
      testDescription: "a response that is not HTTP",
      steps: [request, .sendText("220 mail\r\n\r\n")],
      words: "127.0.0.1 did not respond with HTTP"),
    Fault(
      testDescription: "a response whose head never comes", steps: [request, .hold],
      words: "no byte arrived from 127.0.0.1 for 0.3 s", stallSeconds: 0.3),
    Fault(
      testDescription: "a response that stops in its head",
      steps: [request, .sendText("HTTP/1.1 200 OK\r\nContent-"), .hold],
      words: "no byte arrived from 127.0.0.1 for 0.3 s", stallSeconds: 0.3),
    Fault(
      testDescription: "a response that stops in its body",
      steps: [request, .sendText("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"), .hold],
      words: "no byte arrived from 127.0.0.1 for 0.3 s", stallSeconds: 0.3),
  ]

  @Test(arguments: faults)
  func aLostResponseIsRetriedAndReported(fault: Fault) async throws {
    let connections = Mutex(0)
    try await RawPeer.serving({ number in
      connections.withLock { $0 = number }
      return fault.steps
    }) { port in
      try await Self.client("http://127.0.0.1:\(port)", stallSeconds: fault.stallSeconds) {
        client in
        let error = try await Self.error { _ = try await client.job(id: "7") }
        #expect(error.kind == .temporary && error.operation == "get job 7", "\(error)")
        #expect(error.message.contains(fault.words), "\(error)")
        #expect(connections.withLock { $0 } == 2)

        // The job might exist, so the call is not repeated.
        let lost = try await Self.error {
          _ = try await client.createJob(type: .tweets, name: "lethe")
        }
        #expect(lost.kind == .temporary, "\(lost)")
        #expect(lost.message.contains(fault.words), "\(lost)")
        #expect(connections.withLock { $0 } == 3)
      }
    }
  }

  @Test func aRefusedConnectionIsReported() async throws {
    // The port is free again when the server has ended.
    let port = try await RawPeer.serving({ _ in [] }) { $0 }
    let error = try await Self.error {
      try await Self.client("http://127.0.0.1:\(port)") { _ = try await $0.job(id: "7") }
    }
    #expect(error.kind == .temporary, "\(error)")
    #expect(error.message == "no response (127.0.0.1 refused the connection)", "\(error)")
  }

  // MARK: Transfers

  /// Uploads a file of this size to the API's own host.
  private static func upload(
    _ bytes: Int, port: Int, tries: Int = 2, stallSeconds: Double = 60
  ) async throws {
    try await withTemporaryDirectory { directory in
      let file = directory.appending("chunk.ids")
      try Data(repeating: 0x31, count: bytes).write(to: URL(filePath: file.string))
      let url = "http://127.0.0.1:\(port)"
      try await client(url, tries: tries, stallSeconds: stallSeconds) {
        try await $0.upload(file: file, bytes: bytes, to: SignedURL("\(url)/up"), job: "7")
      }
    }
  }

  private static let success = RawPeer.Step.sendText(
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

  @Test func anUploadThatTheHostStopsReadingFails() async throws {
    let connections = Mutex(0)
    try await RawPeer.serving({ number in
      connections.withLock { $0 = number }
      return [Self.request, .hold]
    }) { port in
      let error = try await Self.error {
        try await Self.upload(32 << 20, port: port, stallSeconds: 0.5)
      }
      #expect(error.kind == .temporary, "\(error)")
      #expect(error.message.contains("127.0.0.1 accepted no byte for 0.5 s"), "\(error)")
      #expect(connections.withLock { $0 } == 2)
    }
  }

  /// The host responds before it has received the whole upload, and the response stops.
  @Test func anEarlyResponseThatStopsDoesNotHang() async throws {
    try await RawPeer.serving({ number in
      if number > 1 { return [.receive(4 << 20), Self.success] }
      return [
        Self.request, .sendText("HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\n{"), .hold,
      ]
    }) { port in
      try await Self.upload(4 << 20, port: port, tries: 4, stallSeconds: Self.stallSeconds)
    }
  }

  /// Returns after the client has ended a call that stalled. So the client's own limit measures the time in which another
  /// transfer makes no progress.
  @Sendable private static func beat() async throws {
    let began = ContinuousClock.now
    defer { longestBeat.withLock { $0 = max($0, .now - began) } }
    try await RawPeer.serving({ _ in [request, .hold] }) { port in
      let error = try await error {
        try await client("http://127.0.0.1:\(port)", tries: 1, stallSeconds: beatSeconds) {
          _ = try await $0.job(id: "7")
        }
      }
      #expect(error.message.contains("for \(beatSeconds) s"), "\(error)")
    }
  }

  private static let beatSeconds = 0.5
  /// On a busy machine, a beat can take much longer than `beatSeconds`.
  private static let slowStallSeconds = 12.0
  /// Together they take longer than `slowStallSeconds`.
  private static let beats = 25

  private static let longestBeat = Mutex(Duration.zero)

  /// Runs a slow transfer. On a machine that is too busy for its beats, the transfer is tried again, and after three
  /// tries it shows nothing. A beat that takes a third of the limit may exceed it together with other delays.
  private static func withTimelyBeats(_ transfer: () async throws -> Void) async throws {
    for _ in 1...3 {
      do {
        return try await transfer()
      } catch {
        guard longestBeat.withLock({ $0 }) > .seconds(slowStallSeconds / 3) else { throw error }
      }
    }
  }

  /// The upload takes longer than `stall_seconds`, but the host always accepts more bytes.
  @Test func aSlowUploadWithProgressIsNotEnded() async throws {
    // As many bytes as the socket's send buffer can hold, so that the client can send after each beat.
    let piece = 1 << 22
    let steps: [RawPeer.Step] = [
      Self.request, .repeated([.receive(piece)], count: Self.beats, after: Self.beat),
      .receive(piece), Self.success,
    ]
    try await Self.withTimelyBeats {
      try await RawPeer.serving(receiveBufferBytes: 1 << 17, { _ in steps }) { port in
        try await Self.upload(
          (Self.beats + 1) * piece, port: port, tries: 1, stallSeconds: Self.slowStallSeconds)
      }
    }
  }

  /// The download takes longer than `stall_seconds`, but bytes always arrive.
  @Test func aSlowDownloadWithProgressIsNotEnded() async throws {
    let steps: [RawPeer.Step] = [
      Self.request,
      .sendText("HTTP/1.1 200 OK\r\nContent-Length: \(Self.beats)\r\n\r\n"),
      .repeated([.sendText("\n")], count: Self.beats, after: Self.beat),
    ]
    try await Self.withTimelyBeats {
      try await RawPeer.serving({ _ in steps }) { port in
        let url = "http://127.0.0.1:\(port)"
        try await withTemporaryDirectory { directory in
          try await Self.client(url, tries: 1, stallSeconds: Self.slowStallSeconds) {
            let download = try await $0.download(
              from: SignedURL("\(url)/down"), to: directory.appending("r"), bytesMax: 100, job: "7")
            #expect(download.bytes == Self.beats)
          }
        }
      }
    }
  }

  @Test func anUploadIsRetriedAfterAReset() async throws {
    let connections = Mutex(0)
    try await RawPeer.serving({ number in
      connections.withLock { $0 = number }
      // The host resets the connection before, during and after the upload.
      return switch number {
      case 1: [.reset]
      case 2: [.receive(1 << 20), .reset]
      case 3: [.receive(4 << 20), .reset]
      default: [.receive(4 << 20), Self.success]
      }
    }) { port in
      try await Self.upload(4 << 20, port: port, tries: 4)
    }
    #expect(connections.withLock { $0 } == 4)
  }

  // MARK: Names

  /// Whether this machine permits private mounts, and a name server on port 53 of a loopback address.
  @Sendable private static func canReplaceNameServer() async throws -> Bool {
    try await Program.external(
      [
        "/usr/bin/unshare", PrivateNamespace.mounts, "/bin/bash", "-c",
        """
        mount --bind /dev/null /etc/resolv.conf && grep -q '^hosts:.*dns' /etc/nsswitch.conf &&
        /usr/bin/python3 -c 'import socket; socket.socket(2, 2).bind(("127.0.0.53", 53))'
        """,
      ]
    ).code == 0
  }

  /// A name server that first fails (SERVFAIL) for the given number of queries, and then knows no name (NXDOMAIN).
  private static let nameServer = #"""
    import socket, sys
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((sys.argv[1], 53))
    print("ready", flush=True)
    failures = int(sys.argv[2])
    while True:
        query, client = server.recvfrom(512)
        code = 2 if failures > 0 else 3
        failures -= 1
        server.sendto(query[:2] + bytes([0x81, 0x80 | code]) + query[4:6] + bytes(6) + query[12:], client)
    """#

  @Test(
    .enabled("replacing the name server is not allowed here", canReplaceNameServer),
    arguments: [0, 8])
  func onlyATemporaryFailureOfTheNameServerIsRetried(failures: Int) async throws {
    try await withTemporaryDirectory { directory in
      let file = directory.appending("night.yaml").string
      try PipelineFixture.definition.write(toFile: file, atomically: true, encoding: .utf8)
      try Self.nameServer.write(
        toFile: directory.appending("dns.py").string, atomically: true, encoding: .utf8)
      let address = LoopbackAddress.random().host
      try "nameserver \(address)\noptions timeout:1 attempts:1\n".write(
        toFile: directory.appending("resolv.conf").string, atomically: true, encoding: .utf8)
      let script = """
        mount --bind \(directory)/resolv.conf /etc/resolv.conf
        coproc exec /usr/bin/python3 \(directory)/dns.py \(address) \(failures)
        read -r ready <&"${COPROC[0]}"
        "$0" "$@"; code=$?
        kill -9 "$COPROC_PID"; wait
        exit $code
        """
      let result = try await Program.run(
        "lethe", ["jobs", "list", file],
        environment: [
          "COMPLIANCE_API_URL": "https://api.company.test", "X_BEARER_TOKEN": "secret-token",
          "DATABASE_URL": "none",
        ], without: CompanyNetwork.variables,
        launcher: ["/usr/bin/unshare", PrivateNamespace.mounts, "/bin/bash", "-c", script])
      #expect(result.code == 1, "\(result.stderr)")
      for words in ["the name api.company.test does not exist in DNS", "name servers"] {
        #expect(result.stderr.contains(words), "\(words): \(result.stderr)")
      }
      let temporary = "the name api.company.test could not be resolved: temporary failure"
      #expect(result.stderr.contains(temporary) == (failures > 0), "\(result.stderr)")
    }
  }
}
