import ComplianceAPI
import ComplianceService
import FaultPlans
import Foundation
import PostgreSQL
import Synchronization
import SystemPackage
import TestSupport
import Testing
import Vocabulary

/// Uploads in parts to the service's storage host.
@Suite(.endedIfItHangs) struct PartUploadTests {
  private static let unit = 256 * 1024

  /// The lines of the service's access log.
  private final class Log: Sendable {
    private let lines = Mutex<[String]>([])

    func add(_ line: String) { lines.withLock { $0.append(line) } }

    /// The statuses of the upload requests with a method, in the order of the requests.
    func statuses(of method: String) -> [Int] {
      lines.withLock { $0 }.compactMap { line in
        guard
          let entry = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any],
          entry["method"] as? String == method,
          (entry["path"] as? String)?.hasPrefix("/compliance/submission/") == true
        else { return nil }
        return entry["status"] as? Int
      }
    }
  }

  private struct Fixture {
    let base: PipelineFixture
    let client: ComplianceClient
    let log: Log

    /// Uploads a file to a job with a client of its own, as another process does.
    func uploadAlone(_ file: String, to job: APIJob, tries: Int) async throws {
      var network = NetworkSettings()
      network.partBytes = unit
      let bytes = try #require(FileManager.default.contents(atPath: file)).count
      try await ComplianceClient.withClient(
        baseURL: base.service, token: BearerToken(PipelineFixture.token),
        allowedHosts: ["127.0.0.2"], network: network,
        retry: .init(attemptsMax: tries, delaySecondsFirst: 0.01, delaySecondsMax: 0.05),
        logger: PipelineFixture.logger
      ) {
        try await $0.upload(
          file: FilePath(file), bytes: bytes, to: try #require(job.uploadURL), job: job.id)
      }
    }

    /// Uploads the given number of bytes to a new job.
    func upload(_ bytes: Int, _ name: String = "parts") async throws -> APIJob {
      let text = String(repeating: "1234567\n", count: bytes / 8)
      let file = base.directory + "/\(name).ids"
      try text.write(toFile: file, atomically: true, encoding: .utf8)
      let job = try await client.createJob(type: .tweets, name: name)
      try await client.upload(
        file: FilePath(file), bytes: text.utf8.count, to: try #require(job.uploadURL), job: job.id)
      #expect(try await client.job(id: job.id).status != .created)
      return job
    }
  }

  private static func run(
    _ faults: [String] = [], profile: UploadProfile = .gcs, service: WireProfile = .gcs,
    _ body: @escaping @Sendable (Fixture) async throws -> Void
  ) async throws {
    let log = Log()
    let plan = try FaultPlan(
      yaml: "faults:\n"
        + (faults.isEmpty ? ["{at: list, latency: 1ms}"] : faults).map { "  - \($0)\n" }.joined(),
      file: "plan.yaml")
    try await PipelineFixture.with({
      $0.profile = service
      $0.faults = plan
      $0.accessLog = { log.add($0) }
    }) { base in
      try FileManager.default.createDirectory(
        atPath: base.directory, withIntermediateDirectories: true)
      var network = NetworkSettings()
      network.partBytes = unit
      try await ComplianceClient.withClient(
        baseURL: base.service, token: BearerToken(PipelineFixture.token),
        allowedHosts: ["127.0.0.2"],
        profile: profile, network: network,
        retry: .init(attemptsMax: 8, delaySecondsFirst: 0.01, delaySecondsMax: 0.05),
        logger: PipelineFixture.logger
      ) { try await body(Fixture(base: base, client: $0, log: log)) }
    }
  }

  @Test(arguments: [8, unit, unit + 8, 4 * unit])
  func aFileIsUploadedInParts(bytes: Int) async throws {
    try await Self.run { fixture in
      _ = try await fixture.upload(bytes)
      let parts = (bytes + Self.unit - 1) / Self.unit
      #expect(
        fixture.log.statuses(of: "PUT") == Array(repeating: 308, count: parts - 1) + [200])
    }
  }

  @Test(arguments: [
    ["{at: session, call: 1, answer: {status: 503, body: empty}}"],
    ["{at: session, call: 1, cut: before}", "{at: session, call: 2, lose_response: true}"],
    ["{at: upload, call: 1, cut: before}"], ["{at: upload, call: 2, cut: before}"],
    ["{at: upload, call: 2, lose_response: true}"], ["{at: upload, call: 4, lose_response: true}"],
    ["{at: upload, call: [1, 2, 3, 5], cut: during}"],
    ["{at: upload, every: 3, answer: {status: 500, body: html}}"],
  ])
  func anInterruptedUploadIsCompletedWithoutASecondJob(faults: [String]) async throws {
    try await Self.run(faults) { fixture in
      _ = try await fixture.upload(4 * Self.unit)
      #expect(
        try await fixture.base.value("SELECT count(*) FROM compliance.jobs", as: Int.self) == 1)
    }
  }

  @Test func aStoredPartIsNotSentAgain() async throws {
    try await Self.run(["{at: upload, call: 3, lose_response: true}"]) { fixture in
      _ = try await fixture.upload(4 * Self.unit)
      // The third part is stored and its response is lost. Then the host asks for the fourth part.
      #expect(fixture.log.statuses(of: "PUT") == [308, 308, 0, 308, 200])
    }
  }

  /// The session's URL is a credential, so it is not stored. Another process sends the file from its start.
  @Test func anotherProcessStartsItsOwnSession() async throws {
    try await Self.run(["{at: upload, call: 3, cut: before}"]) { fixture in
      let file = fixture.base.directory + "/chunk.ids"
      try String(repeating: "1234567\n", count: 4 * Self.unit / 8)
        .write(toFile: file, atomically: true, encoding: .utf8)
      let job = try await fixture.client.createJob(type: .tweets, name: "lethe")
      let error = await #expect(throws: APIError.self) {
        try await fixture.uploadAlone(file, to: job, tries: 1)
      }
      #expect(error?.kind == .temporary)
      let files = try FileManager.default.contentsOfDirectory(atPath: fixture.base.directory)
      #expect(!files.contains { $0.hasPrefix("chunk.ids.") }, "\(files)")
      try await fixture.uploadAlone(file, to: job, tries: 4)
      #expect(try await fixture.client.job(id: job.id).status != .created)
      #expect(fixture.log.statuses(of: "POST") == [201, 201])
    }
  }

  /// The API changes the profile between two jobs. Each job's bytes go where its own URL says.
  @Test func eachJobIsUploadedAsItsOwnURLSays() async throws {
    // After the second job with a storage host, the client asks for parts. The API refuses this for the fourth job, so
    // the fifth creation is a repetition.
    let faults = ["{profile: gcs, call: [2, 3, 6]}"]
    try await Self.run(faults, profile: .auto, service: .native) { fixture in
      for name in ["n1", "g1", "g2", "n2", "g3", "n3"] {
        let job = try await fixture.upload(2 * Self.unit, name)
        let isNative = try #require(job.uploadURL).exposed.hasPrefix(fixture.base.service)
        #expect(isNative == name.hasPrefix("n"), "\(name)")
        // The next job of the type can be created when this one is complete.
        while try await fixture.base.value(
          "SELECT count(*) FROM compliance.jobs WHERE status <> 'complete'", as: Int.self) > 0
        { try await pollingPause() }
      }
    }
  }

  @Test func aLostUploadSessionIsStartedAgain() async throws {
    try await Self.run { fixture in
      try await fixture.base.database.withConnection {
        try await $0.runScript(
          """
          CREATE TABLE public.lost ();
          CREATE FUNCTION public.lose() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN
            IF NEW.stored_bytes > \(literal: Self.unit) AND NOT EXISTS (SELECT FROM public.lost) THEN
              INSERT INTO public.lost DEFAULT VALUES;
              DELETE FROM compliance.upload_sessions WHERE id_sha256 = NEW.id_sha256;
            END IF;
            RETURN NULL;
          END $$;
          CREATE TRIGGER lose AFTER UPDATE ON compliance.upload_sessions
          FOR EACH ROW EXECUTE FUNCTION public.lose()
          """)
      }
      _ = try await fixture.upload(4 * Self.unit)
      #expect(fixture.log.statuses(of: "POST") == [201, 201])
      #expect(fixture.log.statuses(of: "PUT") == [308, 308, 404, 308, 308, 308, 200])
    }
  }

  @Test func theAutomaticProfileChangesToResumableUploads() async throws {
    try await Self.run(profile: .auto) { fixture in
      func isResumable(_ job: APIJob) -> Bool {
        job.uploadURL?.exposed.contains("x-goog-resumable") == true
      }
      #expect(!isResumable(try await fixture.upload(8, "first")))
      try await fixture.base.gate.reached { if case .processed = $0 { true } else { false } }
      #expect(isResumable(try await fixture.upload(2 * Self.unit, "second")))
    }
  }

  @Test(arguments: [UploadProfile.auto, .native, .gcs])
  func theAPIsOwnHostAcceptsNoParts(profile: UploadProfile) async throws {
    try await Self.run(profile: profile, service: .native) { fixture in
      guard profile == .gcs else {
        let url = try #require(try await fixture.upload(8).uploadURL)
        #expect(url.exposed.hasPrefix(fixture.base.service))
        return
      }
      let error = await #expect(throws: APIError.self) { try await fixture.upload(8) }
      #expect(error?.kind == .invalidRequest)
    }
  }
}
