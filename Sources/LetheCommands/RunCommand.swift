import ArgumentParser
import Foundation
import Runtime

/// `lethe run PIPELINE`: all stages.
struct RunCommand: AsyncParsableCommand, OutputCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Run all stages; first finish what earlier runs left unfinished.")

  @OptionGroup var pipeline: PipelineArgument
  @OptionGroup var workDirectory: WorkDirectoryOption
  @OptionGroup var output: OutputOptions

  @Flag(help: "Only finish what earlier runs left; begin no run. For an orchestrator's retries.")
  var resumeOnly = false

  @Flag(
    help: "End what earlier runs left as it is, instead of finishing it, and check all IDs anew.")
  var giveUp = false

  @Flag(help: "Exit with 99 if there was nothing to do.")
  var skipIfIdle = false

  mutating func validate() throws {
    guard !(giveUp && resumeOnly) else {
      throw ValidationError("--give-up and --resume-only exclude each other")
    }
  }

  mutating func run() async throws {
    let pipeline = try pipeline.load()
    let (options, resumeOnly, skipIfIdle) = (output, resumeOnly, skipIfIdle)
    let giveUp = giveUp
    let directory = workDirectory.path
    try await untilSignalled {
      let reports = try await PipelineRuntime.with(
        pipeline, workDirectory: directory, logger: options.logger
      ) { runtime in
        if giveUp { _ = try await runtime.giveUp() }
        return try await runtime.run(resumeOnly: resumeOnly)
      }
      try options.write(RunResult(reports)) {
        reports.isEmpty
          ? "no run was left unfinished"
          : reports.map(\.table).joined(separator: "\n\n")
      }
      let status = ExitStatus(of: reports)
      guard status == .done else { throw status }
      if skipIfIdle, reports.allSatisfy(\.isIdle) { throw ExitStatus.idle }
    }
  }
}

/// The newest run's report at the top, those of earlier runs that were finished first beside it.
private struct RunResult: Encodable {
  let newest: RunReport?
  let finishedEarlier: [RunReport]

  init(_ reports: [RunReport]) {
    newest = reports.last
    finishedEarlier = reports.dropLast()
  }

  /// The most that this process has held resident.
  private static var peakMemoryBytes: Int {
    var usage = rusage()
    getrusage(RUSAGE_SELF.rawValue, &usage)
    return usage.ru_maxrss * 1024
  }

  enum CodingKeys: String, CodingKey {
    case finishedEarlier = "finished_earlier"
    case peakMemoryBytes = "peak_memory_bytes"
    case status
  }

  func encode(to encoder: any Encoder) throws {
    try newest?.encode(to: encoder)
    var container = encoder.container(keyedBy: CodingKeys.self)
    if newest == nil { try container.encode("idle", forKey: .status) }
    try container.encode(finishedEarlier, forKey: .finishedEarlier)
    try container.encode(Self.peakMemoryBytes, forKey: .peakMemoryBytes)
  }
}

extension RunReport {
  /// There was no ID to check.
  var isIdle: Bool { datasets.values.allSatisfy { $0.ids == 0 } }

  /// For people.
  var table: String {
    var totals = Table(
      "dataset", "IDs", "chunks", "jobs", "events", "quarantined", "seconds by stage")
    for (name, dataset) in datasets.sorted(by: { $0.key < $1.key }) {
      let seconds = Stage.allCases.compactMap { stage in
        dataset.seconds[stage.rawValue].map { "\(stage.rawValue) \($0)" }
      }
      totals.add(
        name, grouped(dataset.ids), grouped(dataset.chunks), grouped(dataset.jobs),
        grouped(dataset.events), grouped(dataset.quarantined), seconds.joined(separator: ", "))
    }
    var rows = Table("dataset", "table", "action", "rows")
    for (name, dataset) in datasets.sorted(by: { $0.key < $1.key }) {
      for (table, actions) in dataset.rows.sorted(by: { $0.key < $1.key }) {
        for (action, count) in actions.sorted(by: { $0.key < $1.key }) {
          rows.add(name, table, action, grouped(count))
        }
      }
    }
    let changes =
      rowsChanged == 0 ? "no row had to be changed: all are as they should be" : rows.text
    return
      (["run \(runID) of \(pipeline): \(status.rawValue)", totals.text, changes]
      + failures.map { "failed: \($0)" } + stopped.map(\.advice)
      + (quarantined > 0 ? ["quarantine: \(quarantined) lines were not acted on"] : []))
      .joined(separator: "\n\n")
  }
}

extension RunReport.StoppedChunk {
  var advice: String {
    """
    chunk \(chunkID) of \(dataset) is stopped: \(reason)
      remedy: if that is right, lethe apply PIPELINE --approve \(chunkID)
    """
  }
}
