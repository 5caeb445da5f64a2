internal import DefinitionFiles
import Foundation
import SQLText
import Vocabulary

/// Converts a written pipeline to one that can run: fills in variables and defaults, and checks the values. It
/// continues after a mistake, so that all mistakes are reported at once.
struct Resolver {
  let file: String
  let written: WrittenPipeline
  let interpolation: Interpolation
  let mistakes: Mistakes
  /// If false, the pipeline gets an empty token, no proxies and no additional certificates.
  let readsToken: Bool

  /// The largest upload. The API's own host accepts 128 MB, and 1 MB can mean 10^6 or 2^20 bytes. A storage host
  /// accepts 1 GB.
  private static let chunkBytesLimits = (native: 120_000_000, gcs: 1_000_000_000)
  private static let chunkDefaults = (ids: 6_000_000, bytes: 120_000_000)
  private static let batchDefaults = BatchLimits(events: 10_000, rows: 20_000)
  private static let leaseSecondsDefault = 120
  /// A shorter lease could expire while the database is busy. A longer one would block the pipeline for a long time
  /// after a machine has failed.
  private static let leaseSecondsLimits = 15...3600
  /// The largest timeout. PostgreSQL stores timeouts as milliseconds in 32 bits.
  private static let timeoutSecondsMax = 2_000_000.0

  /// The pipeline that can run.
  /// - Returns: nil if there are mistakes. They are recorded.
  func pipeline() -> Pipeline? {
    let name = written.name.flatMap { plainName($0, "the pipeline's name") }
    let warehouse = written.warehouse.flatMap(filled)
    let timeouts = timeouts()
    let api = written.api.flatMap(api)
    let limits = limits()
    let leaseSeconds = leaseSeconds()
    let datasets = written.datasets.compactMap(dataset)
    let pace = pace(for: datasets)
    guard mistakes.areNone, let name, let warehouse, let api else { return nil }
    return Pipeline(
      file: file, definition: Definition(name: name, limits: limits, datasets: datasets),
      warehouse: ConnectionString(warehouse, timeouts: timeouts), api: api,
      leaseSeconds: leaseSeconds, pace: pace, lines: written.lines)
  }

  private func leaseSeconds() -> Int {
    guard let written = written.timeouts?.leaseSeconds else { return Self.leaseSecondsDefault }
    if !Self.leaseSecondsLimits.contains(written.value) {
      mistakes.note(
        written.line,
        """
        timeouts.lease_seconds is not between \(Self.leaseSecondsLimits.lowerBound) and \
        \(Self.leaseSecondsLimits.upperBound)
        """,
        "write a whole number of seconds; the default is \(Self.leaseSecondsDefault)")
    }
    return written.value
  }

  private func timeouts() -> SessionTimeouts {
    let written = written.timeouts
    return SessionTimeouts(
      statementSeconds: written?.statementSeconds.map {
        timeout($0, "timeouts.statement_seconds", default: 0)
      },
      lockSeconds: timeout(
        written?.lockSeconds, "timeouts.lock_seconds", default: SessionTimeouts.lockSecondsDefault),
      statementName: "timeouts.statement_seconds of the definition")
  }

  private func timeout(_ value: Located<Double>?, _ key: String, default: Double) -> Double {
    let seconds = positive(value, key, default: `default`)
    guard let value, seconds > 0, !(0.001...Self.timeoutSecondsMax).contains(seconds) else {
      return seconds
    }
    mistakes.note(
      value.line, "\(key) is not between 0.001 and \(Int(Self.timeoutSecondsMax))",
      "write a number of seconds")
    return seconds
  }

  // MARK: Limits

