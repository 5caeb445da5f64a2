import Definitions
import Foundation
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// Findings on unfinished runs and today's definition.
extension PipelineRuntime {
  static func openRunFindings(
    of pipeline: Pipeline, _ catalog: Catalog, on connection: Connection
  ) async throws -> [Finding] {
    let ledger = RunLedger(connection: connection)
    let name = pipeline.definition.name
    let today = catalog.resolved(pipeline.definition)
    let open = try await ledger.unfinishedRuns(besides: nil)
    let own = open.filter { $0.pipeline == name }
    guard own.isEmpty, try await !ledger.hasRuns(pipeline: name) else {
      var findings: [Finding] = []
      for run in own {
        findings.append(try await finding(of: run, today, pipeline, catalog, connection))
      }
      return findings
    }
    return open.compactMap { renaming(of: $0, today, pipeline) }
  }

  private static func finding(
    of run: RunLedger.UnfinishedRun, _ today: Definition, _ pipeline: Pipeline, _ catalog: Catalog,
    _ connection: Connection
  ) async throws -> Finding {
    let ledger = RunLedger(connection: connection)
    let stands = "run \(run.runID) is open since \(run.startedAt): \(run.progress)"
    let command = "lethe run \(shellWord(pipeline.file))"
    func finding(_ message: String, _ remedy: String) -> Finding {
      Finding(
        severity: .warning, path: "name", message: "\(stands); \(message)", remedy: remedy)
    }
    let givingUp = "\(command) --give-up ends it, and its IDs are checked anew"
    let stopped = try await ledger.halted(pipeline: pipeline.definition.name)
      .filter { $0.runID == run.runID && !$0.isSetAside }.map {
        "lethe apply \(shellWord(pipeline.file)) --approve \($0.chunkID)"
      }
    let going =
      stopped.isEmpty
      ? "\(command) goes on with it first"
      : "a limit has stopped it: \(stopped.firstFew), if what it would do is right; or \(givingUp)"
    guard let frozen = run.definition else {
      return finding(
        "its definition cannot be read by this version",
        "finish it with the version of Lethe that began it; or \(givingUp)")
    }
    let changes = frozen.differences(to: today)
    guard !changes.isEmpty else {
      return finding(
        "its definition is the one of the file", going)
    }
    let differs = "which the file says otherwise: " + changes.map(\.description).firstFew
    let rules = AdoptionRules(
      catalog: catalog,
      applied: try await ledger.appliedReasons(of: run.runID))
    let adopting =
      changes.allSatisfy { rules.obstacle(to: $0) == nil }
      ? "\(command) --adopt-definition has it go on by the file; or " : ""
    let mistakes = try await frozen.mistakes(on: connection)
    guard mistakes.isEmpty else {
      return finding(
        """
        it cannot go on by the definition that it began with, \(differs). That does not fit the database \
        any more: \(mistakes.firstFew)
        """, adopting + givingUp)
    }
    return finding(
      "it goes on by the definition that it began with, \(differs)",
      "leave it, and \(command) finishes it as it began; or \(adopting)\(givingUp)")
  }

  /// A warning about an unfinished run of another name that may be this pipeline's: no command resumes it under the
  /// new name.
  private static func renaming(
    of run: RunLedger.UnfinishedRun, _ today: Definition, _ pipeline: Pipeline
  ) -> Finding? {
    func place(_ file: String) -> String { URL(fileURLWithPath: file).standardizedFileURL.path }
    let hasSameFile = run.definitionFile.map { place($0) == place(pipeline.file) } ?? false
    let hasSameTables =
      run.definition.map {
        $0.datasets.map(\.name) == today.datasets.map(\.name)
          && $0.datasets.map(\.table) == today.datasets.map(\.table)
      } ?? false
    guard hasSameFile || hasSameTables else { return nil }
    let what = hasSameFile ? "file" : "datasets and tables"
    return Finding(
      severity: .warning, path: "name",
      message: """
        there is no run of \(today.name) yet, and run \(run.runID) of the pipeline \(run.pipeline), which has \
        the same \(what), is open since \(run.startedAt): \(run.progress). It seems that the pipeline was \
        renamed
        """,
      remedy: """
        give the pipeline its name \(run.pipeline) back, have lethe run finish the run or end it by --give-up, \
        and rename it then; a pipeline of another name never goes on with it
        """)
  }
}

extension [String] {
  /// The first mistakes in one line.
  var firstFew: String {
    let max = 5
    return prefix(max).joined(separator: "; ") + (count > max ? "; and \(count - max) more" : "")
  }
}

extension Definition {
  /// The mistakes by which a run cannot continue with this definition.
  func mistakes(on connection: Connection) async throws -> [String] {
    try await Catalog(of: self, on: connection).check(self, on: connection)
      .filter { $0.severity == .error }.map(\.message)
  }
}
