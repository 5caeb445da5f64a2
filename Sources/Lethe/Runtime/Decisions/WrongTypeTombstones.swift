import Definitions
import Ledger
import PostgreSQL
import Warehouse

extension PipelineRuntime {
  /// Findings on tombstones that earlier runs created from IDs of another type. An ingest guard would keep out the
  /// posts or users with the same IDs.
  static func wrongTypeTombstones(
    of pipeline: Pipeline, on connection: Connection
  ) async throws -> [Finding] {
    let found = try await TombstoneRepair(connection: connection).findings(pipeline.definition)
    let wrong = found.wrong.sorted { $0.key < $1.key }.map { table, count in
      Finding(
        severity: .warning, path: path(of: table, in: pipeline.definition),
        message: """
          \(count) tombstone\(count == 1 ? " was" : "s were") created from rows of \(table), which have IDs \
          of another type: an ingest guard keeps out rows with the same IDs
          """,
        remedy:
          "run lethe guard repair \(shellWord(pipeline.file)) to withdraw them; --dry-run counts them"
      )
    }
    let undecided = found.undecided.sorted { $0.key < $1.key }.map { table, count in
      Finding(
        severity: .warning, path: path(of: table, in: pipeline.definition),
        message: """
          \(count) tombstone\(count == 1 ? " was" : "s were") created from rows of \(table), and the \
          definition no longer gives these rows a type
          """,
        remedy: """
          add the target with its id and type; then run lethe guard repair \(shellWord(pipeline.file))
          """)
    }
    return wrong + undecided
  }

  /// The path of a table's target in the definition.
  private static func path(of table: String, in definition: Definition) -> String {
    func path(_ targets: [Target], _ outer: String) -> String? {
      for (index, target) in targets.enumerated() {
        let here = "\(outer).targets[\(index)]"
        if "\(target.table)" == table { return target.id == nil ? here : "\(here).id" }
        if let inner = path(target.targets, here) { return inner }
      }
      return nil
    }
    return definition.datasets.lazy.compactMap { path($0.targets, "datasets.\($0.name)") }.first
      ?? "datasets"
  }
}
