import Foundation
import PostgreSQL
import TestSupport
import Testing

/// Each failure is one log line that names what failed and what to do. `lethe status` shows the failure again, with the
/// command that continues.
@Suite struct FailureLogTests {
  struct Failure: Sendable, CustomTestStringConvertible {
    let testDescription: String
    var configure: @Sendable (inout ScriptedAPI.Script) -> Void = { _ in }
    var sql: SQL?
    var edit: @Sendable (String) -> String = { $0 }
    /// The metadata of the log line.
    let fields: Set<String>
    /// A part of the line.
    let words: String
    /// The commands that continue after the cause is removed.
    var commands: [String] = []
    var undo: SQL?
    var code: Int32 = 5
    /// The exit code of the first of the commands.
    var nextCode: Int32 = 0
  }

  private static let ofJob: Set<String> = ["stage", "run", "dataset", "chunk", "job"]
  private static let ofChunk: Set<String> = ["stage", "run", "dataset", "chunk"]
  private static let run = ["lethe run FILE"]

  static let failures = [
    Failure(
      testDescription: "a job fails",
      configure: {
        $0.status = "failed"
        $0.error = "out of luck"
      }, fields: ofJob, words: "out of luck", commands: run, nextCode: 5),
    Failure(
      testDescription: "the API refuses requests for a job",
      configure: { $0.problem = { $0.contains("-c1-") ? 400 : nil } }, fields: ofJob,
      words: "HTTP 400", commands: run),
    Failure(
      testDescription: "the API refuses a creation",
      configure: {
        $0.intercept = { $0.kind == .create && $0.number == 1 ? .init(status: 418) : nil }
      }, fields: ofChunk, words: "HTTP 418", commands: run),
    Failure(
      testDescription: "the host refuses an upload",
      configure: {
        $0.intercept = { $0.kind == .upload && $0.number == 1 ? .init(status: 400) : nil }
      }, fields: ofJob, words: "HTTP 400", commands: run),
    Failure(
      testDescription: "a result is a web page",
      configure: { $0.result = { _ in "<html>login</html>\n" } }, fields: ofJob,
      words: "not a result of the chunk", commands: run, nextCode: 5),
    Failure(
      testDescription: "the result is gone",
      configure: { $0.downloadProblem = { $0.contains("-c1-") ? 404 : nil } }, fields: ofJob,
      words: "HTTP 404", commands: run),
    Failure(
      testDescription: "the warehouse refuses an event",
      sql: """
        CREATE FUNCTION warehouse.keep() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN RAISE EXCEPTION ''this row stays''; END';
        CREATE TRIGGER keep BEFORE DELETE ON warehouse.posts FOR EACH ROW WHEN (OLD.post_id = 4)
          EXECUTE FUNCTION warehouse.keep()
        """, fields: ofChunk, words: "refused and set aside",
      commands: ["lethe retry FILE --id 4"],
      undo: "DROP TRIGGER keep ON warehouse.posts"),
    Failure(
      testDescription: "a limit stops a chunk",
      edit: { $0.editing("max_redacted_percent: 100", to: "max_redacted_percent: 24.5") },
      fields: ofChunk, words: "is stopped", commands: ["lethe apply FILE --approve 1"], code: 3),
    Failure(
      testDescription: "a dataset cannot be exported",
      edit: {
        $0.editing("chunk: {ids: 100}", to: "where: 1 / (post_id - 50) < 2\n    chunk: {ids: 100}")
      }, fields: ["stage", "run", "dataset"], words: "is not exported", commands: run,
      undo: "DELETE FROM warehouse.posts WHERE post_id = 50"),
  ]

  @Test(arguments: failures)
  func aFailureIsOneLineAndTheStatusShowsHowToContinue(failure: Failure) async throws {
    try await RefusalFixture.with(configure: failure.configure) { fixture in
      let file = try fixture.base.definitionFile {
        failure.edit(
          RefusalFixture.definition("batch: 20", ids: 100)($0)
            .editing("  poll_seconds: 0.02", to: "  job_attempts: 1\n  poll_seconds: 0.02"))
      }
      if let sql = failure.sql { try await fixture.base.execute(sql) }
      let result = try await fixture.lethe("run", file, "--log-format", "json")
      #expect(result.code == failure.code, "\(result.stderr)")
      let lines = result.stderr.split(separator: "\n").compactMap {
        try? JSONDecoder().decode([String: String].self, from: Data($0.utf8))
      }.filter { ["warning", "error"].contains($0["level"] ?? "") }
      // Chunks that fail in the same way have a line each.
      let lead = lines.filter { $0["message"]?.contains(failure.words) == true }
      #expect(!lead.isEmpty, "\(result.stderr)")
      let subjects = lead.map { "\($0["dataset"] ?? "") \($0["chunk"] ?? "")" }
      #expect(Set(subjects).count == subjects.count, "two lines about one failure: \(lead)")
      for line in lead {
        #expect(failure.fields.isSubset(of: line.keys), "\(line)")
        #expect(!(line["message"] ?? "").isEmpty)
      }

      let text = try await fixture.lethe("status").stdout
      let json = try await fixture.lethe("status", "--output", "json").stdout
      #expect(text.contains("remedy: "), "\(text)")
      if let undo = failure.undo { try await fixture.base.execute(undo) }
      for command in failure.commands {
        let literal = command.replacing("FILE", with: file)
        #expect(text.contains(literal) || json.contains(literal), "\(literal): \(text)")
      }
      let words = failure.commands[0].replacing("FILE", with: file).split(separator: " ")
        .map(String.init)
      let next = try await Program.run(
        words[0], Array(words.dropFirst()),
        environment: fixture.base.environment.merging(["COMPLIANCE_API_URL": fixture.url]) { $1 })
      #expect(next.code == failure.nextCode, "\(next.stderr)")
    }
  }
}
