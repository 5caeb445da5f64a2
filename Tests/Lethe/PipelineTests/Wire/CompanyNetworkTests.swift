import ComplianceService
import Foundation
import PostgreSQL
import SystemPackage
import TestSupport
import Testing

/// Runs of the program in a network with a company's proxy and certificates.
@Suite(.endedIfItHangs) struct CompanyNetworkTests {
  // MARK: The network itself

  @Test func curlReachesTheServiceThroughTheProxy() async throws {
    try await CompanyNetwork.with { network in
      func status(_ proxy: String, _ authority: FilePath?) async throws -> String {
        let trust = authority.map { ["--cacert", $0.string] } ?? []
        return try await Self.curl(
          trust + ["--proxy", proxy, "-w", "%{http_connect} %{http_code}", "-o", "/dev/null"]
            + ["\(network.api)/healthz"])
      }
      let authority = network.authority.file
      let withoutPassword = try await status(network.proxy.bareURL, authority)
      let withWrongPassword = try await status(network.proxy.url(password: "wrong"), authority)
      #expect([withoutPassword, withWrongPassword] == ["407 000", "401 000"])
      #expect(try network.proxy.hostsReached == [])
      let untrusted = try await status(network.proxy.url, nil)
      let trusted = try await status(network.proxy.url, authority)
      #expect([untrusted, trusted] == ["200 000", "200 200"])
      #expect(try network.proxy.hostsReached == [network.apiHost])
    }
  }

  /// Runs curl.
  /// - Returns: curl's stdout, for any exit code.
  private static func curl(_ arguments: [String]) async throws -> String {
    try await Program.external(["/usr/bin/curl", "-sS", "--noproxy", ""] + arguments).stdout
  }

  // MARK: Runs

