import Definitions
import Foundation
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// Compares the unfinished runs with the current definition.
extension PipelineRuntime {
  static func openRunFindings(
    of pipeline: Pipeline, _ catalog: Catalog, on connection: Connection
  ) async throws -> [Finding] {
    let ledger = RunLedger(connection: connection)
    let name = pipeline.definition.name
    let current = catalog.resolved(pipeline.definition)
    let open = try await ledger.unfinishedRuns(excluding: nil)
    let own = open.filter { $0.pipeline == name }
    guard own.isEmpty, try await !ledger.hasRuns(pipeline: name) else {
      var findings: [Finding] = []
      for run in own {
        findings.append(try await finding(of: run, current, pipeline, catalog, connection))
      }
      return findings
    }
    return open.compactMap { renaming(of: $0, current, pipeline) }
  }

  private static func finding(
    of run: RunLedger.UnfinishedRun, _ current: Definition, _ pipeline: Pipeline,
    _ catalog: Catalog, _ connection: Connection
  ) async throws -> Finding {
    let ledger = RunLedger(connection: connection)
    let progress = "run \(run.runID) has been open since \(run.startedAt): \(run.progress)"
    let command = "lethe run \(shellWord(pipeline.file))"
    func finding(_ message: String, _ remedy: String) -> Finding {
      Finding(
        severity: .warning, path: "name", message: "\(progress); \(message)", remedy: remedy)
    }
    let givingUp = "run \(command) --give-up to end it, and the next run asks about its IDs again"
    let stopped = try await ledger.halted(pipeline: pipeline.definition.name)
      .filter { $0.runID == run.runID && !$0.isSetAside }.map {
        "lethe apply \(shellWord(pipeline.file)) --approve \($0.chunkID)"
      }
    let continuing =
      stopped.isEmpty
      ? "run \(command): it finishes this run first"
      : "a limit has stopped it: if the chunk's changes are right, run \(stopped.firstFew); or \(givingUp)"
    guard let stored = run.definition else {
      return finding(
        "its definition cannot be read by this version",
        "finish it with the version of Lethe that started it; or \(givingUp)")
    }
    let changes = stored.differences(to: current)
    guard !changes.isEmpty else {
      return finding(
        "its definition is the same as the file", continuing)
    }
    let differences = changes.map(\.description).firstFew
    let rules = AdoptionRules(
      catalog: catalog,
      applied: try await ledger.appliedReasons(of: run.runID))
    let adopting =
      changes.allSatisfy { rules.obstacle(to: $0) == nil }
      ? "run \(command) --adopt-definition to continue it with the file; or " : ""
    let mistakes = try await stored.mistakes(on: connection)
    guard mistakes.isEmpty else {
      return finding(
        """
        it cannot continue, because its copy of the definition does not fit the database any more: \
        \(mistakes.firstFew). The copy differs from the file: \(differences)
        """, adopting + givingUp)
    }
    return finding(
      "it continues with its copy of the definition, which differs from the file: \(differences)",
      "run \(command) to finish it with its copy; or \(adopting)\(givingUp)")
  }

  /// A warning that the pipeline was probably renamed while a run was unfinished. The run belongs to another pipeline
  /// name, but has the same file, or the same datasets and tables. No command resumes it under the new name.
  private static func renaming(
    of run: RunLedger.UnfinishedRun, _ current: Definition, _ pipeline: Pipeline
  ) -> Finding? {
    func place(_ file: String) -> String { URL(fileURLWithPath: file).standardizedFileURL.path }
    let hasSameFile = run.definitionFile.map { place($0) == place(pipeline.file) } ?? false
    let hasSameTables =
      run.definition.map {
        $0.datasets.map(\.name) == current.datasets.map(\.name)
          && $0.datasets.map(\.table) == current.datasets.map(\.table)
      } ?? false
    guard hasSameFile || hasSameTables else { return nil }
    let what = hasSameFile ? "file" : "datasets and tables"
    return Finding(
      severity: .warning, path: "name",
      message: """
        there is no run of \(current.name) yet, but run \(run.runID) of the pipeline \(run.pipeline) has the \
        same \(what) and has been open since \(run.startedAt): \(run.progress). It seems that the pipeline was \
        renamed
        """,
      remedy: """
        restore the pipeline's name \(run.pipeline), finish the run with lethe run or end it with --give-up, \
        and then rename the pipeline; a pipeline with another name never continues the run
        """)
  }
}

extension [String] {
  /// The first texts in one line, and how many more there are.
  var firstFew: String {
    let max = 5
    return prefix(max).joined(separator: "; ") + (count > max ? "; and \(count - max) more" : "")
  }
}

extension Definition {
  /// The mistakes that prevent a run from continuing with this definition.
  /// - Parameter roleMayDiffer: whether runs may use another role than the connection. Then privileges that the
  ///   connection's role lacks are no mistakes.
  func mistakes(
    on connection: Connection, roleMayDiffer: Bool = false
  ) async throws -> [String] {
    let findings = try await Catalog(of: self, on: connection).check(self, on: connection)
      .filter { $0.severity == .error }
    return findings.filter { !(roleMayDiffer && $0.isOfRole) }.map(\.message)
  }
}
