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
  ) async throws -> Program.Result {
    let file = try fixture.definitionFile()
    let result = try await Program.run(
      "lethe", ["check", file] + arguments,
      environment: fixture.environment.merging([
        "COMPLIANCE_API_URL": api, "X_BEARER_TOKEN": token,
        "LETHE_WORK_DIR": workDirectory ?? fixture.workDirectory,
      ]) { $1 })
    #expect(!(result.stdout + result.stderr).contains(token))
    return result
  }

  struct APIResponse: Sendable, CustomTestStringConvertible {
    let status: Int
    let code: Int32
    let finding: String
    var testDescription: String { "HTTP \(status)" }
  }

  @Test(arguments: [
    APIResponse(status: 200, code: 0, finding: "fits the database"),
    APIResponse(status: 401, code: 77, finding: "refuses the token"),
    APIResponse(status: 403, code: 77, finding: "refuses the token"),
    APIResponse(status: 400, code: 2, finding: "does not list its jobs"),
    APIResponse(status: 404, code: 2, finding: "does not list its jobs"),
    APIResponse(status: 429, code: 75, finding: "could not be tried"),
    APIResponse(status: 500, code: 75, finding: "could not be tried"),
    APIResponse(status: 503, code: 75, finding: "could not be tried"),
  ])
  func checkUsesTheJobListToTestTheToken(response: APIResponse) async throws {
    try await PipelineFixture.with { fixture in
      let router = Router()
      router.get("/2/compliance/jobs") { _, _ in
        Response(
          status: .init(code: response.status),
          body: .init(byteBuffer: ByteBuffer(string: #"{"meta":{"result_count":0}}"#)))
      }
      try await servingLoopback(router) { url in
        let result = try await Self.check(fixture, url)
        #expect(result.code == response.code, "\(result.stdout)\(result.stderr)")
        #expect(result.stdout.contains(response.finding), "\(result.stdout)")
        #expect(try await Self.check(fixture, url, ["--offline"]).code == 0)
      }
    }
  }

  /// The check does not read the token if it does not call the API. The definition only has to name the token's source.
  @Test func withoutTheAPINoTokenIsRead() async throws {
    try await PipelineFixture.with { fixture in
      let byFile = try fixture.definitionFile {
        $0.editing("bearer_token: ${X_BEARER_TOKEN}", to: "bearer_token_file: not-there")
      }
      for arguments in [["--offline"], ["--grants"]] {
        for file in [byFile, try fixture.definitionFile()] {
          let result = try await Program.run(
            "lethe", ["check", file] + arguments,
            environment: fixture.environment.merging([
              "COMPLIANCE_API_URL": "http://127.0.0.1:1", "X_BEARER_TOKEN": "",
              "LETHE_WORK_DIR": fixture.workDirectory,
            ]) { $1 })
          #expect(result.code == 0, "\(arguments) \(result.stdout)\(result.stderr)")
        }
      }
    }
  }

  @Test func everythingElseIsCheckedIfTheAPICannotBeReached() async throws {
    try await PipelineFixture.with { fixture in
      let unreachable = "http://127.0.0.1:1"
      let result = try await Self.check(fixture, unreachable, ["--output", "json"])
      #expect(result.code == 75, "\(result.stdout)\(result.stderr)")
      let findings = try #require(result.json["findings"] as? [[String: Any]])
      #expect(findings.count { $0["severity"] as? String != "note" } == 1, "\(findings)")
      #expect(try await Self.check(fixture, unreachable, ["--offline"]).code == 0)
      try await fixture.execute("DROP TABLE warehouse.reposts")
      let wrong = try await Self.check(fixture, unreachable)
      #expect(wrong.code == 2)
      #expect(wrong.stdout.contains("there is no table warehouse.reposts"), "\(wrong.stdout)")
      #expect(wrong.stdout.contains("could not be tried"), "\(wrong.stdout)")
    }
  }

  /// The local service rejects the token. The exit code is 77 only if the check finds no other error.
  @Test func theExitCodeIs77OnlyIfTheTokenIsTheOnlyError() async throws {
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
      let directory = path.hasPrefix("/") ? path : "\(fixture.directory)/\(path)"
      let result = try await Self.check(
        fixture, fixture.service, ["--offline"], workDirectory: directory)
      #expect(result.code == 2, "\(result.stdout)\(result.stderr)")
      #expect(result.stdout.contains("cannot be written into the work directory \(directory)"))
      #expect(result.stdout.contains("--work-dir"), "\(result.stdout)")
    }
  }

  @Test func checkLeavesNoFileInTheWorkDirectory() async throws {
    try await PipelineFixture.with { fixture in
      let directory = fixture.directory + "/a/b/c"
      #expect(
        try await Self.check(fixture, fixture.service, ["--offline"], workDirectory: directory).code
          == 0)
      #expect(!FileManager.default.fileExists(atPath: fixture.directory + "/a"))
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
      #expect(
        try await Self.check(fixture, fixture.service, ["--offline"], workDirectory: directory).code
          == 0)
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == [])
    }
  }
}
