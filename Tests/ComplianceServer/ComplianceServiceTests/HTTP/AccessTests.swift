import ComplianceService
import Foundation
import NIOHTTP1
import PostgreSQL
import TestSupport
import Testing

@Suite(.endedIfItHangs) struct AccessTests {
  @Test(arguments: [nil, "", "third-app", "first-apq", "first-app2", "FIRST-APP"])
  func missingAndUnknownTokensAreRefused(_ token: String?) async throws {
    try await LocalService.run { service in
      let job = try await service.create()
      let id = job.id
      let requests: [(HTTPMethod, String)] = [
        (.GET, "/2/compliance/jobs?type=tweets"), (.POST, "/2/compliance/jobs"),
        (.GET, "/2/compliance/jobs/\(id)"), (.DELETE, "/2/compliance/jobs/\(id)"),
        (.PUT, job.upload_url), (.GET, job.download_url),
      ]
      for (method, url) in requests {
        let response = try await service.send(method, url, token: token)
        let problem = try response.problem()
        #expect(problem.status == 401, "\(method) \(url)")
        #expect(response.headers.first(name: "www-authenticate") == "Bearer")
        if let token, !token.isEmpty { #expect(!response.text.contains(token)) }
      }
      #expect(try await service.job(id).status == "created")
    }
  }

  @Test func appsDoNotSeeEachOthersJobs() async throws {
    try await LocalService.run { service in
      let job = try await service.finish(service.create(), uploading: "1\n")
      let token = LocalService.otherToken
      let requests: [(HTTPMethod, String)] = [
        (.GET, "/2/compliance/jobs/\(job.id)"), (.DELETE, "/2/compliance/jobs/\(job.id)"),
        (.PUT, job.upload_url), (.GET, job.download_url),
      ]
      for (method, url) in requests {
        let problem = try await service.send(method, url, token: token).problem()
        #expect(problem.status == 404, "\(method) \(url)")
        #expect(problem.kind == "resource-not-found")
        #expect(problem.resource_id == job.id)
      }
      let list = try await service.get("/2/compliance/jobs?type=tweets", token: token)
      #expect(list.text == #"{"meta":{"result_count":0}}"#)
    }
  }

  @Test func aURLTokenIsValidForOneOperationOfOneJob() async throws {
    try await LocalService.run { service in
      let tweets = try await service.create("tweets")
      let users = try await service.create("users")
      func token(_ url: String) -> Substring { url.split(separator: "=")[1] }
      func path(_ url: String) -> Substring { url.split(separator: "?")[0] }

      let wrong = [
        token(tweets.download_url), token(users.upload_url), "", "0",
        token(tweets.upload_url).dropLast(), token(tweets.upload_url) + "0",
      ]
      for token in wrong {
        let url = "\(path(tweets.upload_url))?token=\(token)"
        let problem = try await service.put("1\n", to: url).problem()
        #expect(problem.status == 403, "\(url)")
        #expect(problem.kind == "not-authorized-for-resource")
      }
      let missing = try await service.put("1\n", to: String(path(tweets.upload_url))).problem()
      #expect(missing.status == 400)
      #expect(missing.parameter == "token")
      #expect(try await service.job(tweets.id).status == "created")

      let done = try await service.finish(tweets, uploading: "1\n")
      let url = "\(path(done.download_url))?token=\(token(done.upload_url))"
      #expect(try await service.get(url).problem().status == 403)
      #expect(try await service.get(done.download_url).status == 200)
    }
  }

  @Test func aURLTokenIsInvalidAfterTheExpiryTimeChanges() async throws {
    try await LocalService.run { service in
      let job = try await service.create()
      try await service.execute(
        "UPDATE compliance.jobs SET upload_expires_at = upload_expires_at + interval '1 hour'")
      #expect(try await service.put("1\n", to: job.upload_url).problem().status == 403)
      let url = try await service.job(job.id).upload_url
      #expect(url != job.upload_url)
      #expect(try await service.put("1\n", to: url).status == 200)
    }
  }

  @Test func aDownloadURLExpires() async throws {
    try await LocalService.run {
      $0.downloadLifetime = .zero
    } _: { service in
      let job = try await service.finish(service.create(), uploading: "1\n")
      #expect(try await service.get(job.download_url).problem().status == 403)
    }
  }

  @Test(arguments: [
    ("/2/compliance/jobs/abc", 400), ("/2/compliance/jobs/-1", 400),
    ("/2/compliance/jobs/12345678901234567890", 400),
    ("/2/compliance/jobs/9999999999999999999", 404), ("/2/compliance/jobs/1", 404),
    ("/2/compliance/jobs/1/upload", 405), ("/2/compliance/jobs/1/nothing", 404),
    ("/2/compliance/job", 404), ("/nothing", 404), ("/2/compliance/jobs?type=%ff", 400),
  ])
  func anInvalidPathGetsAProblemResponse(_ path: String, _ status: Int) async throws {
    try await LocalService.run { service in
      let problem = try await service.get(path).problem()
      #expect(problem.status == status)
    }
  }

  @Test func theResponseToAWrongMethodNamesTheAllowedMethods() async throws {
    try await LocalService.run { service in
      let response = try await service.send(.PATCH, "/2/compliance/jobs/1")
      #expect(try response.problem().status == 405)
      #expect(response.headers.first(name: "allow") == "GET, DELETE")
    }
  }

  @Test func aRefusedHEADRequestGetsNoBody() async throws {
    try await LocalService.run { service in
      let response = try await service.send(.HEAD, "/2/compliance/jobs?type=tweets")
      #expect(response.status == 405)
      #expect(response.body.isEmpty)
      #expect(try await service.get("/2/compliance/jobs?type=tweets").status == 200)
    }
  }

  /// By default, only this machine can reach the server.
  @Test(arguments: WireProfile.allCases)
  func theServerListensOnlyOnLoopbackAddressesByDefault(profile: WireProfile) async throws {
    try await LocalService.run({ $0.profile = profile }) { service in
      let job = try await service.create()
      for url in [service.baseURL, job.upload_url] {
        let port = try #require(URLComponents(string: url)?.port)
        let addresses = try Self.listeningAddresses(port)
        #expect(!addresses.isEmpty)
        // The kernel writes the bytes of an IPv4 address in reverse order, so 127 comes last.
        #expect(addresses.allSatisfy { $0.count == 8 && $0.hasSuffix("7F") }, "\(addresses)")
      }
    }
    // Any space of the help can be a line break.
    let help = try await Program.run("compliance-server", ["serve", "--help"]).stdout
      .split(whereSeparator: \.isWhitespace).joined(separator: " ")
    #expect(
      help.contains("(default: 127.0.0.1:8080)") && help.contains("(default: 127.0.0.2:8081)"))
  }