  private func limits() -> RedactionLimits {
    let overall = written.limits.map { limits($0.overall) }
    var reasons: [Reason: ReasonLimits] = [:]
    for (word, limit) in written.limits?.reasons ?? [] {
      let resolved = limit.map { limits($0) }
      guard let reason = Reason(word: word.value) else {
        mistakes.note(
          word.line, "unknown reason \(YAMLMap.shown(word.value)) in limits.reasons",
          "the reasons are \(Reason.allCases.map(\.rawValue).joined(separator: ", "))")
        continue
      }
      if reasons[reason] != nil {
        mistakes.note(
          word.line, "limits.reasons has \(reason.rawValue) twice",
          "keep one of them: scrub_geo and geo_scrubbed are the same reason")
      }
      reasons[reason] = resolved
    }
    return RedactionLimits(
      maxRedactedPercent: overall?.maxRedactedPercent ?? 20,
      maxRedactedRows: overall?.maxRedactedRows ?? 1_000_000, reasons: reasons,
      allowsWholeChunks: written.limits?.allowWholeChunks?.value ?? false,
      maxRestoredPercent: percent(
        written.limits?.maxRestoredPercent, "limits.max_restored_percent")
        ?? RedactionLimits.maxRestoredPercentDefault,
      maxRestoredRows: rows(written.limits?.maxRestoredRows, "limits.max_restored_rows")
        ?? RedactionLimits.maxRestoredRowsDefault,
      maxSkippedPercent: percent(
        written.limits?.maxSkippedPercent, "limits.max_skipped_percent"))
  }

  private func limits(_ limit: WrittenLimit) -> ReasonLimits {
    ReasonLimits(
      maxRedactedPercent: percent(limit.maxRedactedPercent, "\(limit.path).max_redacted_percent"),
      maxRedactedRows: rows(limit.maxRedactedRows, "\(limit.path).max_redacted_rows"))
  }

  private func percent(_ value: Located<Double>?, _ key: String) -> Double? {
    guard let value else { return nil }
    guard (0...100).contains(value.value) else {
      return fault(value.line, "\(key) is not between 0 and 100", "write a percentage")
    }
    return value.value
  }

  private func rows(_ value: Located<Int>?, _ key: String) -> Int? {
    guard let value else { return nil }
    guard value.value >= 0 else {
      return fault(value.line, "\(key) is negative", "write a number of rows")
    }
    return value.value
  }

  // MARK: Datasets

  private func dataset(_ dataset: WrittenDataset) -> Dataset? {
    let name = plainName(dataset.name, "the dataset's name")
    let type = dataset.type.flatMap(jobType)
    let table = dataset.table.flatMap(table)
    let id = dataset.id.flatMap(idSource)
    let condition = dataset.condition.flatMap(filled)
    let ids = atLeastOne(dataset.chunkIDs, "chunk.ids", default: Self.chunkDefaults.ids)
    let bytes = chunkBytes(dataset)
    let actions = dataset.actions.map { self.actions($0, type: type, list: .dataset) }
    let targets = dataset.targets.compactMap { target($0, type: type) }
    let idTime = dataset.idTime.flatMap { self.idTime($0, type: type) }
    let batch = batch(dataset)
    guard let name, let type, let table, let id, let actions else { return nil }
    return Dataset(
      name: name, type: type, table: table, id: id, condition: condition, chunkIDsMax: ids,
      chunkBytesMax: bytes, actions: actions, targets: targets,
      tombstones: dataset.tombstones?.value ?? true, idTimeColumn: idTime, batch: batch)
  }

  private func chunkBytes(_ dataset: WrittenDataset) -> Int {
    let bytes = atLeastOne(dataset.chunkBytes, "chunk.bytes", default: Self.chunkDefaults.bytes)
    guard let line = dataset.chunkBytes?.line, bytes > 0 else { return bytes }
    let limits = Self.chunkBytesLimits
    let usesStorageHost = written.api?.profile?.value == UploadProfile.gcs.rawValue
    if bytes > (usesStorageHost ? limits.gcs : limits.native) {
      mistakes.note(
        line, "chunk.bytes is larger than the API's limit for one upload",
        "write at most \(limits.native), or at most \(limits.gcs) with api.profile: gcs")
    } else if bytes < 20 {
      mistakes.note(line, "chunk.bytes is too small for one ID", "write at least 20")
    }
    return bytes
  }

