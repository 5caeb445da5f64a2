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
    let directory = try workDirectory.path
    try await untilSignalled {
      let (reports, openLines) = try await PipelineRuntime.with(
        pipeline, workDirectory: directory, logger: options.logger
      ) { runtime in
        if giveUp { _ = try await runtime.giveUp() }
        return (
          try await runtime.run(resumeOnly: resumeOnly), try await runtime.openQuarantine()
        )
      }
      let status = ExitStatus(of: reports, openLines: openLines)
      let error = Failure(of: reports, openLines: openLines, status)
      try options.write(RunResult(reports, error: error)) {
        reports.isEmpty
          ? "no run was left unfinished"
          : reports.map(\.table).joined(separator: "\n\n")
      }
      guard status == .done else { throw status }
      if skipIfIdle, reports.allSatisfy(\.isIdle) { throw ExitStatus.idle }
    }
  }
}

/// The newest run's report at the top, those of earlier runs that were finished first beside it.
private struct RunResult: Encodable {
  let newest: RunReport?
  let finishedEarlier: [RunReport]
  /// What waits for somebody, of any of the runs.
  let error: Failure?

  init(_ reports: [RunReport], error: Failure?) {
    self.error = error
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
    case status, error
  }

  func encode(to encoder: any Encoder) throws {
    try newest?.encode(to: encoder)
    var container = encoder.container(keyedBy: CodingKeys.self)
    if newest == nil { try container.encode("idle", forKey: .status) }
    try container.encodeIfPresent(error, forKey: .error)
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
    let changes = rows.rows.isEmpty ? noChange : rows.text
    var parts = ["run \(runID) of \(pipeline): \(status.rawValue)", totals.text, changes]
    parts += stopped.map(\.advice)
    parts += setAside.map(\.notice)
    parts += failures.filter { !setAside.map(\.reason).contains($0) }.map {
      "failed: \($0)\n  remedy: mend the cause; the next lethe run exports the dataset anew"
    }
    parts += refused.paragraphs
    if quarantineOpen > 0 { parts.append(quarantine) }
    return parts.joined(separator: "\n\n")
  }

  private var noChange: String {
    if isAllAsItShouldBe { return "no row had to be changed: all are as they should be" }
    return status == .running
      ? "no row was changed so far"
      : "no row was changed, and not all is done: see below"
  }

  private var quarantine: String {
    let earlier = quarantineOpen - quarantined
    let ofEarlier = earlier > 0 ? ", \(grouped(earlier)) of them of earlier runs" : ""
    return """
      quarantine: \(grouped(quarantineOpen)) lines were not acted on\(ofEarlier)
        remedy: lethe quarantine list shows them, retry and dismiss resolve them
      """
  }
}

extension [RunReport.RefusedEvent] {
  /// One for each chunk and cause.
  var paragraphs: [String] {
    var causes: [(first: RunReport.RefusedEvent, ids: [String])] = []
    for event in self {
      if let index = causes.firstIndex(where: {
        $0.first.chunkID == event.chunkID && $0.first.why == event.why
      }) {
        causes[index].ids.append(event.id)
      } else {
        causes.append((event, [event.id]))
      }
    }
    return causes.map { event, ids in
      let isOne = ids.count == 1
      return """
        chunk \(event.chunkID) of \(event.dataset): \(isOne ? "an event is" : "\(ids.count) events are") \
        refused and set aside: \(event.why)
          \(isOne ? "ID" : "IDs"): \(ids.joined(separator: ", "))
          remedy: \(event.remedy); then \(isOne ? event.command : event.commandForChunk)
        """
    }
  }
}

extension RunReport.StoppedChunk {
  var advice: String {
    """
    chunk \(chunkID) of \(dataset) is stopped: \(reason)
      remedy: if that is right, \(command)
    """
  }
}

extension RunReport.SetAsideChunk {
  var notice: String {
    """
    chunk \(chunkID) of \(dataset) is set aside: \(reason)
      remedy: \(advice)
    """
  }
}
