import Foundation
import SQLText
import Synchronization
import SystemPackage
import TestSupport
import Testing

/// Compares docs/reference/output.schema.json with the output of the commands.
@Suite struct OutputSchemaTests {
  /// The outputs of commands. Each output has the name of the definition in the schema that it must match.
  private final class Outputs: Sendable {
    private let cases = Mutex<[String]>([])

    func add(_ definition: String, _ command: [String], _ result: Program.Result) throws {
      let line = try #require(
        result.stdout.split(separator: "\n").last,
        "\(command) printed nothing: \(result.stderr)")
      let command = command.joined(separator: " ").replacing("\"", with: "'")
      cases.withLock {
        $0.append(
          #"{"definition": "\#(definition)", "command": "\#(command)", "value": \#(line)}"#)
      }
    }

    var lines: String { cases.withLock { $0.joined(separator: "\n") + "\n" } }
  }

  @Test func theOutputOfTheCommandsMatchesTheSchema() async throws {
    let outputs = Outputs()
    try await aRunAndItsEvidence(outputs)
    try await runsThatWaitForTheOperator(outputs)
    try await quarantinedLines(outputs)
    let mismatches = try await Self.mismatches(about: outputs)
    #expect(mismatches.isEmpty, "\(mismatches)")
  }

  /// Runs a command with `--output json` and keeps the last line of its output.
  private func lethe(
    _ fixture: PipelineFixture, _ definition: String, _ outputs: Outputs, code: Int32 = 0,
    _ arguments: String..., environment: [String: String] = [:]
  ) async throws {
    let result = try await Program.run(
      "lethe", arguments + ["--output", "json"],
      environment: fixture.environment.merging(environment) { $1 })
    #expect(result.code == code, "\(arguments): \(result.stderr)")
    try outputs.add(definition, arguments, result)
  }

