internal import DefinitionFiles
internal import Yams

/// A pipeline as its file contains it. Keys and YAML types are checked. Values are not checked yet. If a part has a
/// mistake, the mistake is recorded and the part is nil.
struct WrittenPipeline {
  let name: Located<String>?
  let warehouse: Located<String>?
  let api: WrittenAPI?
  let limits: WrittenLimits?
  let timeouts: WrittenTimeouts?
  let apply: WrittenApply?
  let datasets: [WrittenDataset]
  /// The line of each key and each list item, by its path.
  let lines: [String: Int]

  private static let keys = [
    "name", "warehouse", "api", "limits", "timeouts", "apply", "datasets",
  ]

  init?(yaml: String, _ mistakes: Mistakes) {
    let remedy = "begin with name:, warehouse:, api: and datasets:"
    guard let root = YAMLText.compose(yaml, whenEmpty: remedy, mistakes),
      let map = YAMLMap(root, path: "", keys: .fixed(Self.keys), mistakes)
    else { return nil }
    lines = Self.lines(of: root, path: "")
    name = map.requiredString("name")
    warehouse = map.requiredString("warehouse")
    api = map.requiredMap("api", keys: .fixed(WrittenAPI.keys)).map(WrittenAPI.init)
    limits = map.map("limits", keys: .fixed(WrittenLimits.keys)).map(WrittenLimits.init)
    timeouts = map.map("timeouts", keys: .fixed(WrittenTimeouts.keys)).map(WrittenTimeouts.init)
    apply = map.map("apply", keys: .fixed(WrittenApply.keys)).map(WrittenApply.init)
    datasets = map.requiredMap("datasets", keys: .names).map(Self.datasets) ?? []
  }

  private static func datasets(_ sets: YAMLMap) -> [WrittenDataset] {
    if sets.entries.isEmpty {
      sets.note(sets.line, "there is no dataset", "add one below datasets:")
    }
    return sets.entries.compactMap { name, node in
      YAMLMap(
        node, path: sets.name(name.value), keys: .fixed(WrittenDataset.keys), sets.mistakes
      ).map { WrittenDataset(name: name, $0) }
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
    "poll_seconds_max", "job_attempts", "job_hours_max", "slot_hours_max",
    "profile", "proxy", "ca_file", "connect_seconds", "stall_seconds", "answer_seconds",
    "transfer_seconds",
  ]
  let line: Int
  let baseURL: Located<String>?
  /// Whether the file has a key for the token, even if its value has a mistake.
  let hasToken: Bool
  let bearerToken: Located<String>?
  let bearerTokenFile: Located<String>?
  let allowedHosts: Located<[String]>?
  let pollSeconds: Located<Double>?
  let pollSecondsMax: Located<Double>?
  let jobAttempts: Located<Int>?
  let jobHoursMax: Located<Double>?
  let slotHoursMax: Located<Double>?
  let profile: Located<String>?
  let proxy: Located<String>?
  let caFile: Located<String>?
  let connectSeconds: Located<Double>?
  let stallSeconds: Located<Double>?
  let answerSeconds: Located<Double>?
  let transferSeconds: Located<Double>?

  init(_ map: YAMLMap) {
    line = map.line
    baseURL = map.string("base_url")
    hasToken = map.has("bearer_token") || map.has("bearer_token_file")
    bearerToken = map.string("bearer_token")
    bearerTokenFile = map.string("bearer_token_file")
    allowedHosts = map.strings("allowed_hosts")
    pollSeconds = map.double("poll_seconds")
    pollSecondsMax = map.double("poll_seconds_max")
    jobAttempts = map.integer("job_attempts")
    jobHoursMax = map.double("job_hours_max")
    slotHoursMax = map.double("slot_hours_max")
    profile = map.string("profile")
    proxy = map.string("proxy")
    caFile = map.string("ca_file")
    connectSeconds = map.double("connect_seconds")
    stallSeconds = map.double("stall_seconds")
    answerSeconds = map.double("answer_seconds")
    transferSeconds = map.double("transfer_seconds")
  }
}

struct WrittenTimeouts {
  static let keys = ["statement_seconds", "lock_seconds", "lease_seconds"]
  let statementSeconds: Located<Double>?
  let lockSeconds: Located<Double>?
  let leaseSeconds: Located<Int>?

  init(_ map: YAMLMap) {
    statementSeconds = map.double("statement_seconds")
    lockSeconds = map.double("lock_seconds")
    leaseSeconds = map.integer("lease_seconds")
  }
}

struct WrittenApply {
  static let keys = [
    "pause_ms", "rows_per_second", "replica_lag_max", "replicas", "wal_rate_max",
  ]
  let pauseMilliseconds: Located<Int>?
  let rowsPerSecond: Located<Int>?
  /// Whether the file has the key `replica_lag_max`, even with a mistake.
  let hasReplicaLag: Bool
  let replicaLagMax: Located<String>?
  let replicas: Located<[String]>?
  let walRateMax: Located<String>?

