import ComplianceAPI
import Failures
import Foundation
import SystemPackage
import TestSupport
import Testing
import Vocabulary

/// Tests of causes that prevent a connection. A lasting cause is reported with its remedy, and a temporary cause is
/// retried.
@Suite(.endedIfItHangs) struct ConnectionTests {
  /// Requests the job list of an API, with at most `tries` attempts.
  private static func ask(
    _ url: String, proxy: String? = nil, trusting authority: FilePath? = nil, tries: Int = 2
  ) async throws {
    var network = NetworkSettings(
      proxies: try ProxySettings(chosen: proxy, environment: [:]),
      certificates: authority.map { [.init(path: $0.string, origin: "api.ca_file")] } ?? [])
    network.connectSeconds = 5
    try await ComplianceClient.withClient(
      baseURL: url, token: BearerToken("secret-token"), allowedHosts: [], network: network,
      retry: RetryPolicy(attemptsMax: tries, delaySecondsFirst: 0.01, delaySecondsMax: 0.01),
      logger: PipelineFixture.logger
    ) { _ = try await $0.jobs(type: .tweets) }
  }

  private static func expectRefusal(
    _ kind: APIError.Kind, _ messageParts: [String], _ location: SourceLocation = #_sourceLocation,
    _ body: () async throws -> Void
  ) async {
    do {
      try await body()
      Issue.record("no error was thrown", sourceLocation: location)
    } catch let error as APIError {
      #expect(error.kind == kind, "\(error)", sourceLocation: location)
      for part in messageParts {
        #expect(error.description.contains(part), "\(part): \(error)", sourceLocation: location)
      }
      // The message must not contain the TLS library's source locations (`file.cc:123`), which do not help the
      // operator.
      #expect(!error.description.contains(".cc:"), "\(error)", sourceLocation: location)
    } catch {
      Issue.record("\(error)", sourceLocation: location)
    }
  }

  // MARK: TLS alerts

  struct Alert: Sendable, CustomTestStringConvertible {
    let number: UInt8
    let kind: APIError.Kind
    let messageParts: [String]
    var testDescription: String { "alert \(number)" }
  }

  private static let clients = [
    "requires a client certificate", "Lethe sends no client certificate",
  ]

  /// The alerts of RFC 8446, section 6.
  static let alerts = [
    Alert(number: 40, kind: .untrusted, messageParts: ["handshake failure", "TLS 1.2 or newer"]),
    Alert(
      number: 42, kind: .clientCertificateRequired, messageParts: clients + ["bad certificate"]),
    Alert(
      number: 43, kind: .clientCertificateRequired,
      messageParts: clients + ["unsupported certificate"]),
    Alert(
      number: 44, kind: .clientCertificateRequired, messageParts: clients + ["certificate revoked"]),
    Alert(
      number: 45, kind: .clientCertificateRequired, messageParts: clients + ["certificate expired"]),
    Alert(
      number: 46, kind: .clientCertificateRequired, messageParts: clients + ["certificate unknown"]),
    Alert(number: 48, kind: .clientCertificateRequired, messageParts: clients + ["unknown ca"]),
    Alert(number: 49, kind: .clientCertificateRequired, messageParts: clients + ["access denied"]),
    Alert(number: 70, kind: .untrusted, messageParts: ["protocol version", "TLS 1.2 or newer"]),
    Alert(number: 71, kind: .untrusted, messageParts: ["insufficient security"]),
    Alert(number: 80, kind: .temporary, messageParts: ["internal error", "run again"]),
    Alert(number: 112, kind: .untrusted, messageParts: ["unrecognized name", "the right host"]),
    Alert(
      number: 116, kind: .clientCertificateRequired,
      messageParts: clients + ["certificate required"]),
    Alert(number: 120, kind: .untrusted, messageParts: ["no application protocol"]),
  ]

  @Test(arguments: alerts)
  func aTLSAlertIsReported(alert: Alert) async throws {
    try await RawPeer.serving({ _ in
      [.receive(5), .send([0x15, 3, 1, 0, 2, 2, alert.number])]
    }) { port in
      await Self.expectRefusal(alert.kind, alert.messageParts) {
        try await Self.ask("https://127.0.0.1:\(port)")
      }
    }
  }

