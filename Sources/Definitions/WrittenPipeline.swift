internal import DefinitionFiles
internal import Yams

/// A pipeline as its file has it: keys and shapes checked, words and values not yet.
struct WrittenPipeline {
  let file: String
  let name: Located<String>
  let warehouse: Located<String>
  let api: WrittenAPI
  let limits: WrittenLimits?
  let datasets: [WrittenDataset]
  /// The line that each key stands on, by its path.
  let lines: [String: Int]

  init(yaml: String, file: String) throws {
    let root = try YAMLMap.compose(
      yaml, file: file, whenEmpty: "begin with name:, warehouse:, api: and datasets:")
    let map = try YAMLMap(
      root, file: file, path: "", keys: ["name", "warehouse", "api", "limits", "datasets"])
    self.file = file
    lines = Self.lines(of: root, path: "")
    name = try map.requiredString("name")
    warehouse = try map.requiredString("warehouse")
    api = try WrittenAPI(
      YAMLMap(
        map.requiredNode("api"), file: file, path: "api", keys: WrittenAPI.keys))
    limits = try map.map("limits", keys: WrittenLimits.keys).map(WrittenLimits.init)
    let sets = try YAMLMap(
      map.requiredNode("datasets"), file: file, path: "datasets", keys: nil)
    datasets = try sets.entries.map { name, node in
      try WrittenDataset(
        name: name,
        YAMLMap(node, file: file, path: sets.name(name.value), keys: WrittenDataset.keys))
    }
  }

  private static func lines(of node: Node, path: String) -> [String: Int] {
    var lines: [String: Int] = [:]
    for (key, value) in node.mapping ?? [:] {
      let inner = path.isEmpty ? key.string ?? "" : "\(path).\(key.string ?? "")"
      lines[inner] = key.mark?.line
      lines.merge(Self.lines(of: value, path: inner)) { first, _ in first }
    }
    for (index, value) in (node.sequence ?? []).enumerated() {
      lines["\(path)[\(index)]"] = value.mark?.line
      lines.merge(Self.lines(of: value, path: "\(path)[\(index)]")) { first, _ in first }
    }
    return lines
  }
}

struct WrittenAPI {
  static let keys = [
    "base_url", "bearer_token", "bearer_token_file", "allowed_hosts", "poll_seconds",
    "poll_seconds_max", "job_attempts", "job_hours_max",
  ]
  let line: Int
  let baseURL: Located<String>?
  let bearerToken: Located<String>?
  let bearerTokenFile: Located<String>?
  let allowedHosts: Located<[String]>?
  let pollSeconds: Located<Double>?
  let pollSecondsMax: Located<Double>?
  let jobAttempts: Located<Int>?
  let jobHoursMax: Located<Double>?

  init(_ map: YAMLMap) throws {
    line = map.line
    baseURL = try map.string("base_url")
    bearerToken = try map.string("bearer_token")
    bearerTokenFile = try map.string("bearer_token_file")
    allowedHosts = try map.strings("allowed_hosts")
    pollSeconds = try map.double("poll_seconds")
    pollSecondsMax = try map.double("poll_seconds_max")
    jobAttempts = try map.integer("job_attempts")
    jobHoursMax = try map.double("job_hours_max")
  }
}

struct WrittenLimits {
  private static let restoreKeys = ["max_restored_percent", "max_restored_rows"]
  static let keys =
    WrittenLimit.keys + restoreKeys + ["max_skipped_percent", "allow_whole_chunks", "reasons"]
  let overall: WrittenLimit
  let maxRestoredPercent: Located<Double>?
  let maxRestoredRows: Located<Int>?
  let maxSkippedPercent: Located<Double>?
  let reasons: [(reason: Located<String>, limit: WrittenLimit)]
  let allowWholeChunks: Located<Bool>?

  init(_ map: YAMLMap) throws {
    overall = try WrittenLimit(map)
    maxRestoredPercent = try map.double("max_restored_percent")
    maxRestoredRows = try map.integer("max_restored_rows")
    maxSkippedPercent = try map.double("max_skipped_percent")
    allowWholeChunks = try map.bool("allow_whole_chunks")
    let reasons = try map.map("reasons", keys: nil)
    self.reasons = try (reasons?.entries ?? []).map { reason, node in
      try Self.requireNoRestores(node, "limits.reasons.\(reason.value)", map)
      return try (
        reason,
        WrittenLimit(
          YAMLMap(
            node, file: map.file, path: "limits.reasons.\(reason.value)", keys: WrittenLimit.keys))
      )
    }
  }

