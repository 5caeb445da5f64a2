public import Ledger
import Vocabulary

/// The result of a run, from the ledger.
public struct RunReport: Sendable, Codable, Equatable {
  public enum Status: String, Sendable, Codable {
    /// The run has stages left.
    case running
    case done
    /// A limit stopped a chunk; see `stopped`.
    case stopped
    /// A chunk or an event was set aside, or a dataset was not completely exported; see `setAside`, `refused`,
    /// `failures` and `stoppedDatasets`.
    case failed
    /// The run cannot continue with its copy of the definition; see `unfit`.
    case unfit
  }

  public var runID: Int64
  public var pipeline: String
  public var status: Status
  public var datasets: [String: DatasetReport]
  /// The use of the API's slots, by job type.
  public var slots: [String: SlotReport]
  /// Why chunks were set aside, and why datasets were not completely exported.
  public var failures: [String]
  /// The chunks that wait for an approval, and why.
  public var stopped: [StoppedChunk]
  /// The datasets that are not exported because too many rows would be left out, and why.
  public var stoppedDatasets: [StoppedDataset]
  /// The chunks that were set aside in any stage, and why. The other chunks continue.
  public var setAside: [SetAsideChunk]
  /// The events that the warehouse refused. They do not stop the other events of their chunks.
  public var refused: [RefusedEvent]
  /// The number of open lines in the pipeline's quarantine, of this run and of earlier runs.
  public var quarantineOpen: Int
  /// How many other chunks and events of the run are set aside, refused or stopped. Only in the report of
  /// `lethe retry`, which lists only the retried chunks and events.
  public var othersLeft: Int?
  /// Why the run cannot continue.
  public var unfit: RunDefinitionMismatch?

  enum CodingKeys: String, CodingKey {
    case runID = "run_id"
    case pipeline, status, datasets, slots, failures, stopped, refused, unfit
    case stoppedDatasets = "stopped_datasets"
    case setAside = "set_aside"
    case quarantineOpen = "quarantine_open"
    case othersLeft = "others_left"
  }

  public struct StoppedChunk: Sendable, Codable, Equatable {
    public var chunkID: Int64
    public var dataset: String
    public var reason: String
    /// The command that approves the chunk.
    public var command: String

    enum CodingKeys: String, CodingKey {
      case chunkID = "chunk_id"
      case dataset, reason, command
    }

    public init(chunkID: Int64, dataset: String, reason: String, file: String) {
      self.chunkID = chunkID
      self.dataset = dataset
      self.reason = reason
      command = "lethe apply \(shellWord(file)) --approve \(chunkID)"
    }
  }

  public struct StoppedDataset: Sendable, Codable, Equatable {
    public var dataset: String
    public var reason: String
    public var remedy: String

    public init(_ export: RunLedger.HaltedExport, file: String) {
      dataset = export.dataset
      reason = export.why
      remedy = """
        run lethe check \(shellWord(file)) to see what to do; or raise max_skipped_percent, if some rows have usable IDs
        """
    }
  }

  public struct SetAsideChunk: Sendable, Codable, Equatable {
    public var chunkID: Int64
    public var dataset: String
    public var reason: String
    public var remedy: String
    /// Whether a retry of the chunk, or a new chunk with the same IDs, can succeed.
    public var isRetryable: Bool
    /// The command that retries the chunk, or that asks about its IDs again if the ledger no longer has its events.
    public var command: String

    enum CodingKeys: String, CodingKey {
      case chunkID = "chunk_id"
      case dataset, reason, remedy, command
      case isRetryable = "is_retryable"
    }

    public init(_ chunk: RunLedger.HaltedChunk, file: String) {
      chunkID = chunk.chunkID
      dataset = chunk.dataset
      reason = chunk.reason
      remedy = chunk.remedy ?? "the next lethe run asks about its IDs again"
      isRetryable = chunk.isRetryable
      command =
        chunk.hasEvents
        ? "lethe retry \(shellWord(file)) \(chunk.chunkID)" : "lethe run \(shellWord(file))"
    }
  }

  public struct RefusedEvent: Sendable, Codable, Equatable {
    public var chunkID: Int64
    public var dataset: String
    /// The ID as text. Many JSON readers turn numbers into floating-point numbers and would lose digits.
    public var id: String
    public var reason: String
    public var why: String
    public var remedy: String
    /// The command that retries the refused events of this ID, in all chunks of the pipeline.
    public var command: String
    /// The command that retries all refused events of its chunk.
    public var commandForChunk: String