  /// OpenSSL sends an alert to a client without a certificate, in both TLS versions.
  @Test(arguments: ["-tls1_2", "-tls1_3"])
  func aHostThatRequiresAClientCertificateIsReported(version: String) async throws {
    try await withTemporaryDirectory { directory in
      let authority = try await CertificateAuthority(in: directory)
      let address = LoopbackAddress.random()
      let certificate = try await authority.certificate(
        for: ["api.company.test"], addresses: [address.host])
      try await ExternalServer.running(
        [
          "/usr/bin/openssl", "s_server", "-accept", "\(address)", "-cert", certificate.file.string,
          "-key", certificate.key.string, "-Verify", "1", "-verify_return_error", "-CAfile",
          authority.file.string, version, "-www", "-quiet",
        ], at: address, scratch: directory
      ) {
        await Self.expectRefusal(.clientCertificateRequired, Self.clients) {
          try await Self.ask("https://\(address)", trusting: authority.file)
        }
      }
    }
  }

  @Test func aHostWithoutTLSIsReported() async throws {
    try await RawPeer.serving({ _ in
      [.receive(5), .sendText("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")]
    }) { port in
      await Self.expectRefusal(.untrusted, ["does not use TLS", "scheme and port"]) {
        try await Self.ask("https://127.0.0.1:\(port)")
      }
    }
  }

  // MARK: Proxies