  private func jobType(_ word: Located<String>) -> JobType? {
    guard let text = filled(word) else { return nil }
    return JobType(rawValue: text)
      ?? fault(word.line, "unknown type \(word.value)", "write type: tweets or users")
  }

  private func batch(_ dataset: WrittenDataset) -> BatchLimits? {
    let limits = BatchLimits(
      events: atLeastOne(dataset.batch, "batch", default: Self.batchDefaults.events),
      rows: atLeastOne(dataset.batchRows, "batch_rows", default: Self.batchDefaults.rows))
    guard let atomic = dataset.atomic else { return limits }
    guard atomic.value == "chunk" else {
      return fault(atomic.line, "unknown atomic: \(atomic.value)", "write atomic: chunk")
    }
    if let batch = dataset.batch ?? dataset.batchRows {
      mistakes.note(
        batch.line, "batch and atomic cannot be used together", "keep batch: or atomic: chunk")
    }
    return nil
  }

  private func idTime(_ column: Located<String>, type: JobType?) -> String? {
    guard type != .users else {
      return fault(
        column.line, "id_time is for the time in a post's ID, but the IDs are users' IDs",
        "leave it out")
    }
    return filled(column)
  }

  /// - Parameters:
  ///   - type: the type of the dataset's IDs. Nil if it is unknown.
  ///   - isReachedByEvents: whether `match` contains the event's own ID.
  private func target(
    _ target: WrittenTarget, type: JobType?, isReachedByEvents: Bool = true
  ) -> Target? {
    noteMisplacedKeys(of: target, isReachedByEvents: isReachedByEvents)
    let table = target.table.flatMap(table)
    let match = target.match.flatMap(idSource)
    let id = target.id.flatMap(idSource)
    let rowType = rowType(target)
    let idTime =
      isReachedByEvents ? target.idTime.flatMap { self.idTime($0, type: type) } : nil
    let actions = target.actions.map { self.actions($0, type: type, list: .target) }
    let targets = target.targets.compactMap {
      self.target($0, type: type, isReachedByEvents: false)
    }
    guard let table, let match, let actions else { return nil }
    return Target(
      table: table, match: match, id: id, type: rowType, idTimeColumn: idTime, actions: actions,
      targets: targets)
  }

  private func noteMisplacedKeys(of target: WrittenTarget, isReachedByEvents: Bool) {
    if let idTime = target.idTime, !isReachedByEvents {
      mistakes.note(
        idTime.line, "id_time needs the event's own ID in match",
        "leave it out of targets within targets")
    }
    if !target.targets.isEmpty, !target.hasID {
      mistakes.note(
        target.table?.line ?? target.line, "this target has targets, but no id",
        "add id: the column of \(target.table?.value ?? "its table") that they match")
    }
  }

  private enum ActionList {
    case dataset
    case target
  }

  /// - Parameter type: nil if it is unknown. Then a reason is a mistake only if no type has it.
  private func actions(
    _ written: WrittenActions, type: JobType?, list: ActionList
  ) -> [Reason: Action] {
    let documented = type.map(Reason.documented) ?? Reason.allCases
    var actions: [Reason: Action] = [:]
    var named: Set<Reason> = []
    var unknown: [String] = []
    for (word, action) in written.entries {
      guard let reason = Reason(word: word.value), documented.contains(reason) else {
        unknown.append(word.value)
        noteUnknownReason(word, in: written.path, type: type, documented)
        continue
      }
      if !named.insert(reason).inserted {
        mistakes.note(
          word.line, "\(written.path) has the reason \(reason.rawValue) twice",
          "keep one of them: scrub_geo and geo_scrubbed are the same reason")
      }
      actions[reason] = action.flatMap {
        checked($0, for: word, in: written.path, list: list)
      }
    }
    if list == .dataset, type != nil {
      noteMissing(documented.filter { !named.contains($0) }, of: written, excluding: unknown)
    }
    return actions
  }

