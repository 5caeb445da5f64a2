import ArgumentParser
internal import Failures
import Ledger
import PostgreSQL
import Runtime
import Vocabulary

/// `lethe status`: the newest runs, and the work that waits for an operator.
struct StatusCommand: AsyncParsableCommand, OutputCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "Show the progress of the newest runs.")

  @OptionGroup var database: DatabaseOption
  @OptionGroup var output: OutputOptions

  @Option(help: "Only the runs of this pipeline.")
  var pipeline: String?

  @Option(help: "How many runs to show.")
  var runs = 10

  mutating func validate() throws {
    guard runs > 0 else { throw ValidationError("--runs must be at least 1") }
  }

  mutating func run() async throws {
    let (options, name, limit) = (output, pipeline, runs)
    let connectionString = database.connectionString
    try await untilSignalled {
      let status = try await withLedger(connectionString) {
        let ledger = RunLedger(connection: $0)
        return PipelineStatus(
          runs: try await ledger.recent(pipeline: name, limit: limit),
          workers: try await WorkerLedger.activities(of: name, on: $0),
          halted: try await ledger.halted(pipeline: name),
          refused: try await ledger.refused(pipeline: name),
          openLines: try await QuarantineLedger(connection: $0).openLines(pipeline: name),
          holds: try await HoldLedger(connection: $0).counts(),
          unasked: try await OrphanedHolds(current: [], on: $0).countsIfKnown(),
          incompatibleRuns: try await RunDefinitionMismatch.all(of: name, on: $0),
          isOfOnePipeline: name != nil
        )
      }
      try options.write(Result(status)) { status.text }
    }
  }

  private struct Result: Encodable {
    let runs: [Line]
    let workers: [Worker]
    let stopped: [RunReport.StoppedChunk]
    let set_aside: [RunReport.SetAsideChunk]
    let refused: [RunReport.RefusedEvent]
    let unfit: [RunDefinitionMismatch]
    let quarantine_open: Int
    let holds: Holds

    init(_ status: PipelineStatus) {
      runs = status.runs.map(Line.init)
      workers = status.workers.map(Worker.init)
      stopped = status.stopped
      set_aside = status.setAside
      refused = status.refusedEvents
      unfit = status.incompatibleRuns
      quarantine_open = status.openLines
      holds = Holds(status)
    }
  }

  /// A process that works on a pipeline now.
  private struct Worker: Encodable {
    let pipeline: String?
    let command: String
    let host: String
    let process_id: Int32
    let since: String
    /// Until then, other processes take over the work only if this worker's process is known to have ended.
    let expires_at: String
    let work: [String]

    init(_ activity: WorkerLedger.Activity) {
      pipeline = activity.holder.pipeline
      command = activity.holder.command
      host = activity.holder.process.host
      process_id = activity.holder.process.processID
      since = activity.holder.since
      expires_at = activity.holder.expiresAt
      work = activity.work
    }
  }

  private struct Holds: Encodable {
    let rows, ids: Int
    /// The numbers of rows and IDs for holds of IDs that no dataset exports any more. Left out if they cannot be
    /// counted.
    let unasked_rows, unasked_ids: Int?
    /// IDs that were protected by an older version, which had no holds.
    let protected_ids: Int

    init(_ status: PipelineStatus) {
      rows = status.holds.holds
      ids = status.holds.holders
      unasked_rows = status.unasked?.rows
      unasked_ids = status.unasked?.ids
      protected_ids = status.holds.protections
    }
  }

  private struct Line: Encodable {
    let run_id: Int64
    let pipeline: String
    let status: String
    /// Whether the run is unfinished and a process works on its pipeline now. A run with the status `running` but
    /// without a process was interrupted, or waits for the next stage command.
    let in_progress: Bool
    let started_at: String
    let finished_at: String?
    let ids: Int
    let chunks: String
    /// Numbers of rows by dataset and cause.
    let left_out: [String: [String: Int]]
    /// The reasons why a limit has stopped the export, by dataset.
    let stopped_datasets: [String: String]
    /// The reasons why an export failed, by dataset.
    let failed_datasets: [String: String]

    init(_ run: RunLedger.RunStatus) {
      run_id = run.runID
      pipeline = run.pipeline
      status = run.status.rawValue
      in_progress = run.isUnfinished && run.isWorkedOn
      started_at = run.startedAt
      finished_at = run.finishedAt
      ids = run.ids
      chunks = run.chunks
      stopped_datasets = run.stoppedDatasets
      failed_datasets = run.failedDatasets
      left_out = Dictionary(
        uniqueKeysWithValues: run.leftOut.map { dataset, rows in
          (
            dataset,
            Dictionary(uniqueKeysWithValues: rows.byCause.map { ($0.key.rawValue, $0.value) })
          )
        })
    }
  }
}

/// The newest runs, and the work that waits for an operator.
private struct PipelineStatus {
  let runs: [RunLedger.RunStatus]
  let workers: [WorkerLedger.Activity]
  let halted: [RunLedger.HaltedChunk]
  let refused: [RunLedger.RefusedEvent]
  let openLines: Int
  let holds: HoldLedger.Counts
  let unasked: OrphanedHolds.Counts?
  let incompatibleRuns: [RunDefinitionMismatch]
  /// Whether the status is of one pipeline. Holds are counted for all pipelines, because one row can have holders of
  /// several pipelines.
  let isOfOnePipeline: Bool