  init(_ map: YAMLMap) {
    pauseMilliseconds = map.integer("pause_ms")
    rowsPerSecond = map.integer("rows_per_second")
    hasReplicaLag = map.has("replica_lag_max")
    replicaLagMax = map.string("replica_lag_max")
    replicas = map.strings("replicas")
    walRateMax = map.string("wal_rate_max")
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
  let reasons: [(reason: Located<String>, limit: WrittenLimit?)]
  let allowWholeChunks: Located<Bool>?

  init(_ map: YAMLMap) {
    overall = WrittenLimit(map)
    maxRestoredPercent = map.double("max_restored_percent")
    maxRestoredRows = map.integer("max_restored_rows")
    maxSkippedPercent = map.double("max_skipped_percent")
    allowWholeChunks = map.bool("allow_whole_chunks")
    let reasons = map.map("reasons", keys: .checkedByCaller)
    self.reasons = (reasons?.entries ?? []).map { reason, node in
      let path = "limits.reasons.\(reason.value)"
      if Self.noteRestores(node, path, map) { return (reason, nil) }
      let limit = YAMLMap(node, path: path, keys: .fixed(WrittenLimit.keys), map.mistakes)
      return (reason, limit.map(WrittenLimit.init))
    }
  }

  /// Records a mistake if a reason has limits for restores. Restores have no reason, because an ID is released when its
  /// protection ends.
  /// - Returns: whether there was a mistake.
  private static func noteRestores(_ node: Node, _ path: String, _ map: YAMLMap) -> Bool {
    let entries = (node.mapping ?? [:]).filter { restoreKeys.contains($0.key.string ?? "") }
    for (key, _) in entries {
      map.note(
        key.mark?.line ?? map.line,
        "\(path).\(key.string ?? ""): restores have no limit for a single reason",
        "write \(key.string ?? ""): below limits: itself")
    }
    return !entries.isEmpty
  }
}

struct WrittenLimit {
  static let keys = ["max_redacted_percent", "max_redacted_rows"]
  let path: String
  let maxRedactedPercent: Located<Double>?
  let maxRedactedRows: Located<Int>?

  init(_ map: YAMLMap) {
    path = map.path
    maxRedactedPercent = map.double("max_redacted_percent")
    maxRedactedRows = map.integer("max_redacted_rows")
  }
}

struct WrittenDataset {
  static let keys = [
    "type", "table", "id", "id_time", "where", "chunk", "actions", "targets", "tombstones", "batch",
    "batch_rows", "atomic",
  ]
  let name: Located<String>
  let type: Located<String>?
  let table: Located<String>?
  let id: WrittenIDSource?
  let idTime: Located<String>?
  let condition: Located<String>?
  let chunkIDs: Located<Int>?
  let chunkBytes: Located<Int>?
  let actions: WrittenActions?
  let targets: [WrittenTarget]
  let tombstones: Located<Bool>?
  let batch: Located<Int>?
  let batchRows: Located<Int>?
  let atomic: Located<String>?

  init(name: Located<String>, _ map: YAMLMap) {
    self.name = name
    type = map.requiredString("type")
    table = map.requiredString("table")
    id = WrittenIDSource.required("id", in: map)
    idTime = map.string("id_time")
    condition = map.string("where")
    let chunk = map.map("chunk", keys: .fixed(["ids", "bytes"]))
    chunkIDs = chunk?.integer("ids")
    chunkBytes = chunk?.integer("bytes")
    actions = WrittenActions(map)
    targets = WrittenTarget.list(map)
    tombstones = map.bool("tombstones")
    batch = map.integer("batch")
    batchRows = map.integer("batch_rows")
    atomic = map.string("atomic")
  }
}

struct WrittenTarget {
  private static let keys = ["table", "match", "id", "type", "id_time", "actions", "targets"]
  let line: Int
  let table: Located<String>?
  let match: WrittenIDSource?
  /// Whether the file has the key `id`, even if its value has a mistake.
  let hasID: Bool
  let id: WrittenIDSource?
  let hasType: Bool
  let type: Located<String>?
  let idTime: Located<String>?
  let actions: WrittenActions?
  let targets: [WrittenTarget]

  static func list(_ map: YAMLMap) -> [WrittenTarget] {
    guard let node = map.node("targets") else { return [] }
    let path = map.name("targets")
    guard let sequence = node.sequence else {
      return map.wrongType(
        path, node, "a list of targets, each with table, match and actions") ?? []
    }
    return sequence.enumerated().compactMap { index, node in
      YAMLMap(node, path: "\(path)[\(index)]", keys: .fixed(Self.keys), map.mistakes)
        .map(WrittenTarget.init)
    }
  }

  private init(_ map: YAMLMap) {
    line = map.line
    table = map.requiredString("table")
    match = WrittenIDSource.required("match", in: map)
    hasID = map.has("id")
    id = WrittenIDSource.optional("id", in: map)
    hasType = map.has("type")
    type = map.string("type")
    idTime = map.string("id_time")
    actions = WrittenActions(map)
    targets = Self.list(map)
  }
}

/// The `actions:` of a dataset or target, one reason per line.
struct WrittenActions {
  let path: String
  let line: Int
  let entries: [(reason: Located<String>, action: Action?)]

  init?(_ parent: YAMLMap) {
    guard let map = parent.requiredMap("actions", keys: .checkedByCaller) else { return nil }
    path = map.path
    line = map.line
    entries = map.entries.map { reason, node in
      (reason, Action(node, in: map, reason: reason.value))
    }
  }
}