    enum CodingKeys: String, CodingKey {
      case chunkID = "chunk_id"
      case dataset, id, reason, why, remedy, command
      case commandForChunk = "command_for_chunk"
    }

    public init(_ event: RunLedger.RefusedEvent, file: String) {
      chunkID = event.chunkID
      dataset = event.dataset
      id = "\(event.id)"
      reason = event.reason
      why = event.why
      remedy = event.remedy
      command = "lethe retry \(shellWord(file)) --id \(event.id)"
      commandForChunk = "lethe retry \(shellWord(file)) \(event.chunkID)"
    }
  }

  public struct DatasetReport: Sendable, Codable, Equatable {
    public var ids: Int
    public var chunks: Int
    public var jobs: Int
    public var events: Int
    /// Changed rows by table, then by action. Empty if no row was changed.
    public var rows: [String: [String: Int]]
    public var quarantined: Int
    /// Rows that were not exported, by cause. The API was not asked about them.
    public var leftOut: [String: Int]
    /// How many seconds this process has worked on the dataset, by stage.
    public var seconds: [String: Double]
    /// How many of apply's seconds were spent on waits for the definition's pace.
    public var pacedSeconds: Double

    enum CodingKeys: String, CodingKey {
      case ids, chunks, jobs, events, rows, quarantined, seconds
      case leftOut = "left_out"
      case pacedSeconds = "paced_seconds"
    }

    public var rowsLeftOut: Int { leftOut.values.reduce(0, +) }
  }

  /// The times are from the ledger, so they include the jobs of all processes that have worked on the run.
  public struct SlotReport: Sendable, Codable, Equatable {
    public var jobs: Int
    /// How long jobs of the run have used the slot, until the run has seen their end.
    public var busySeconds: Double
    /// How long the run has not used the slot between two of its jobs although a chunk waited. Others may have used
    /// the slot in this time.
    public var idleSeconds: Double

    enum CodingKeys: String, CodingKey {
      case jobs
      case busySeconds = "busy_seconds"
      case idleSeconds = "idle_seconds"
    }
  }

  public var quarantined: Int { datasets.values.reduce(0) { $0 + $1.quarantined } }

  public var rowsChanged: Int {
    datasets.values.reduce(0) { $0 + $1.rows.values.flatMap(\.values).reduce(0, +) }
  }

  public var rowsLeftOut: Int { datasets.values.reduce(0) { $0 + $1.rowsLeftOut } }

  /// Whether every row was exported, every event of every chunk is applied, and no line is open in the quarantine.
  public var isCompletelyDone: Bool {
    status == .done && setAside.isEmpty && refused.isEmpty && stopped.isEmpty
      && stoppedDatasets.isEmpty && quarantineOpen == 0 && rowsLeftOut == 0
  }
}

extension RunReport {
  /// The report of a run that could not continue.
  init(_ unfit: RunDefinitionMismatch, pipeline: String, quarantineOpen: Int) {
    self.init(
      runID: unfit.runID, pipeline: pipeline, status: .unfit, datasets: [:], slots: [:],
      failures: [],
      stopped: [], stoppedDatasets: [], setAside: [], refused: [], quarantineOpen: quarantineOpen,
      unfit: unfit)
  }

  /// Returns the report without what already waited for an operator in `former`, an earlier report of the same run.
  func excluding(_ former: RunReport?) -> RunReport {
    guard let former else { return self }
    var report = self
    let halted = Set(former.stopped.map(\.chunkID) + former.setAside.map(\.chunkID))
    report.stopped.removeAll { halted.contains($0.chunkID) }
    report.setAside.removeAll { halted.contains($0.chunkID) }
    report.refused.removeAll { former.refused.contains($0) }
    report.stoppedDatasets.removeAll { former.stoppedDatasets.contains($0) }
    for failure in former.failures {
      if let index = report.failures.firstIndex(of: failure) { report.failures.remove(at: index) }
    }
    return report
  }
}

/// Quotes a word for a shell, if it needs quotes.
package func shellWord(_ text: String) -> String {
  let isPlain = text.allSatisfy { $0.isLetter || $0.isNumber || "/._-+:@%".contains($0) }
  return isPlain && !text.isEmpty ? text : "'\(text.replacing("'", with: "'\\''"))'"
}
