import Foundation
import TestSupport
import Testing

/// Every command reports all mistakes of a definition, and does nothing else.
@Suite struct BrokenDefinitionTests {
  private static let commands: [[String]] = [
    ["run"], ["export"], ["submit"], ["await"], ["collect"], ["apply"], ["plan"],
    ["jobs", "list"], ["guard", "repair", "--dry-run"], ["retry", "--id", "1"],
  ]

  /// Writes a definition with mistakes on lines 1, 2 and 4. Line 2 has the URL of the database. It names an environment
  /// variable that is not set, so no command can connect to the database.
  private static func broken(_ fixture: PipelineFixture) throws -> String {
    try fixture.definitionFile {
      $0.editing("name: night\n", to: "name: Night\n")
        .editing("${DATABASE_URL}", to: "${NOWHERE_SET}")
        .editing("base_url:", to: "base_ulr:")
    }
  }

  private static func place(_ fixture: PipelineFixture, _ line: Int) -> String {
    "\(fixture.directory)/night.yaml:\(line): "
  }

  @Test(arguments: commands)
  func eachCommandReportsAllMistakes(command: [String]) async throws {
    try await PipelineFixture.with { fixture in
      let file = try Self.broken(fixture)
      let arguments =
        command.prefix { !$0.hasPrefix("--") } + [file] + command.drop { !$0.hasPrefix("--") }
      let result = try await Program.run(
        "lethe", Array(arguments) + ["--output", "json"], environment: fixture.environment)
      #expect(result.code == 2, "\(result.stderr)")
      for line in [1, 2, 4] {
        #expect(result.stderr.contains(Self.place(fixture, line)), "\(result.stderr)")
      }
      let error = try #require(result.json["error"] as? [String: String])
      #expect(error["code"] == "usage")
      #expect(error["message"]?.hasPrefix(Self.place(fixture, 1)) == true, "\(error)")
      #expect(error["message"]?.contains("the first of 3 mistakes") == true, "\(error)")
      #expect(error["remedy"]?.contains("a-z") == true, "\(error)")
    }
  }

  @Test func checkReportsMistakesAsFindings() async throws {
    try await PipelineFixture.with { fixture in
      let file = try Self.broken(fixture)
      let result = try await Program.run(
        "lethe", ["check", file, "--output", "json"], environment: fixture.environment)
      #expect(result.code == 2)
      let findings = try #require(result.json["findings"] as? [[String: Any]])
      #expect(findings.map { $0["line"] as? Int } == [1, 2, 4])
      #expect(findings.allSatisfy { $0["severity"] as? String == "error" })
      #expect(findings.allSatisfy { $0["file"] as? String == file })
      #expect(
        findings.map { $0["message"] as? String } == [
          "the pipeline's name is not valid: Night",
          "the environment variable NOWHERE_SET is not set", "unknown key api.base_ulr",
        ])
      #expect(findings.allSatisfy { ($0["remedy"] as? String)?.isEmpty == false })
      #expect((result.json["error"] as? [String: String])?["code"] == "usage")

      let table = try await Program.run("lethe", ["check", file], environment: fixture.environment)
      #expect(table.code == 2)
      let lines = table.stdout.split(separator: "\n")
      #expect(lines.count { $0.contains(": error: ") } == 3, "\(table.stdout)")
    }
  }

  @Test func checkAlsoChecksTheDatabaseIfTheDefinitionIsValid() async throws {
    try await PipelineFixture.with { fixture in
      let file = try fixture.definitionFile {
        $0.editing("table: warehouse.users", to: "table: warehouse.user")
      }
      let result = try await Program.run(
        "lethe", ["check", file, "--output", "json"], environment: fixture.environment)
      #expect(result.code == 2)
      let findings = try #require(result.json["findings"] as? [[String: Any]])
      #expect(findings.contains { ($0["message"] as? String)?.contains("warehouse.user") == true })
      #expect(findings.allSatisfy { $0["path"] is String })
    }
  }
}
