import ArgumentParser
internal import DefinitionFiles
import Foundation
internal import Ledger
import Logging
import Runtime
import Vocabulary

/// `lethe run PIPELINE`: all stages.
struct RunCommand: AsyncParsableCommand, OutputCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Run all stages; first finish earlier runs that are unfinished.")

  @OptionGroup var pipeline: PipelineArgument
  @OptionGroup var workDirectory: WorkDirectoryOption
  @OptionGroup var output: OutputOptions

  @Flag(help: "Only finish earlier runs; start no new run. For an orchestrator's retries.")
  var resumeOnly = false

  @Flag(
    help: ArgumentHelp(
      "Work together with the processes that run the pipeline now, here or on other machines.",
      discussion: """
        One process at a time exports a dataset, and one at a time has the API's slot of a type. All of them collect \
        and apply chunks, but one at a time changes the warehouse. They start one new run together. If no process works on the pipeline, this one is the first.
        """))
  var join = false

  @Flag(
    help: "End earlier runs without finishing them, and check all IDs again.")
  var giveUp = false

  @Flag(
    help: ArgumentHelp(
      "Finish earlier runs with the definition in the current file.",
      discussion: """
        Allowed changes are names of columns, limits, sizes, and actions of reasons whose events are not applied \
        yet. If there is any other change, Lethe names it and changes nothing. The adoption is recorded and sealed.
        """))
  var adoptDefinition = false

  @Option(help: "With --adopt-definition: who decides. Default: the user of the operating system.")
  var by: String?

  @Option(help: "With --adopt-definition: why. The note is kept with the run and sealed.")
  var note: String?

  @Flag(help: "Exit with 99 if there was nothing to do.")
  var skipIfIdle = false

  mutating func validate() throws {
    guard !(giveUp && resumeOnly) else {
      throw ValidationError("--give-up and --resume-only cannot be used together")
    }
    guard !(giveUp && adoptDefinition) else {
      throw ValidationError("--give-up and --adopt-definition cannot be used together")
    }
    guard !(join && (giveUp || adoptDefinition)) else {
      throw ValidationError("--join cannot be used with --give-up or --adopt-definition")
    }
    guard adoptDefinition || (by == nil && note == nil) else {
      throw ValidationError("--by and --note need --adopt-definition")
    }
    try requireNotEmpty(by, "--by")
  }

  mutating func run() async throws {
    let pipeline = try pipeline.load()
    let (options, resumeOnly, skipIfIdle) = (output, resumeOnly, skipIfIdle)
    let (giveUp, adopts, by, note) = (giveUp, adoptDefinition, by, note)
    let mode: TeamMode = join ? .joining : giveUp || adopts ? .alone : .first
    let (directory, isGiven) = try (workDirectory.path, workDirectory.isGiven)
    try await untilSignalled {
      let (preparation, reports, openLines, refused) = try await PipelineRuntime.with(
        pipeline, as: mode, workDirectory: directory, movingRuns: isGiven, logger: options.logger
      ) { runtime in
        let preparation = RunPreparation(
          givenUp: giveUp ? try await runtime.giveUp() : nil,
          adopted: adopts ? try await runtime.adoptDefinition(by: by, note: note) : nil)
        var (reports, refused): ([RunReport], NoNewRun?) = ([], nil)
        do {
          reports = try await runtime.run(resumeOnly: resumeOnly)
        } catch let error as NoNewRun {
          (reports, refused) = (error.reports, error)
        } catch let error as DefinitionError where preparation.hasChangedRuns {
          refused = NoNewRun(why: error, reports: [], postponed: nil)
        }
        return (preparation, reports, try await runtime.openQuarantine(), refused)
      }
      // This error has priority, because no new run can start before it is corrected.
      if let refused { options.logger.critical("\(refused)") }
      let status = refused == nil ? ExitStatus(of: reports, openLines: openLines) : .usage
      let error =
        refused.map { Failure(of: $0) }
        ?? Failure(of: reports, openLines: openLines, status)
      try options.write(RunResult(preparation, reports, error: error)) {
        reports.isEmpty
          ? "no run is unfinished"
          : reports.map(\.table).joined(separator: "\n\n")
      }
      guard status == .done else { throw status }
      if skipIfIdle, reports.allSatisfy(\.isIdle) { throw ExitStatus.idle }
    }
  }
}

/// The decisions about open runs that were carried out before the stages started.
private struct RunPreparation: Sendable {
  let givenUp: [PipelineRuntime.GivenUp]?
  let adopted: [PipelineRuntime.Adopted]?

  var hasChangedRuns: Bool { givenUp?.isEmpty == false || adopted?.isEmpty == false }
}

/// The result of `lethe run`: the newest run's report, with the reports of earlier runs in `finished_earlier`.
private struct RunResult: Encodable {
  let preparation: RunPreparation
  let newest: RunReport?
  let finishedEarlier: [RunReport]
  /// Describes why no new run could start, or else the work that waits for an operator, in any of the runs. Nil if
  /// there is neither.
  let error: Failure?

