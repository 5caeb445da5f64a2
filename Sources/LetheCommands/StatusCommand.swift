import ArgumentParser
import Ledger
import PostgreSQL

/// `lethe status`: where things stand.
struct StatusCommand: AsyncParsableCommand, OutputCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "Show where the newest runs stand.")

  @OptionGroup var database: DatabaseOption
  @OptionGroup var output: OutputOptions

  @Option(help: "Only the runs of this pipeline.")
  var pipeline: String?

  @Option(help: "How many runs to show.")
  var runs = 10

  mutating func validate() throws {
    guard runs > 0 else { throw ValidationError("--runs has to be at least 1") }
  }

  mutating func run() async throws {
    let (options, name, limit) = (output, pipeline, runs)
    let connectionString = database.connectionString
    try await untilSignalled {
      let runs: [RunLedger.RunStatus]
      do {
        runs = try await Connection.withConnection(connectionString) {
          try await RunLedger(connection: $0).recent(pipeline: name, limit: limit)
        }
      } catch let error as PostgreSQLError
        where error.state == .undefinedTable || error.state == .invalidSchemaName
      {
        throw CommandError(message: "the database has no ledger", remedy: "lethe migrate up")
      }
      try options.write(Result(runs: runs.map(Line.init))) {
        guard !runs.isEmpty else { return "no run yet" }
        var table = Table("run", "pipeline", "status", "started", "finished", "IDs", "chunks")
        for run in runs {
          table.add(
            "\(run.runID)", run.pipeline, run.status, run.startedAt, run.finishedAt ?? "-",
            grouped(run.ids), run.chunks)
        }
        return table.text
      }
    }
  }

  private struct Result: Encodable {
    let runs: [Line]
  }

  private struct Line: Encodable {
    let run_id: Int64
    let pipeline: String
    let status: String
    let started_at: String
    let finished_at: String?
    let ids: Int
    let chunks: String

    init(_ run: RunLedger.RunStatus) {
      run_id = run.runID
      pipeline = run.pipeline
      status = run.status
      started_at = run.startedAt
      finished_at = run.finishedAt
      ids = run.ids
      chunks = run.chunks
    }
  }
}