  /// Returns the addresses on which a process listens on the port, in the kernel's hexadecimal format. An IPv6 address
  /// has more digits than an IPv4 address.
  private static func listeningAddresses(_ port: Int) throws -> [Substring] {
    try ["/proc/net/tcp", "/proc/net/tcp6"].flatMap { file in
      try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n").dropFirst()
        .compactMap { line in
          let columns = line.split(separator: " ")
          let local = columns[1].split(separator: ":")
          return columns[3] == "0A" && Int(local[1], radix: 16) == port ? local[0] : nil
        }
    }
  }

  @Test func urlsStartWithThePublicURL() async throws {
    try await LocalService.run {
      $0.publicURL = "https://compliance.example"
    } _: { service in
      let job = try await service.create()
      #expect(job.upload_url.hasPrefix("https://compliance.example/2/compliance/jobs/\(job.id)/"))
    }
  }

  @Test func noTokenIsStoredInTheDatabase() async throws {
    try await LocalService.run { service in
      _ = try await service.create()
      let apps = try await service.database.withConnection {
        try await $0.query("SELECT app_id FROM compliance.jobs").rows(as: String.self)
      }
      #expect(apps.count == 1)
      #expect(apps.allSatisfy { $0.wholeMatch(of: /[0-9a-f]{64}/) != nil })
    }
  }
}