  struct Dialogue: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let steps: [RawPeer.Step]
    let kind: APIError.Kind
    let messageParts: [String]
  }

  private static let greeting = RawPeer.Step.receive(3)

  private static func reply(_ number: UInt8) -> [RawPeer.Step] {
    // The request contains a host name of 15 characters.
    [
      greeting, .send([5, 0]), .receive(5 + 15 + 2), .send([5, number, 0, 1, 0, 0, 0, 0, 0, 0]),
    ]
  }

  static let dialogues = [
    Dialogue(
      testDescription: "no method", steps: [greeting, .send([5, 0xFF])],
      kind: .proxyRefused,
      messageParts: ["requires credentials", "use the proxy's HTTP port"]),
    Dialogue(
      testDescription: "user and password", steps: [greeting, .send([5, 2])],
      kind: .proxyRefused,
      messageParts: ["requires credentials", "use the proxy's HTTP port"]),
    Dialogue(
      testDescription: "a rule forbids the host", steps: reply(2), kind: .proxyRefused,
      messageParts: ["the proxy's rules forbid it", "NO_PROXY"]),
    Dialogue(
      testDescription: "no CONNECT", steps: reply(7), kind: .wrongProxyProtocol,
      messageParts: ["does not support CONNECT", "socks5://"]),
    Dialogue(
      testDescription: "no names", steps: reply(8), kind: .wrongProxyProtocol,
      messageParts: ["does not support host names"]),
    Dialogue(
      testDescription: "SOCKS 4", steps: [greeting, .send([0, 0x5B])], kind: .wrongProxyProtocol,
      messageParts: ["does not use SOCKS 5", "http:// or socks5://"]),
    Dialogue(
      testDescription: "HTTP", steps: [greeting, .sendText("HTTP/1.1 400 Bad Request\r\n\r\n")],
      kind: .wrongProxyProtocol, messageParts: ["does not use SOCKS 5"]),
    Dialogue(
      testDescription: "general failure", steps: reply(1), kind: .temporary,
      messageParts: ["the proxy failed (SOCKS reply 1)", "run again"]),
    Dialogue(
      testDescription: "no network", steps: reply(3), kind: .temporary,
      messageParts: ["network is unreachable"]),
    Dialogue(
      testDescription: "connection refused", steps: reply(5), kind: .temporary,
      messageParts: ["connection was refused"]),
    Dialogue(
      testDescription: "connection reset", steps: [greeting, .reset], kind: .temporary,
      messageParts: []),
  ]

  @Test(arguments: dialogues)
  func aFailureOfASOCKSProxyIsReported(dialogue: Dialogue) async throws {
    try await RawPeer.serving({ _ in dialogue.steps }) { port in
      await Self.expectRefusal(
        dialogue.kind, dialogue.messageParts + ["socks5://127.0.0.1:\(port)"]
      ) {
        try await Self.ask("https://api.example.com", proxy: "socks5://127.0.0.1:\(port)")
      }
    }
  }

  /// The message names the issuer of the certificate, even behind a SOCKS proxy.
  @Test func anUntrustedAuthorityIsReportedBehindSOCKS() async throws {
    try await withTemporaryDirectory { directory in
      let authority = try await CertificateAuthority(in: directory)
      let certificate = try await authority.certificate(for: ["api.example.com"])
      let front = LoopbackAddress.random()
      try await ReverseProxy.serving(
        [.init("api.example.com", to: "http://127.0.0.1:1")], at: front, certificate: certificate,
        in: directory
      ) {
        let steps = Self.reply(0) + [.relay(host: front.host, port: front.port)]
        try await RawPeer.serving({ _ in steps }) { port in
          await Self.expectRefusal(.untrusted, [CertificateAuthority.name, "api.ca_file"]) {
            try await Self.ask("https://api.example.com", proxy: "socks5://127.0.0.1:\(port)")
          }
          // nginx responds with 502 if it cannot reach its upstream.
          await Self.expectRefusal(.temporary, ["HTTP 502"]) {
            try await Self.ask(
              "https://api.example.com", proxy: "socks5://127.0.0.1:\(port)",
              trusting: authority.file)
          }
        }
      }
    }
  }

  /// The proxy's port accepts only TLS.
  @Test func aProxyWithTLSIsReported() async throws {
    try await withTemporaryDirectory { directory in
      let authority = try await CertificateAuthority(in: directory)
      let certificate = try await authority.certificate(for: ["proxy.company.test"])
      let address = LoopbackAddress.random()
      try await ExternalServer.running(
        [
          "/usr/bin/openssl", "s_server", "-accept", "\(address)", "-cert", certificate.file.string,
          "-key", certificate.key.string, "-www", "-quiet",
        ], at: address, scratch: directory
      ) {
        await Self.expectRefusal(.wrongProxyProtocol, ["it uses TLS", "port for plain HTTP"]) {
          try await Self.ask("https://api.example.com", proxy: "http://\(address)")
        }
      }
    }
  }

  @Test func aSOCKSProxyThatIsConfiguredAsHTTPIsReported() async throws {
    // The proxy closes a connection that does not begin with the SOCKS version.
    try await RawPeer.serving({ connection in
      // Lethe opens four connections: the request, its retry, an attempt with TLS and an attempt with SOCKS.
      connection == 4 ? [Self.greeting, .send([5, 0xFF])] : [.receive(1), .close]
    }) { port in
      await Self.expectRefusal(.wrongProxyProtocol, ["it uses SOCKS", "write the proxy's address"])
      {
        try await Self.ask("https://api.example.com", proxy: "http://127.0.0.1:\(port)")
      }
    }
  }

  @Test(arguments: [502, 503, 403])
  func aProxysStatusIsReported(status: Int) async throws {
    try await RawPeer.serving({ _ in
      [
        .receiveThrough("\r\n\r\n"),
        .sendText("HTTP/1.1 \(status) Refused\r\nContent-Length: 0\r\n\r\n"),
      ]
    }) { port in
      await Self.expectRefusal(
        status == 403 ? .proxyRefused : .temporary, ["its status is \(status)"]
      ) {
        try await Self.ask("https://api.example.com", proxy: "http://127.0.0.1:\(port)")
      }
    }
  }

  // MARK: The program

  @Test func theProgramsExitCodeMatchesTheCause() async throws {
    @Sendable func result(_ url: String, _ proxy: String?) async throws -> Program.Result {
      try await withTemporaryDirectory { directory in
        let file = directory.appending("night.yaml").string
        try PipelineFixture.definition.write(toFile: file, atomically: true, encoding: .utf8)
        return try await Program.run(
          "lethe", ["jobs", "list", file],
          environment: [
            "COMPLIANCE_API_URL": url, "X_BEARER_TOKEN": "secret-token", "DATABASE_URL": "none",
          ].merging(proxy.map { ["HTTPS_PROXY": $0] } ?? [:]) { $1 },
          without: CompanyNetwork.variables.filter { $0 != "HTTPS_PROXY" || proxy == nil })
      }
    }
    try await RawPeer.serving({ _ in [.receive(5), .send([0x15, 3, 1, 0, 2, 2, 116])] }) { port in
      let wanted = try await result("https://127.0.0.1:\(port)", nil)
      #expect(wanted.code == 77, "\(wanted.stderr)")
      #expect(wanted.stderr.contains("certificate required"), "\(wanted.stderr)")
    }
    try await RawPeer.serving({ _ in Self.reply(2) }) { port in
      let refused = try await result("https://api.example.com", "socks5://127.0.0.1:\(port)")
      #expect(refused.code == 77, "\(refused.stderr)")
      #expect(refused.stderr.contains("the proxy's rules forbid it"), "\(refused.stderr)")
    }
    try await RawPeer.serving({ _ in [Self.greeting, .send([0, 0x5B])] }) { port in
      let mistaken = try await result("https://api.example.com", "socks5://127.0.0.1:\(port)")
      #expect(mistaken.code == 1, "\(mistaken.stderr)")
      #expect(mistaken.stderr.contains("does not use SOCKS 5"), "\(mistaken.stderr)")
    }
  }
}