  init(_ preparation: RunPreparation, _ reports: [RunReport], error: Failure?) {
    self.preparation = preparation
    self.error = error
    newest = reports.last
    finishedEarlier = reports.dropLast()
  }

  /// The largest resident memory of this process so far.
  private static var peakMemoryBytes: Int {
    var usage = rusage()
    getrusage(RUSAGE_SELF.rawValue, &usage)
    return usage.ru_maxrss * 1024
  }

  enum CodingKeys: String, CodingKey {
    case finishedEarlier = "finished_earlier"
    case peakMemoryBytes = "peak_memory_bytes"
    case status, error, adopted
    case givenUp = "given_up"
  }

  func encode(to encoder: any Encoder) throws {
    try newest?.encode(to: encoder)
    var container = encoder.container(keyedBy: CodingKeys.self)
    if newest == nil { try container.encode(error == nil ? "idle" : "failed", forKey: .status) }
    try container.encodeIfPresent(error, forKey: .error)
    try container.encodeIfPresent(preparation.givenUp, forKey: .givenUp)
    try container.encodeIfPresent(preparation.adopted, forKey: .adopted)
    try container.encode(finishedEarlier, forKey: .finishedEarlier)
    try container.encode(Self.peakMemoryBytes, forKey: .peakMemoryBytes)
  }
}

extension RunReport {
  /// Whether there was no ID to check.
  var isIdle: Bool { datasets.values.allSatisfy { $0.ids == 0 } }

  /// The report as text for people.
  var table: String {
    if let unfit { return "\(unfit.message)\n  remedy: \(unfit.remedy)" }
    var totals = Table(
      "dataset", "IDs", "left out", "chunks", "jobs", "events", "quarantined",
      "seconds by stage")
    for (name, dataset) in datasets.sorted(by: { $0.key < $1.key }) {
      let waits = dataset.pacedSeconds > 0 ? " (waits: \(dataset.pacedSeconds))" : ""
      let seconds = Stage.allCases.compactMap { stage in
        dataset.seconds[stage.rawValue].map {
          "\(stage.rawValue) \($0)\(stage == .apply ? waits : "")"
        }
      }
      totals.add(
        name, grouped(dataset.ids), grouped(dataset.rowsLeftOut), grouped(dataset.chunks),
        grouped(dataset.jobs),
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
    parts += leftOut
    parts += setAside.map(\.notice)
    parts += failures.filter { !setAside.map(\.reason).contains($0) }.map {
      "failed: \($0)\n  remedy: fix the cause; the next lethe run exports the dataset again"
    }
    parts += refused.paragraphs
    if let othersLeft {
      parts.append(
        """
        \(grouped(othersLeft)) other chunks or events of the run still wait for a decision
          remedy: run lethe status to see them, each with its command
        """)
    }
    if quarantineOpen > 0 { parts.append(quarantine) }
    return parts.joined(separator: "\n\n")
  }

  private var noChange: String {
    if isCompletelyDone { return "no row had to be changed: all are as intended" }
    if status == .done, rowsLeftOut > 0, stopped.isEmpty, quarantineOpen == 0 {
      return "no row of the checked IDs had to be changed; other rows were left out: see below"
    }
    return status == .running
      ? "no row has been changed yet"
      : "no row was changed, and the run is not complete: see below"
  }

  /// The rows that the API was not asked about.
  private var leftOut: [String] {
    let stopped = Dictionary(uniqueKeysWithValues: stoppedDatasets.map { ($0.dataset, $0) })
    return datasets.sorted { $0.key < $1.key }.compactMap { name, dataset in
      if let stopped = stopped[name] {
        return "the dataset \(name) is not exported: \(stopped.reason)\n  remedy: \(stopped.remedy)"
      }
      guard dataset.rowsLeftOut > 0 else { return nil }
      let causes = LeftOutCause.allCases.compactMap { cause in
        dataset.leftOut[cause.rawValue].map { "\(grouped($0)) \(cause.phrase)" }
      }
      return """
        \(name): \(grouped(dataset.rowsLeftOut)) rows were left out, and X was not asked about them: \
        \(causes.joined(separator: ", "))
          remedy: run lethe check
        """
    }
  }

  private var quarantine: String {
    let earlier = quarantineOpen - quarantined
    let ofEarlier = earlier > 0 ? ", \(grouped(earlier)) of them from earlier runs" : ""
    return """
      quarantine: \(grouped(quarantineOpen)) lines were not applied\(ofEarlier)
        remedy: run lethe quarantine list to see them; resolve them with lethe quarantine retry or dismiss
      """
  }
}

extension [RunReport.RefusedEvent] {
  /// One paragraph for each chunk and cause.
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
