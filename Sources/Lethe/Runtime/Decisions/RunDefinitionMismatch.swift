import Definitions
public import Failures
import Foundation
import Ledger
import Logging
public import PostgreSQL
import Vocabulary
import Warehouse

/// The error that a run cannot continue with its copy of the definition: the copy does not fit the database any
/// more, or this version cannot read it. The run is not changed. `lethe run` continues all other runs.
public struct RunDefinitionMismatch: ExplainedError, Sendable, Codable, Equatable {
  public let runID: Int64
  public let message: String
  public let remedy: String

  enum CodingKeys: String, CodingKey {
    case message, remedy
    case runID = "run_id"
  }

  public var disposition: Disposition { .failed }

  /// The unfinished runs that cannot continue. For `lethe status`, which can have a role that may only read the ledger.
  /// - Parameter pipeline: only runs of this pipeline. Nil for all.
  /// - Throws: `PostgreSQLError`.
  public static func all(of pipeline: String?, on connection: Connection) async throws
    -> [RunDefinitionMismatch]
  {
    var mismatches: [RunDefinitionMismatch] = []
    for run in try await RunLedger(connection: connection).unfinishedRuns(excluding: nil)
    where pipeline.map({ $0 == run.pipeline }) ?? true {
      let why: String
      if let definition = run.definition {
        let mistakes = try await definition.mistakes(on: connection, roleMayDiffer: true)
        if mistakes.isEmpty { continue }
        why = "does not fit the database any more: \(mistakes.firstFew)"
      } else {
        why = "cannot be read by this version"
      }
      let file = run.definitionFile.map(shellWord) ?? "PIPELINE"
      mismatches.append(
        RunDefinitionMismatch(
          runID: run.runID,
          message: """
            run \(run.runID) of \(run.pipeline) cannot continue: its copy of the definition \(why)
            """,
          remedy: """
            run lethe check \(file) to compare the current file with the database; or run lethe run \(file) --give-up \
            to end the run, and the next run asks about its IDs again
            """))
    }
    return mismatches
  }
}

extension PipelineRuntime {
  /// An unfinished run, and the catalog of its definition.
  /// - Throws: `RunDefinitionMismatch` if the run cannot continue.
  func fitting(_ open: OpenRun) async throws -> (run: Run, catalog: Catalog) {
    let run: Run
    do {
      run = try open.run()
    } catch let error as LedgerError where error.code == .unreadable {
      let file = shellWord(pipeline.file)
      throw RunDefinitionMismatch(
        runID: open.id, message: error.message,
        remedy: """
          run lethe run \(file) --give-up to end the run, and the next run asks about its IDs again; or finish the run \
          with the version of Lethe that started it
          """)
    }
    return (run, try await catalog(of: run, startedAt: open.startedAt))
  }

  /// The catalog of a run's own copy of the definition.
  /// - Parameter startedAt: nil if chunks, events or lines of the run are retried. The run may have ended then.
  /// - Throws: `RunDefinitionMismatch` if the copy does not fit the database.
  func catalog(of run: Run, startedAt: String? = nil) async throws -> Catalog {
    let catalog = try await Catalog(of: run.definition, on: lockConnection)
    var errors: [Finding] = []
    for finding in try await catalog.check(run.definition, on: lockConnection) {
      switch finding.severity {
      case .note: logger.info("\(finding.message)")
      case .warning: logger.warning("\(finding.message)\n  remedy: \(finding.remedy)")
      case .error: errors.append(finding)
      }
    }
    guard errors.isEmpty else { throw mismatch(of: run, errors, startedAt) }
    return catalog
  }

  private func mismatch(
    of run: Run, _ errors: [Finding], _ startedAt: String?
  ) -> RunDefinitionMismatch {
    let mistakes = errors.map { finding in
      "\(finding.message) (\(finding.path); \(current(at: finding.path, comparedWith: run.definition)))"
    }
    let file = shellWord(pipeline.file)
    // If the current file has the same entries, the cause is in the database, and adopting the file does not help.
    let isOfDatabase = errors.allSatisfy { finding in
      run.definition.entry(at: finding.path) == pipeline.definition.entry(at: finding.path)
    }
    let remedyThere = isOfDatabase ? errors.first?.remedy : nil
    return RunDefinitionMismatch(
      runID: run.id,
      message: """
        run \(run.id) of \(run.definition.name)\(startedAt.map { ", started \($0)," } ?? "") uses its copy of the \
        definition, and this copy does not fit the database any more: \
        \(mistakes.firstFew)
        """,
      remedy: startedAt == nil
        ? "change the database so that the copy fits; or do nothing: the next lethe run asks about its IDs again"
        : remedyThere.map {
          """
          \($0), and the run continues; or run lethe run \(file) --give-up to end the run, and the next run \
          asks about its IDs again
          """
        }
          ?? """
          if columns were renamed, or limits or actions changed, run lethe run \(file) --adopt-definition to continue \
          with the current file; or run lethe run \(file) --give-up to end the run, and the next run asks about its \
          IDs again
          """)
  }

  /// For messages: what the current file has at a path of a run's definition, compared with the run's copy.
  private func current(at path: String, comparedWith definition: Definition) -> String {
    let (before, now) = (definition.entry(at: path), pipeline.definition.entry(at: path))
    let line = pipeline.line(of: path).map { ":\($0)" } ?? ""
    guard let now, now.path == before?.path else {
      return "the current file, \(pipeline.file)\(line), has no such key"
    }
    return now.text == before?.text
      ? "the current file, \(pipeline.file)\(line), has the same value: \(now.text)"
      : "the copy has \(before?.text ?? "nothing"), the current file, \(pipeline.file)\(line), has \(now.text)"
  }
}
