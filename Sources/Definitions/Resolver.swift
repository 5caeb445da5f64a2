internal import DefinitionFiles
import Foundation
import PostgreSQL
import Vocabulary

/// Turns a pipeline as written into one that can run: fills variables and defaults in, and checks
/// what a shape alone does not tell.
struct Resolver {
  let written: WrittenPipeline
  let interpolation: Interpolation

  /// Above it an upload is refused by the API with 413: 128 MB, which may mean 10^6 or 2^20.
  private static let chunkBytesLimit = 128_000_000
  private static let chunkDefaults = (ids: 6_000_000, bytes: 120_000_000)
  private static let batchDefaults = BatchLimits(events: 10_000, rows: 20_000)

  func pipeline() throws -> Pipeline {
    guard !written.datasets.isEmpty else {
      throw fault(written.name.line, "there is no dataset", "add one below datasets:")
    }
    return Pipeline(
      file: written.file,
      definition: Definition(
        name: try plainName(written.name, "the pipeline's name"), limits: try limits(),
        datasets: try written.datasets.map(dataset)),
      warehouse: ConnectionString(try filled(written.warehouse)), api: try api(),
      lines: written.lines)
  }

  // MARK: The API

  private func api() throws -> APISettings {
    let (url, host) = try baseURL()
    let poll = try positive(written.api.pollSeconds, "api.poll_seconds", default: 30)
    return APISettings(
      baseURL: url, token: try token(),
      allowedHosts: try (written.api.allowedHosts.map(filled) ?? []) + [host],
      pollSeconds: poll,
      pollSecondsMax: max(
        poll, try positive(written.api.pollSecondsMax, "api.poll_seconds_max", default: 60)),
      jobAttemptsMax: try atLeastOne(written.api.jobAttempts, "api.job_attempts", default: 3),
      jobHoursMax: try positive(written.api.jobHoursMax, "api.job_hours_max", default: 24))
  }

  private func baseURL() throws -> (url: String, host: String) {
    let line = written.api.baseURL?.line ?? written.api.line
    let text = try written.api.baseURL.map(filled) ?? "https://api.x.com"
    let url = text.hasSuffix("/") ? String(text.dropLast()) : text
    guard let parts = URLComponents(string: url), let host = parts.host, !host.isEmpty,
      ["http", "https"].contains(parts.scheme), parts.path.isEmpty, parts.query == nil,
      parts.fragment == nil, parts.user == nil, parts.password == nil
    else {
      throw fault(
        line, "api.base_url is not a URL of a host alone",
        "write it like https://api.x.com, without a path")
    }
    let isLoopback = ["localhost", "127.0.0.1", "::1", "[::1]"].contains(host)
    guard parts.scheme == "https" || isLoopback else {
      throw fault(
        line, "api.base_url would send the token unencrypted to \(host)",
        "use https; http is for this machine's own addresses")
    }
    return (url, parts.port.map { "\(host):\($0)" } ?? host)
  }

  private func token() throws -> BearerToken {
    switch (written.api.bearerToken, written.api.bearerTokenFile) {
    case (.some(let token), nil):
      return try bearerToken(try filled(token), line: token.line, from: "api.bearer_token")
    case (nil, .some(let path)):
      let file = try filled(path)
      guard let text = try? String(contentsOfFile: file, encoding: .utf8) else {
        throw fault(
          path.line, "cannot read the token's file \(file)", "check the path and its permissions")
      }
      return try bearerToken(
        text.trimmingCharacters(in: .whitespacesAndNewlines), line: path.line, from: file)
    case (nil, nil):
      throw fault(
        written.api.line, "api has no token",
        "add bearer_token: ${X_BEARER_TOKEN} or bearer_token_file: PATH")
    case (.some, .some(let path)):
      throw fault(path.line, "api has two tokens", "keep bearer_token or bearer_token_file")
    }
  }