  /// A configuration of the proxy and the authority on a machine.
  struct Setup: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let profile: WireProfile
    var isEncrypted = true
    var isProxied = true
    let environment: @Sendable (CompanyNetwork) -> [String: String]
    var lines: @Sendable (CompanyNetwork) -> [String] = { _ in [] }
  }

  static let setups: [Setup] = [
    Setup(
      testDescription: "http", profile: .native, isEncrypted: false, isProxied: false,
      environment: { $0.names }),
    Setup(
      testDescription: "http, gcs", profile: .gcs, isEncrypted: false, isProxied: false,
      environment: { $0.names }),
    Setup(
      testDescription: "http, HTTP_PROXY", profile: .native, isEncrypted: false,
      environment: { ["HTTP_PROXY": $0.proxy.url] }),
    Setup(
      testDescription: "http, gcs, all_proxy", profile: .gcs, isEncrypted: false,
      environment: { ["all_proxy": $0.proxy.url] }),
    Setup(
      testDescription: "https, SSL_CERT_DIR", profile: .native, isProxied: false,
      environment: { $0.names.merging(["SSL_CERT_DIR": $0.trusted.string]) { $1 } }),
    Setup(
      testDescription: "https, gcs, SSL_CERT_FILE", profile: .gcs, isProxied: false,
      environment: { $0.names.merging(["SSL_CERT_FILE": $0.authority.file.string]) { $1 } }),
    Setup(
      testDescription: "https, HTTPS_PROXY, SSL_CERT_FILE", profile: .native,
      environment: {
        ["HTTPS_PROXY": $0.proxy.url, "SSL_CERT_FILE": $0.authority.file.string]
      }),
    Setup(
      testDescription: "https, gcs, api.proxy, api.ca_file", profile: .gcs,
      environment: { ["COMPANY_PROXY": $0.proxy.url] },
      lines: { ["proxy: ${COMPANY_PROXY}", "ca_file: \($0.authority.file)"] }),
  ]

  @Test(arguments: setups)
  func aRunIsCorrectForEachNetworkConfiguration(_ setup: Setup) async throws {
    try await CompanyNetwork.with(setup.profile, isEncrypted: setup.isEncrypted) { network in
      try await network.fixture.addSamples(posts: 300, users: 30, editedPostsLoseLocations: false)
      let result = try await network.lethe(
        "run", environment: setup.environment(network), lines: setup.lines(network))
      #expect(result.code == 0, "\(result.stderr)")
      #expect(try await network.fixture.rowsThatDiffer() == 0)
      #expect(try await network.fixture.ledgerFaults() == [])
      var hosts: Set<String> = []
      if setup.isProxied {
        hosts.insert(network.apiHost)
        if setup.profile == .gcs { hosts.insert(CompanyNetwork.storageHost) }
      }
      #expect(try network.proxy.hostsReached == hosts)
      expectNoSecrets(result)
    }
  }

  @Test func theProxyIsNotUsedForHostsThatTheEnvironmentExcludes() async throws {
    try await CompanyNetwork.with(.gcs) { network in
      try await network.fixture.addSamples(posts: 300, users: 30, editedPostsLoseLocations: false)
      let own = [
        "HTTPS_PROXY": network.proxy.url, "NO_PROXY": network.apiHost,
        "SSL_CERT_FILE": network.authority.file.string,
      ]
      let result = try await network.lethe(
        "run", environment: network.names.merging(own) { $1 })
      #expect(result.code == 0, "\(result.stderr)")
      #expect(try await network.fixture.rowsThatDiffer() == 0)
      #expect(try network.proxy.hostsReached == [CompanyNetwork.storageHost])
    }
  }

  // MARK: Connections that fail

  /// The message must name the proxy and not the Bearer token, because the proxy refuses the credentials for the proxy.
  @Test(arguments: ["wrong", nil])
  func aProxyThatRefusesTheCredentialsIsReported(password: String?) async throws {
    try await CompanyNetwork.with { network in
      try await network.fixture.addSamples(posts: 50, users: 10)
      let url = password.map { network.proxy.url(password: $0) } ?? network.proxy.bareURL
      for command in ["check", "run"] {
        let result = try await network.lethe(
          command,
          environment: [
            "HTTPS_PROXY": url, "SSL_CERT_FILE": network.authority.file.string,
          ])
        let output = result.stdout + result.stderr
        #expect(result.code == 77, "\(output)")
        #expect(output.contains("the proxy \(network.proxy.bareURL)"), "\(output)")
        #expect(!output.contains("Bearer"), "\(output)")
        expectNoSecrets(result)
      }
      #expect(try network.proxy.hostsReached == [])
      try await expectNothingDone(network)
    }
  }

  @Test(arguments: [true, false])
  func anUntrustedAuthorityIsReported(isProxied: Bool) async throws {
    try await CompanyNetwork.with { network in
      try await network.fixture.addSamples(posts: 50, users: 10)
      let result = try await network.lethe(
        "run", environment: isProxied ? ["HTTPS_PROXY": network.proxy.url] : network.names)
      #expect(result.code == 1, "\(result.stderr)")
      #expect(result.stderr.contains(CertificateAuthority.name), "\(result.stderr)")
      #expect(result.stderr.contains("api.ca_file"), "\(result.stderr)")
      expectNoSecrets(result)
      try await expectNothingDone(network)
    }
  }

  @Test func aCertificateForAnotherHostIsRefused() async throws {
    try await CompanyNetwork.with(certifiedNames: ["other.company.test"]) { network in
      try await network.fixture.addSamples(posts: 50, users: 10)
      let result = try await network.lethe(
        "run",
        environment: [
          "HTTPS_PROXY": network.proxy.url, "SSL_CERT_FILE": network.authority.file.string,
        ])
      #expect(result.code == 1, "\(result.stderr)")
      #expect(result.stderr.contains(network.apiHost), "\(result.stderr)")
      try await expectNothingDone(network)
    }
  }

  private func expectNoSecrets(
    _ result: Program.Result, _ location: SourceLocation = #_sourceLocation
  ) {
    let output = result.stdout + result.stderr
    for secret in [ForwardProxy.password, ForwardProxy.user, PipelineFixture.token] {
      #expect(!output.contains(secret), "\(output)", sourceLocation: location)
    }
  }

  /// Expects that the API has no job and that the warehouse is unchanged.
  private func expectNothingDone(
    _ network: CompanyNetwork, _ location: SourceLocation = #_sourceLocation
  ) async throws {
    let done = try await network.fixture.value(
      """
      SELECT (SELECT count(*) FROM compliance.jobs)
           + (SELECT count(*) FROM (TABLE before.posts EXCEPT ALL TABLE warehouse.posts) AS changed)
      """, as: Int.self)
    #expect(done == 0, sourceLocation: location)
  }
}
