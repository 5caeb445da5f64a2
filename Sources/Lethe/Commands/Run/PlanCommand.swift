import ArgumentParser
import Definitions
import Runtime

/// `lethe plan PIPELINE`: what a run would do.
struct PlanCommand: AsyncParsableCommand, OutputCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan", abstract: "Show what a run would do; change nothing.",
    discussion: """
      The plan shows the number of IDs in the warehouse, and the chunks, jobs and bytes of their export. For \
      collected chunks, it also shows the rows by table, action and reason. To count the rows, plan applies each \
      batch and rolls it back. A row that two batches reach is counted twice. \
      The only trace of a plan can be empty partitions of the ledger for this month and the next.

      With --sql, the plan shows the statements with which apply counts, changes, checks, records and releases rows, \
      for each dataset, with $1, $2, … for the values.
      """)

  @Flag(help: "Print the statements of apply, and run none of them.")
  var sql = false

  @OptionGroup var pipeline: PipelineArgument
  @OptionGroup var workDirectory: WorkDirectoryOption
  @OptionGroup var output: OutputOptions

  mutating func run() async throws {
    let pipeline = try pipeline.load()
    let (options, directory) = try (output, workDirectory.path)
    let (isGiven, sql) = (workDirectory.isGiven, sql)
    try await untilSignalled {
      if sql {
        let report = try await PipelineRuntime.with(
          pipeline, workDirectory: directory, movingRuns: isGiven, logger: options.logger
        ) { try await $0.statements() }
        return try options.write(report) { report.text }
      }
      let report = try await PipelineRuntime.with(
        pipeline, workDirectory: directory, movingRuns: isGiven, logger: options.logger
      ) { try await $0.plan() }
      try options.write(report) { report.text(file: pipeline.file) }
    }
  }
}

extension StatementReport {
  /// The statements for people, each with a comment line that names it.
  fileprivate var text: String {
    statements.map {
      let change = $0.change.map { " · \($0)" } ?? ""
      let reasons = $0.reasons.isEmpty ? "" : " for \($0.reasons.joined(separator: ", "))"
      return "-- \($0.dataset) · \($0.phase) · \($0.purpose)\(change)\(reasons)\n\($0.sql);"
    }
    .joined(separator: "\n\n")
  }
}

extension PlanReport {
  /// The plan as text for people.
  /// - Parameter file: the file of the definition.
  fileprivate func text(file: String) -> String {
    var totals = Table("dataset", "IDs", "left out", "chunks", "jobs", "bytes")
    for dataset in datasets {
      totals.add(
        dataset.dataset, grouped(dataset.ids), grouped(dataset.leftOut.values.reduce(0, +)),
        grouped(dataset.chunks), grouped(dataset.jobs),
        grouped(dataset.bytes))
    }
    let parts =
      ["a run would check", totals.text]
      + datasets.compactMap { dataset in
        dataset.stopReason.map {
          "the dataset \(dataset.dataset) would not be exported: \($0)\n  remedy: run lethe check"
        }
      }
      + incompatibleRuns.map { "\($0.message)\n  remedy: \($0.remedy)" }
    guard !chunks.isEmpty else {
      return (parts + ["no collected chunk waits to be applied"]).joined(separator: "\n\n")
    }
    var rows = Table("chunk", "dataset", "table", "action", "reason", "rows")
    for chunk in chunks {
      for row in chunk.rows {
        rows.add(
          "\(chunk.chunkID)", chunk.dataset, row.table, row.action, row.reason, grouped(row.rows))
      }
    }
    let changes =
      rows.rows.isEmpty ? "the collected chunks would change no row" : "applying would change"
    let restores = chunks.compactMap { chunk in
      chunk.restores.map {
        """
        chunk \(chunk.chunkID) would release \(grouped($0.releasedIDs)) of the \(grouped($0.holdingIDs)) IDs of \
        its key range that hold rows, and restore \(grouped($0.rows)) rows\
        \($0.rowsBefore > 0 ? " (the run has already restored \(grouped($0.rowsBefore)))" : "")
        """
      }
    }
    let stops =
      chunks.compactMap { chunk in
        chunk.stopReason.map {
          RunReport.StoppedChunk(
            chunkID: chunk.chunkID, dataset: chunk.dataset, reason: $0, file: file
          ).advice
        }
      }
      + chunks.flatMap { chunk in
        chunk.refusals.map { "chunk \(chunk.chunkID) of \(chunk.dataset): would be refused: \($0)" }
      }
    return (parts + [changes] + (rows.rows.isEmpty ? [] : [rows.text]) + restores + stops)
      .joined(separator: "\n\n")
  }
}