  private func bearerToken(
    _ text: String, line: Int, from source: String
  ) throws -> BearerToken {
    guard !text.isEmpty, text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
      throw fault(
        line, "the token from \(source) is empty or has spaces or line breaks in it",
        "put the App's Bearer token there, and nothing else")
    }
    return BearerToken(text)
  }

  // MARK: Limits

  private func limits() throws -> RedactionLimits {
    let overall = try written.limits.map { try limits($0.overall) }
    var reasons: [Reason: ReasonLimits] = [:]
    for (word, limit) in written.limits?.reasons ?? [] {
      guard let reason = Reason(word: word.value) else {
        throw fault(
          word.line, "unknown reason \(word.value) in limits.reasons",
          "the reasons are \(Reason.allCases.map(\.rawValue).joined(separator: ", "))")
      }
      guard reasons[reason] == nil else {
        throw fault(
          word.line, "limits.reasons has \(reason.rawValue) twice",
          "keep one: scrub_geo and geo_scrubbed are the same reason")
      }
      reasons[reason] = try limits(limit)
    }
    return RedactionLimits(
      maxRedactedPercent: overall?.maxRedactedPercent ?? 20,
      maxRedactedRows: overall?.maxRedactedRows ?? 1_000_000, reasons: reasons,
      allowsWholeChunks: written.limits?.allowWholeChunks?.value ?? false,
      maxRestoredPercent: try percent(
        written.limits?.maxRestoredPercent, "limits.max_restored_percent")
        ?? RedactionLimits.maxRestoredPercentDefault,
      maxRestoredRows: try rows(written.limits?.maxRestoredRows, "limits.max_restored_rows")
        ?? RedactionLimits.maxRestoredRowsDefault,
      maxSkippedPercent: try percent(
        written.limits?.maxSkippedPercent, "limits.max_skipped_percent"))
  }

  private func limits(_ limit: WrittenLimit) throws -> ReasonLimits {
    ReasonLimits(
      maxRedactedPercent: try percent(
        limit.maxRedactedPercent, "\(limit.path).max_redacted_percent"),
      maxRedactedRows: try rows(limit.maxRedactedRows, "\(limit.path).max_redacted_rows"))
  }

  private func percent(_ value: Located<Double>?, _ key: String) throws -> Double? {
    guard let value else { return nil }
    guard (0...100).contains(value.value) else {
      throw fault(value.line, "\(key) is not within 0 and 100", "write a percentage")
    }
    return value.value
  }

  private func rows(_ value: Located<Int>?, _ key: String) throws -> Int? {
    guard let value else { return nil }
    guard value.value >= 0 else {
      throw fault(value.line, "\(key) is negative", "write a number of rows")
    }
    return value.value
  }

  // MARK: Datasets

  private func dataset(_ dataset: WrittenDataset) throws -> Dataset {
    let type = try jobType(dataset)
    let bytes = try atLeastOne(
      dataset.chunkBytes, "chunk.bytes", default: Self.chunkDefaults.bytes)
    guard bytes <= Self.chunkBytesLimit else {
      throw fault(
        dataset.chunkBytes?.line ?? dataset.name.line,
        "chunk.bytes is over what the API takes in one upload",
        "keep it at or under \(Self.chunkDefaults.bytes)")
    }
    guard bytes >= 20 else {
      throw fault(
        dataset.chunkBytes?.line ?? dataset.name.line, "chunk.bytes cannot hold one ID",
        "write at least 20")
    }
    return Dataset(
      name: try plainName(dataset.name, "the dataset's name"), type: type,
      table: try table(dataset.table), id: try idSource(dataset.id),
      condition: try dataset.condition.map(filled),
      chunkIDsMax: try atLeastOne(
        dataset.chunkIDs, "chunk.ids", default: Self.chunkDefaults.ids),
      chunkBytesMax: bytes,
      actions: try actions(dataset.actions, type: type, place: .dataset),
      targets: try dataset.targets.map { try target($0, type: type) },
      tombstones: dataset.tombstones?.value ?? true,
      idTimeColumn: try dataset.idTime.map { try idTime($0, type: type) },
      batch: try batch(dataset))
  }

  private func jobType(_ dataset: WrittenDataset) throws -> JobType {
    guard let type = JobType(rawValue: try filled(dataset.type)) else {
      throw fault(
        dataset.type.line, "unknown type \(dataset.type.value)", "write type: tweets or users")
    }
    return type
  }

  private func batch(_ dataset: WrittenDataset) throws -> BatchLimits? {
    guard let atomic = dataset.atomic else {
      return BatchLimits(
        events: try atLeastOne(dataset.batch, "batch", default: Self.batchDefaults.events),
        rows: try atLeastOne(dataset.batchRows, "batch_rows", default: Self.batchDefaults.rows))
    }
    guard atomic.value == "chunk" else {
      throw fault(atomic.line, "unknown atomic: \(atomic.value)", "write atomic: chunk")
    }
    if let batch = dataset.batch ?? dataset.batchRows {
      throw fault(
        batch.line, "batch and atomic exclude each other", "keep batch: or atomic: chunk")
    }
    return nil
  }

  private func idTime(_ column: Located<String>, type: JobType) throws -> String {
    guard type == .tweets else {
      throw fault(
        column.line, "id_time is about the time in a post's ID, and these IDs are users'",
        "leave it out")
    }
    return try filled(column)
  }

  /// - Parameter isReachedByEvents: whether `match` holds the event's own ID.
  private func target(
    _ target: WrittenTarget, type: JobType, isReachedByEvents: Bool = true
  ) throws -> Target {
    if let idTime = target.idTime, !isReachedByEvents {
      throw fault(
        idTime.line, "id_time needs the event's own ID in match",
        "leave it out of targets within targets")
    }
    if !target.targets.isEmpty, target.id == nil {
      throw fault(
        target.table.line, "a target with targets of its own has no id",
        "add id: the column of \(target.table.value) that they match")
    }
    return Target(
      table: try table(target.table), match: try idSource(target.match),
      id: try target.id.map(idSource), type: try rowType(target),
      idTimeColumn: try target.idTime.map { try idTime($0, type: type) },
      actions: try actions(target.actions, type: type, place: .target),
      targets: try target.targets.map {
        try self.target($0, type: type, isReachedByEvents: false)
      })
  }

  private enum Place {
    case dataset
    case target
  }

  private func actions(
    _ written: WrittenActions, type: JobType, place: Place
  ) throws -> [Reason: Action] {
    let documented = Reason.documented(for: type)
    let words = documented.map(\.rawValue).joined(separator: ", ")
    var actions: [Reason: Action] = [:]
    for (word, action) in written.entries {
      guard let reason = Reason(word: word.value), documented.contains(reason) else {
        throw fault(
          word.line, "unknown reason \(word.value) in \(written.path)",
          "a job of type \(type.rawValue) answers \(words)")
      }
      guard actions[reason] == nil else {
        throw fault(
          word.line, "\(written.path) answers \(reason.rawValue) twice",
          "keep one: scrub_geo and geo_scrubbed are the same reason")
      }
      actions[reason] = try self.action(action, for: word, in: written.path, place: place)
    }
    if place == .dataset, let missing = documented.first(where: { actions[$0] == nil }) {
      throw fault(
        written.line, "\(written.path) has no answer to the reason \(missing.rawValue)",
        "add \(missing.rawValue): with an action; ignore says that nothing is to be done")
    }
    return actions
  }

  private func action(
    _ action: WrittenAction, for reason: Located<String>, in path: String, place: Place
  ) throws -> Action {
    let resolved: Action
    switch action {
    case .word(let word): resolved = try self.action(word: word, in: "\(path).\(reason.value)")
    case .protect(let set, let restore):
      resolved = .protect(set: set, restore: try self.restore(restore, of: set))
    case .rehydrate(let set): resolved = .rehydrate(mark: set)
    case .scrubGeo(let erasure): resolved = .scrubGeo(try checked(erasure))
    case .redact(let erasure): resolved = .redact(try checked(erasure))
    }
    if Reason(word: reason.value) == .geoScrubbed, resolved.isRemoving {
      throw fault(
        reason.line,
        "\(path).\(reason.value) would \(resolved.word) a post that only lost its location",
        "write {scrub_geo: [column, …]} or ignore")
    }
    if place == .target, resolved == .rehydrate(mark: []) {
      throw fault(
        reason.line, "\(path).\(reason.value): a target cannot be rehydrated, only the ID itself",
        "put rehydrate among the dataset's own actions, or write {rehydrate: {set: {column: value}}}"
      )
    }
    return resolved
  }

  private func checked(_ erasure: Located<Erasure>) throws -> Erasure {
    let columns = erasure.value.set.map(\.column) + erasure.value.cut.map(\.column)
    if let twice = columns.first(where: { name in columns.count { $0 == name } > 1 }) {
      throw fault(
        erasure.line, "the column \(twice) is named twice", "name each column once")
    }
    return erasure.value
  }

  private func action(word: Located<String>, in path: String) throws -> Action {
    switch word.value {
    case "delete": return .delete
    case "rehydrate": return .rehydrate(mark: [])
    case "ignore": return .ignore
    case "protect":
      throw fault(
        word.line, "\(path): protect does not say how", "write {protect: {set: {column: value}}}")
    case "scrub_geo":
      throw fault(
        word.line, "\(path): scrub_geo names no columns", "write {scrub_geo: [column, …]}")
    case "redact":
      throw fault(
        word.line, "\(path): redact names no columns", "write {redact: [column, …]}")
    default:
      throw fault(
        word.line, "\(path): unknown action \(word.value)",
        "write delete, rehydrate, ignore, {protect: …}, {scrub_geo: …} or {redact: …}")
    }
  }

  // MARK: Values

  private func plainName(_ name: Located<String>, _ what: String) throws -> String {
    let text = try filled(name)
    guard text.count <= 32, let first = text.utf8.first, first != UInt8(ascii: "-"),
      text.utf8.allSatisfy({ byte in
        (0x61...0x7A).contains(byte) || (0x30...0x39).contains(byte) || byte == 0x2D || byte == 0x5F
      })
    else {
      throw fault(
        name.line, "\(what) is not plain: \(text)",
        "use up to 32 of a-z, 0-9, - and _: it becomes part of file names")
    }
    return text
  }

  func table(_ name: Located<String>) throws -> TableName {
    guard let table = TableName(try filled(name)) else {
      throw fault(
        name.line, "not a table's name: \(name.value)",
        "write schema.table, a part in double quotes if it is unusual")
    }
    return table
  }

  private func atLeastOne(_ value: Located<Int>?, _ key: String, default: Int) throws -> Int {
    guard let value else { return `default` }
    guard value.value >= 1 else {
      throw fault(value.line, "\(key) is not at least 1", "write a positive number")
    }
    return value.value
  }

  private func positive(
    _ value: Located<Double>?, _ key: String, default: Double
  ) throws -> Double {
    guard let value else { return `default` }
    guard value.value > 0, value.value.isFinite else {
      throw fault(value.line, "\(key) is not above 0", "write a positive number")
    }
    return value.value
  }

  func filled(_ text: Located<String>) throws -> String {
    do throws(Interpolation.Fault) {
      return try interpolation.fill(text.value)
    } catch {
      throw fault(text.line, error.message, error.remedy)
    }
  }

  private func filled(_ texts: Located<[String]>) throws -> [String] {
    try texts.value.map { try filled(Located(value: $0, line: texts.line)) }
  }

  func fault(_ line: Int, _ message: String, _ remedy: String) -> DefinitionError {
    DefinitionError(file: written.file, line: line, message: message, remedy: remedy)
  }
}