  /// A restore follows from what an ID is no longer, and so from no single reason.
  private static func requireNoRestores(_ node: Node, _ path: String, _ map: YAMLMap) throws {
    let entry = (node.mapping ?? [:]).first { restoreKeys.contains($0.key.string ?? "") }
    guard let entry, let key = entry.key.string else { return }
    throw DefinitionError(
      file: map.file, line: entry.key.mark?.line ?? map.line,
      message: "\(path).\(key): restores have no limit for a single reason",
      remedy: "write \(key): below limits: itself")
  }
}

struct WrittenLimit {
  static let keys = ["max_redacted_percent", "max_redacted_rows"]
  let path: String
  let maxRedactedPercent: Located<Double>?
  let maxRedactedRows: Located<Int>?

  init(_ map: YAMLMap) throws {
    path = map.path
    maxRedactedPercent = try map.double("max_redacted_percent")
    maxRedactedRows = try map.integer("max_redacted_rows")
  }
}

struct WrittenDataset {
  static let keys = [
    "type", "table", "id", "id_time", "where", "chunk", "actions", "targets", "tombstones", "batch",
    "batch_rows", "atomic",
  ]
  let name: Located<String>
  let type: Located<String>
  let table: Located<String>
  let id: WrittenIDSource
  let idTime: Located<String>?
  let condition: Located<String>?
  let chunkIDs: Located<Int>?
  let chunkBytes: Located<Int>?
  let actions: WrittenActions
  let targets: [WrittenTarget]
  let tombstones: Located<Bool>?
  let batch: Located<Int>?
  let batchRows: Located<Int>?
  let atomic: Located<String>?

  init(name: Located<String>, _ map: YAMLMap) throws {
    self.name = name
    type = try map.requiredString("type")
    table = try map.requiredString("table")
    id = try WrittenIDSource.required("id", in: map)
    idTime = try map.string("id_time")
    condition = try map.string("where")
    let chunk = try map.map("chunk", keys: ["ids", "bytes"])
    chunkIDs = try chunk?.integer("ids")
    chunkBytes = try chunk?.integer("bytes")
    actions = try WrittenActions(map)
    targets = try WrittenTarget.list(map)
    tombstones = try map.bool("tombstones")
    batch = try map.integer("batch")
    batchRows = try map.integer("batch_rows")
    atomic = try map.string("atomic")
  }
}

struct WrittenTarget {
  let table: Located<String>
  let match: WrittenIDSource
  let id: WrittenIDSource?
  let type: Located<String>?
  let idTime: Located<String>?
  let actions: WrittenActions
  let targets: [WrittenTarget]

  static func list(_ map: YAMLMap) throws -> [WrittenTarget] {
    guard let node = map.node("targets") else { return [] }
    let path = map.name("targets")
    guard let sequence = node.sequence else {
      throw map.wrongType(path, node, "a list of targets, each with table, match and actions")
    }
    return try sequence.enumerated().map { index, node in
      try WrittenTarget(
        YAMLMap(
          node, file: map.file, path: "\(path)[\(index)]",
          keys: ["table", "match", "id", "type", "id_time", "actions", "targets"]))
    }
  }

  private init(_ map: YAMLMap) throws {
    table = try map.requiredString("table")
    match = try WrittenIDSource.required("match", in: map)
    id = try WrittenIDSource.optional("id", in: map)
    type = try map.string("type")
    idTime = try map.string("id_time")
    actions = try WrittenActions(map)
    targets = try Self.list(map)
  }
}

/// The `actions:` of a dataset or target: a reason a line.
struct WrittenActions {
  let path: String
  let line: Int
  let entries: [(reason: Located<String>, action: WrittenAction)]

  init(_ parent: YAMLMap) throws {
    let map = try YAMLMap(
      parent.requiredNode("actions"), file: parent.file, path: parent.name("actions"), keys: nil)
    path = map.path
    line = map.line
    entries = try map.entries.map { reason, node in
      (reason, try WrittenAction(node, in: map, reason: reason.value))
    }
  }
}