  private func aRunAndItsEvidence(_ outputs: Outputs) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 1500)
      try await fixture.execute(
        """
        ALTER TABLE warehouse.users ALTER user_id TYPE text;
        INSERT INTO warehouse.users (user_id, username, created_at) VALUES ('007', 'seven', now());
        """)
      let file = try fixture.definitionFile()
      try await lethe(fixture, "migrate_up", outputs, "migrate", "up")
      try await lethe(fixture, "migrate_status", outputs, "migrate", "status")
      try await lethe(fixture, "migrate_down", outputs, "migrate", "down")
      try await lethe(fixture, "migrate_up", outputs, "migrate", "up")
      try await lethe(fixture, "check", outputs, "check", file, "--offline")
      try await lethe(fixture, "check", outputs, code: 2, "check", "no-such-file.yaml")
      try await lethe(fixture, "grants", outputs, "check", file, "--grants", "--role", "nightly")
      try await lethe(fixture, "plan", outputs, "plan", file)
      try await lethe(fixture, "plan_sql", outputs, "plan", file, "--sql")
      try await lethe(fixture, "run", outputs, "run", file)
      try await lethe(fixture, "run", outputs, "run", file, "--resume-only")
      try await lethe(fixture, "status", outputs, "status")
      try await lethe(fixture, "jobs", outputs, "jobs", "list", file)
      try await lethe(fixture, "failure", outputs, code: 1, "jobs", "show", file, "1")
      try await lethe(fixture, "failure", outputs, code: 2, "status", "--no-such-option")
      let token = ["X_BEARER_TOKEN": "wrong"]
      try await lethe(fixture, "failure", outputs, code: 77, "run", file, environment: token)

      try await lethe(fixture, "holds_list", outputs, "holds", "list")
      try await lethe(
        fixture, "holds_release", outputs, "holds", "release", file, "--type", "users", "12",
        "--dry-run")
      for id in ["1", "4", "12", "17000", "13000", "19000", "21000"] {
        try await lethe(fixture, "audit_show", outputs, "audit", "show", id)
      }
      let export = "\(fixture.directory)/events.csv"
      try await lethe(
        fixture, "audit_export", outputs, "audit", "export", "--from", "2026-01-01", "--to",
        "2999-01-01", "--file", export)
      try await lethe(fixture, "audit_verify", outputs, "audit", "verify")
      try await lethe(
        fixture, "audit_prune", outputs, "audit", "prune", "--older-than", "1month", "--dry-run")

      try await lethe(
        fixture, "guard_install", outputs, "guard", "install", "warehouse.posts", "--id", "post_id")
      try await lethe(fixture, "guard_list", outputs, "guard", "list", "--prove")
      try await fixture.execute("ALTER TABLE warehouse.posts DISABLE TRIGGER lethe_guard")
      try await lethe(fixture, "guard_list", outputs, code: 1, "guard", "list")
      try await lethe(fixture, "guard_remove", outputs, "guard", "remove", "warehouse.posts")
      try await lethe(fixture, "guard_repair", outputs, "guard", "repair", file, "--dry-run")

      try await fixture.execute("DELETE FROM lethe.event; UPDATE lethe.seal SET content = '{}'")
      try await lethe(fixture, "audit_verify", outputs, code: 1, "audit", "verify")
    }
  }

  private func runsThatWaitForTheOperator(_ outputs: Outputs) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 1500)
      let file = try fixture.definitionFile {
        $0.editing("max_redacted_percent: 60", to: "max_redacted_percent: 1")
      }
      for stage in ["export", "submit", "await", "collect"] {
        try await lethe(fixture, "stage", outputs, stage, file)
      }
      try await lethe(fixture, "plan", outputs, "plan", file)
      try await lethe(fixture, "stage", outputs, code: 3, "apply", file)
      try await lethe(fixture, "run", outputs, code: 3, "run", file)
      try await lethe(fixture, "status", outputs, "status")
      try await lethe(
        fixture, "stage", outputs, code: 3, "apply", file, "--approve", "1", "--note", "all right")
      let wider = try fixture.definitionFile()
      try await lethe(
        fixture, "run", outputs, code: 3, "run", wider, "--adopt-definition", "--resume-only")
      try await lethe(fixture, "audit_show", outputs, "audit", "show", "17000")
      try await fixture.execute(
        "ALTER TABLE warehouse.posts ADD CONSTRAINT shown CHECK (visibility <> 'protected') NOT VALID"
      )
      try await lethe(fixture, "run", outputs, code: 5, "run", wider, "--give-up")
      try await lethe(fixture, "status", outputs, "status")
      let refused = try await fixture.value(
        "SELECT min(id)::text FROM lethe.refusal WHERE resolved_at IS NULL", as: String.self)
      try await lethe(fixture, "audit_show", outputs, "audit", "show", refused)
      try await lethe(fixture, "stage", outputs, code: 5, "retry", wider, "--id", refused)
      try await fixture.execute("ALTER TABLE warehouse.posts RENAME place_id TO place")
      try await fixture.execute("UPDATE lethe.run SET status = 'running', finished_at = NULL")
      try await lethe(fixture, "check", outputs, code: 2, "check", wider, "--no-rehearsal")
      // The newest migration dropped a constraint. The one before it added columns with values, so it is rolled back only
      // with --yes. The two before that added functions, and tables that are empty now. The next one added a column
      // with values again.
      try await lethe(fixture, "migrate_down", outputs, "migrate", "down")
      try await lethe(fixture, "migrate_down", outputs, "migrate", "down", "--yes")
      try await lethe(fixture, "migrate_down", outputs, "migrate", "down")
      try await lethe(fixture, "migrate_down", outputs, "migrate", "down")
      try await lethe(fixture, "migrate_down", outputs, code: 2, "migrate", "down")
    }
  }

  private func quarantinedLines(_ outputs: Outputs) async throws {
    let lines = """
      {"id":"1","action":"delete","reason":"withheld"}
      {"id":"2","action":"delete","reason":"deleted","created_at":"2020-01-01T00:00:00Z"}
      not JSON

      """
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
        SELECT n, 1, 'text', now() FROM generate_series(1, 9) AS n
        """)
      let file = try fixture.definitionFile { CollectTests.postsOnly($0) }
      try await ScriptedAPI(ScriptedAPI.Script(result: { _ in lines })).serving { url in
        try await lethe(
          fixture, "run", outputs, code: 4, "run", file, environment: ["COMPLIANCE_API_URL": url])
      }
      try await lethe(fixture, "quarantine_list", outputs, "quarantine", "list", "--raw")
      try await lethe(fixture, "quarantine_retry", outputs, code: 4, "quarantine", "retry", file)
      try await lethe(fixture, "audit_show", outputs, "audit", "show", "1")
      try await lethe(
        fixture, "quarantine_dismiss", outputs, "quarantine", "dismiss", "--all", "--note", "seen")
      try await lethe(fixture, "quarantine_list", outputs, "quarantine", "list", "--all")
      try await lethe(
        fixture, "quarantine_prune", outputs, "quarantine", "prune", "--older-than", "1d")
    }
  }

  // MARK: The validator

  private static func mismatches(about outputs: Outputs) async throws -> String {
    let python = "\(repositoryRootPath)/.build-python/bin/python"
    try #require(
      FileManager.default.isExecutableFile(atPath: python), "\(python) is missing: run make setup")
    return try await withTemporaryDirectory { directory in
      let input = directory.appending("outputs.json").string
      try outputs.lines.write(toFile: input, atomically: true, encoding: .utf8)
      let validator = try await Program.external(
        [
          python, "\(repositoryRootPath)/Tests/tools/validate_output.py",
          "\(repositoryRootPath)/docs/reference/output.schema.json",
        ], stdin: FilePath(input))
      return validator.stdout + validator.stderr
    }
  }
}
