import Foundation
import HTTPTypes
import Hummingbird
import NIOCore
import PostgreSQL
import TestSupport
import Testing

/// The findings of `lethe check` about the API and the work directory.
@Suite struct EnvironmentCheckTests {
  private static let token = "secret-that-nobody-may-see"

  private static func check(
    _ fixture: PipelineFixture, _ api: String, _ arguments: [String] = [],
    workDirectory: String? = nil
  ) async throws -> Program.Ending {
    let file = try fixture.definitionFile()
    let ending = try await Program.run(
      "lethe", ["check", file] + arguments,
      environment: fixture.environment.merging([
        "COMPLIANCE_API_URL": api, "X_BEARER_TOKEN": token,
        "LETHE_WORK_DIR": workDirectory ?? fixture.workDirectory,
      ]) { $1 })
    #expect(!(ending.stdout + ending.stderr).contains(token))
    return ending
  }

  struct Answer: Sendable, CustomTestStringConvertible {
    let status: Int
    let code: Int32
    let says: String
    var testDescription: String { "HTTP \(status)" }
  }

  @Test(arguments: [
    Answer(status: 200, code: 0, says: "fits the database"),
    Answer(status: 401, code: 77, says: "refuses the token"),
    Answer(status: 403, code: 77, says: "refuses the token"),
    Answer(status: 400, code: 2, says: "does not list its jobs"),
    Answer(status: 404, code: 2, says: "does not list its jobs"),
    Answer(status: 429, code: 75, says: "could not be tried"),
    Answer(status: 500, code: 75, says: "could not be tried"),
    Answer(status: 503, code: 75, says: "could not be tried"),
  ])
  func checkUsesTheJobListToTestTheToken(answer: Answer) async throws {
    try await PipelineFixture.with { fixture in
      let router = Router()
      router.get("/2/compliance/jobs") { _, _ in
        Response(
          status: .init(code: answer.status),
          body: .init(byteBuffer: ByteBuffer(string: #"{"meta":{"result_count":0}}"#)))
      }
      try await servingLoopback(router) { url in
        let ending = try await Self.check(fixture, url)
        #expect(ending.code == answer.code, "\(ending.stdout)\(ending.stderr)")
        #expect(ending.stdout.contains(answer.says), "\(ending.stdout)")
        #expect(try await Self.check(fixture, url, ["--offline"]).code == 0)
      }
    }
  }

  /// Only the token's source must be configured.
  @Test func withoutTheAPINoTokenIsRead() async throws {
    try await PipelineFixture.with { fixture in
      let byFile = try fixture.definitionFile {
        $0.replacing("bearer_token: ${X_BEARER_TOKEN}", with: "bearer_token_file: not-there")
      }
      for arguments in [["--offline"], ["--grants"]] {
        for file in [byFile, try fixture.definitionFile()] {
          let ending = try await Program.run(
            "lethe", ["check", file] + arguments,
            environment: fixture.environment.merging([
              "COMPLIANCE_API_URL": "http://127.0.0.1:1", "X_BEARER_TOKEN": "",
              "LETHE_WORK_DIR": fixture.workDirectory,
            ]) { $1 })
          #expect(ending.code == 0, "\(arguments) \(ending.stdout)\(ending.stderr)")
        }
      }
    }
  }

  @Test func withoutTheAPIEverythingElseIsChecked() async throws {
    try await PipelineFixture.with { fixture in
      let nobody = "http://127.0.0.1:1"
      let ending = try await Self.check(fixture, nobody, ["--output", "json"])
      #expect(ending.code == 75, "\(ending.stdout)\(ending.stderr)")
      let findings = try #require(ending.json["findings"] as? [[String: Any]])
      #expect(findings.count { $0["severity"] as? String != "note" } == 1, "\(findings)")
      #expect(try await Self.check(fixture, nobody, ["--offline"]).code == 0)
      try await fixture.execute("DROP TABLE warehouse.reposts")
      let wrong = try await Self.check(fixture, nobody)
      #expect(wrong.code == 2)
      #expect(wrong.stdout.contains("there is no table warehouse.reposts"), "\(wrong.stdout)")
      #expect(wrong.stdout.contains("could not be tried"), "\(wrong.stdout)")
    }
  }

  /// The API rejects the token. The check reports this together with all other findings.
  @Test func aWrongTokenAsTheOnlyErrorHasTheExitCodeOfCredentials() async throws {
    try await PipelineFixture.with { fixture in
      #expect(try await Self.check(fixture, fixture.service).code == 77)
      try await fixture.execute("DROP TABLE warehouse.reposts")
      #expect(try await Self.check(fixture, fixture.service).code == 2)
    }
  }

  @Test(arguments: ["file", "file/below", "/proc/none/here", "/dev/null/x"])
  func aWorkDirectoryThatCannotBeWrittenIsReported(path: String) async throws {
    try await PipelineFixture.with { fixture in
      _ = try fixture.definitionFile()
      #expect(FileManager.default.createFile(atPath: fixture.directory + "/file", contents: nil))
      let place = path.hasPrefix("/") ? path : "\(fixture.directory)/\(path)"
      let ending = try await Self.check(
        fixture, fixture.service, ["--offline"], workDirectory: place)
      #expect(ending.code == 2, "\(ending.stdout)\(ending.stderr)")
      #expect(ending.stdout.contains("cannot be written into the work directory \(place)"))
      #expect(ending.stdout.contains("--work-dir"), "\(ending.stdout)")
    }
  }

  @Test func checkLeavesNoFileInTheWorkDirectory() async throws {
    try await PipelineFixture.with { fixture in
      let place = fixture.directory + "/a/b/c"
      #expect(
        try await Self.check(fixture, fixture.service, ["--offline"], workDirectory: place).code
          == 0)
      #expect(!FileManager.default.fileExists(atPath: fixture.directory + "/a"))
      try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
      #expect(
        try await Self.check(fixture, fixture.service, ["--offline"], workDirectory: place).code
          == 0)
      #expect(try FileManager.default.contentsOfDirectory(atPath: place) == [])
    }
  }
}