  var stopped: [RunReport.StoppedChunk] {
    halted.filter { !$0.isSetAside }.map {
      .init(
        chunkID: $0.chunkID, dataset: $0.dataset, reason: $0.reason,
        file: Self.file($0.definitionFile, $0.pipeline))
    }
  }

  var setAside: [RunReport.SetAsideChunk] {
    halted.filter(\.isSetAside).map { .init($0, file: Self.file($0.definitionFile, $0.pipeline)) }
  }

  var refusedEvents: [RunReport.RefusedEvent] {
    refused.map { .init($0, file: Self.file($0.definitionFile, $0.pipeline)) }
  }

  /// Runs of older versions have no file name in the ledger. Commands then contain a placeholder.
  private static func file(_ known: String?, _ pipeline: String) -> String {
    known ?? "the-definition-of-\(pipeline)"
  }

  var text: String {
    guard !runs.isEmpty else { return "no run yet" }
    var table = Table(
      "run", "pipeline", "status", "started", "finished", "IDs", "left out", "chunks")
    for run in runs {
      table.add(
        "\(run.runID)", run.pipeline, run.isPaused ? "unfinished" : run.status.rawValue,
        run.startedAt,
        run.finishedAt ?? "-",
        grouped(run.ids), grouped(run.leftOut.reduce(0) { $0 + $1.rows.rows }), run.chunks)
    }
    var parts = [table.text] + workers.map(\.text) + leftOut + failedExports
    let unfitIDs = Set(incompatibleRuns.map(\.runID))
    if runs.contains(where: { $0.isPaused && !unfitIDs.contains($0.runID) }) {
      parts.append(
        """
        unfinished: no process works on this run
          remedy: run lethe run, or the stage commands, to continue it
        """)
    }
    if let text = holdText { parts.append(text) }
    parts += incompatibleRuns.map(\.description)
    parts += stopped.map(\.advice)
    parts += setAside.map(\.notice)
    parts += refusedEvents.paragraphs
    if openLines > 0 {
      parts.append(
        """
        \(grouped(openLines)) lines of the quarantine are open
          remedy: run lethe quarantine list to see them
        """)
    }
    return parts.joined(separator: "\n\n")
  }

  private var newestRuns: [RunLedger.RunStatus] {
    var seen: Set<String> = []
    return runs.filter { seen.insert($0.pipeline).inserted }
  }

  /// The failed exports of each pipeline's newest run.
  private var failedExports: [String] {
    newestRuns.flatMap { run in
      run.failedDatasets.sorted { $0.key < $1.key }.map { dataset, why in
        """
        the rest of \(dataset) of \(run.pipeline) was not exported: \(why)
          remedy: correct the cause; then lethe run \(shellWord(Self.file(run.definitionFile, run.pipeline)))
        """
      }
    }
  }

  /// The rows that were left out by each pipeline's newest run.
  private var leftOut: [String] {
    newestRuns.flatMap { run in
      run.leftOut.map { dataset, rows in
        if let why = run.stoppedDatasets[dataset] {
          return """
            \(dataset) of \(run.pipeline) was not exported, and X was not asked about any of its rows: \(why)
              remedy: run lethe check; or raise max_skipped_percent, if some rows can be exported
            """
        }
        return """
          \(dataset) of \(run.pipeline): \(grouped(rows.rows)) rows were left out, and X was not asked about them: \
          \(rows.summary)
            remedy: run lethe check
          """
      }
    }
  }

  /// Nil if nothing is hidden.
  private var holdText: String? {
    var lines: [String] = []
    if holds.holds > 0 {
      lines.append(
        """
        holds\(isOfOnePipeline ? " of all pipelines" : ""): \(grouped(holds.holds)) rows are hidden, by \
        \(grouped(holds.holders)) IDs
        """)
    }
    if let unasked, unasked.ids > 0 {
      lines.append(
        """
        \(grouped(unasked.rows)) rows have holds of \(grouped(unasked.ids)) IDs that no dataset exports any \
        more: no answer will restore them
          remedy: run lethe holds list to see them; restore them with lethe holds release PIPELINE --type \
        tweets|users --unasked --force --note TEXT
        """)
    }
    if holds.protections > 0 {
      lines.append(
        """
        \(grouped(holds.protections)) IDs were protected by an earlier version of Lethe, which had no holds: Lethe \
        finds their rows at the next answer that releases them
        """)
    }
    return lines.isEmpty ? nil : lines.joined(separator: "\n")
  }
}

extension WorkerLedger.Activity {
  /// One line, such as `lethe run (process 812 on db-jobs-1, since …) works on nightly: slot of tweets`.
  fileprivate var text: String {
    let what = work.isEmpty ? "" : ": \(work.joined(separator: ", "))"
    return "\(holder.description) works on \(holder.pipeline ?? "no pipeline yet")\(what)"
  }
}

extension RunLedger.RunStatus {
  fileprivate var isUnfinished: Bool { status == .running }
  /// Whether the run was interrupted, or waits for the next stage command.
  fileprivate var isPaused: Bool { isUnfinished && !isWorkedOn }
}