  private func noteUnknownReason(
    _ word: Located<String>, in path: String, type: JobType?, _ documented: [Reason]
  ) {
    let words = documented.map(\.rawValue).joined(separator: ", ")
    let meant = YAMLMap.nearest(to: word.value, among: documented.map(\.rawValue))
    mistakes.note(
      word.line, "unknown reason \(YAMLMap.shown(word.value)) in \(path)",
      (meant.map { "did you mean \($0)? " } ?? "")
        + (type.map { "a job of type \($0.rawValue) has the reasons \(words)" }
          ?? "the reasons are \(words)"))
  }

  /// Records reasons without an action.
  /// - Parameter unknown: unknown words in the list. Each of them can be a missing reason with a spelling mistake.
  private func noteMissing(
    _ missing: [Reason], of written: WrittenActions, excluding unknown: [String]
  ) {
    guard missing.count > unknown.count else { return }
    for reason in missing
    where !unknown.contains(where: { YAMLMap.nearest(to: $0, among: [reason.rawValue]) != nil }) {
      mistakes.note(
        written.line, "\(written.path) has no action for the reason \(reason.rawValue)",
        "add \(reason.rawValue): with an action; write ignore to do nothing")
    }
  }

  private func checked(
    _ action: Action, for reason: Located<String>, in path: String, list: ActionList
  ) -> Action? {
    if Reason(word: reason.value) == .geoScrubbed, action.isRemoving {
      return fault(
        reason.line,
        "\(path).\(reason.value) would \(action.word) a post that only lost its location",
        "write {scrub_geo: [column, …]} or ignore")
    }
    if list == .target, action.kind.queuesIDs, action.kind.operation == nil {
      return fault(
        reason.line, "\(path).\(reason.value): a target cannot be rehydrated, only the ID itself",
        "move rehydrate to the dataset's own actions, or write {rehydrate: {set: {column: value}}}"
      )
    }
    return action
  }

  // MARK: Values

  private func plainName(_ name: Located<String>, _ what: String) -> String? {
    guard let text = filled(name) else { return nil }
    guard text.count <= 32, let first = text.utf8.first, first != UInt8(ascii: "-"),
      text.utf8.allSatisfy({ byte in
        (0x61...0x7A).contains(byte) || (0x30...0x39).contains(byte) || byte == 0x2D || byte == 0x5F
      })
    else {
      return fault(
        name.line, "\(what) is not valid: \(text)",
        "use 1 to 32 of the characters a-z, 0-9, - and _, with no - at the beginning")
    }
    return text
  }

  func table(_ name: Located<String>) -> TableName? {
    guard let text = filled(name) else { return nil }
    return TableName(text)
      ?? fault(
        name.line, "not a table's name: \(name.value)",
        "write schema.table; put parts with spaces or dots in double quotes")
  }

  func atLeastOne(_ value: Located<Int>?, _ key: String, default: Int) -> Int {
    guard let value else { return `default` }
    if value.value < 1 {
      mistakes.note(value.line, "\(key) is not at least 1", "write a positive number")
    }
    return value.value
  }

  private static let numberMax = 1e9

  func positive(_ value: Located<Double>?, _ key: String, default: Double) -> Double {
    guard let value else { return `default` }
    if !(value.value > 0 && value.value.isFinite) {
      mistakes.note(
        value.line, "\(key) is not a finite number greater than 0", "write a positive number")
    } else if value.value > Self.numberMax {
      // A far larger number of seconds would exceed the range of durations.
      mistakes.note(
        value.line, "\(key) is greater than \(Int(Self.numberMax))", "write a smaller number")
    }
    return value.value
  }

  func filled(_ text: Located<String>) -> String? {
    let (result, faults) = interpolation.fill(text.value)
    for fault in faults { mistakes.note(text.line, fault.message, fault.remedy) }
    return faults.isEmpty ? result : nil
  }

  func filled(_ texts: Located<[String]>) -> [String] {
    texts.value.compactMap { filled(Located(value: $0, line: texts.line)) }
  }

  /// Records a mistake.
  /// - Returns: nil.
  func fault<Value>(_ line: Int, _ message: String, _ remedy: String) -> Value? {
    mistakes.note(line, message, remedy)
    return nil
  }
}
