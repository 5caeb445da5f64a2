internal import DefinitionFiles
internal import Foundation
internal import Yams

extension FaultPlan {
  /// Reads a fault plan from a file.
  /// - Throws: `DefinitionError` if the file cannot be read or is not UTF-8, or with all mistakes in the plan, each
  ///   with its remedy, and with its line if it is on one line.
  public init(path: String) throws {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw DefinitionError(
        file: path, line: nil, message: "cannot be read", remedy: "name a readable file")
    }
    guard let yaml = String(bytes: data, encoding: .utf8) else {
      throw DefinitionError(
        file: path, line: nil, message: "is not UTF-8", remedy: "save it as UTF-8")
    }
    try self.init(yaml: yaml, file: path)
  }

  /// Reads a fault plan from YAML.
  /// - Throws: `DefinitionError` with all mistakes, each with its remedy, and with its line if it is on one line.
  public init(yaml: String, file: String) throws {
    let mistakes = Mistakes(file: file)
    let remedy = "begin with faults:, and list the faults below it"
    let root = YAMLText.compose(yaml, whenEmpty: remedy, mistakes)
    let map = root.flatMap {
      YAMLMap($0, path: "", keys: .fixed(["seed", "faults"]), mistakes)
    }
    let seed = map?.integer("seed")?.value ?? 0
    let faults = map.flatMap { map in
      map.requiredNode("faults").flatMap { Self.faults($0, in: map) }
    }
    try mistakes.rethrow()
    self.init(file: file, seed: UInt64(bitPattern: Int64(seed)), faults: faults ?? [])
  }

  private static func faults(_ node: Node, in map: YAMLMap) -> [Fault]? {
    guard let list = node.sequence else { return map.wrongType("faults", node, "a list of faults") }
    var faults: [Fault] = []
    for (index, node) in list.enumerated() {
      let written = YAMLMap(
        node, path: "faults[\(index)]", keys: .fixed(WrittenFault.keys), map.mistakes
      ).map { WrittenFault($0, number: index + 1) }
      guard let written, let fault = written.fault() else { continue }
      if faults.contains(where: { $0.name == fault.name }) {
        written.note("the name \"\(fault.name)\" is used twice", "give each fault a different name")
      }
      faults.append(fault)
    }
    return faults
  }
}

/// A fault as written in the file. Each mistake is reported. A plan with a mistake is refused, so no
/// fault of it is used.
private struct WrittenFault {
  static let kinds = [
    "latency", "answer", "rewrite", "cut", "lose_response", "store", "truncate", "corrupt", "slow",
    "fail", "expire",
    "duplicate_lines", "unknown_lines", "malformed_lines", "blank_lines", "profile",
  ]
  static let keys = ["name", "at", "rate", "call", "every", "times"] + kinds

  let map: YAMLMap
  let number: Int

  init(_ map: YAMLMap, number: Int) {
    self.map = map
    self.number = number
  }

  func fault() -> Fault? {
    let times = map.integer("times")
    if let times, times.value < 1 {
      note("times is \(times.value)", "write 1 or more", times.line)
    }
    let name = map.string("name")
    let frequency = frequency()
    let present = Self.kinds.filter { map.node($0) != nil }
    guard present.count == 1, let key = present.first else {
      if !present.isEmpty || !Self.kinds.contains(where: map.has) {
        note(
          present.isEmpty
            ? "the fault has no kind"
            : "the fault has the kinds \(present.joined(separator: " and "))",
          "give it exactly one of \(Self.kinds.joined(separator: ", "))")
      }
      return nil
    }
    let kind = kind(key)
    let points = points(key)
    guard let frequency, let kind, let points else { return nil }
    return Fault(
      name: name?.value ?? "\(number) \(key)", kind: kind, points: points, frequency: frequency,
      timesMax: times?.value)
  }

  func note(_ message: String, _ remedy: String, _ line: Int? = nil) {
    map.note(line ?? map.line, "\(map.path): \(message)", remedy)
  }

  /// Reports a mistake.
  /// - Returns: nil, in place of the value.
  private func wrong<Value>(_ message: String, _ remedy: String, _ line: Int? = nil) -> Value? {
    note(message, remedy, line)
    return nil
  }

  // MARK: Kinds

  private func kind(_ key: String) -> Fault.Kind? {
    switch key {
    case "latency": duration(map, key).map { .latency($0) }
    case "answer": respond()
    case "rewrite": rewrite()
    case "cut": word(map, key, Fault.CutTime.self).map { .cut($0) }
    case "lose_response": flag(key, .loseResponse)
    case "store": fraction(key).map { .store($0) }
    case "truncate": fraction(key).map { .truncate($0) }
    case "corrupt": count(key).map { .corrupt($0) }
    case "slow": duration(map, key).map { .slow($0) }
    case "fail": map.requiredString(key).map { .fail($0.value) }
    case "expire": flag(key, .expire)
    case "duplicate_lines": count(key).map { .duplicateLines($0) }
    case "unknown_lines": count(key).map { .unknownLines($0) }
    case "malformed_lines": count(key).map { .malformedLines($0) }
    case "blank_lines": count(key).map { .blankLines($0) }
    default: profile().map { .profile($0) }
    }
  }

  private func respond() -> Fault.Kind? {
    guard let written = map.requiredMap("answer", keys: .fixed(WrittenResponse.keys + ["reset"]))
    else { return nil }
    let reset = written.node("reset") == nil ? nil : duration(written, "reset")
    let change = WrittenResponse(map: written).change(defaultBody: .json)
    guard written.requiredNode("status") != nil, let change else { return nil }
    if reset != nil, change.status != 429 {
      note("answer.reset applies only to status 429", "remove reset", written.line)
    }
    return .respond(change, reset: reset)
  }

  private func rewrite() -> Fault.Kind? {
    let keys = WrittenResponse.keys + WrittenResponse.jobKeys
    guard let written = map.requiredMap("rewrite", keys: .fixed(keys)),
      let change = WrittenResponse(map: written).change(defaultBody: nil)
    else { return nil }
    guard change != ResponseChange() || !written.entries.isEmpty else {
      return wrong(
        "rewrite changes nothing", "write one or more of \(keys.joined(separator: ", "))",
        written.line)
    }
    return .rewrite(change)
  }

  private func profile() -> String? {
    guard let name = map.requiredString("profile") else { return nil }
    guard ["native", "gcs"].contains(name.value) else {
      return wrong("profile is \"\(name.value)\"", "write native or gcs", name.line)
    }
    return name.value
  }

  // MARK: Endpoints and frequency

  private func points(_ key: String) -> Set<Fault.Point>? {
    let implied: Fault.Point? =
      switch key {
      case "store": .upload
      case "truncate", "corrupt": .download
      case "expire", "profile": .create
      case "latency", "answer", "rewrite", "cut", "lose_response": nil
      default: .processing
      }
    guard let node = map.node("at") else {
      if let implied { return [implied] }
      return map.has("at")
        ? nil : wrong("at is missing", "write one or more of \(Self.points)")
    }
    let words =
      node.sequence == nil
      ? map.string("at").map { $0.map { [$0] } } : map.strings(node, name: map.name("at"))
    guard let words else { return nil }
    let points = words.value.map { word -> Fault.Point? in
      guard let point = Fault.Point(rawValue: word), implied != nil || point != .processing else {
        return wrong("at contains \"\(word)\"", "write one or more of \(Self.points)", words.line)
      }
      return point
    }
    guard !points.contains(nil) else { return nil }
    if let implied, points != [implied] {
      return wrong("\(key) is always at \(implied.rawValue)", "remove at:", words.line)
    }
    return Set(points.compactMap { $0 })
  }

  private static let points = Fault.Point.allCases.filter { $0 != .processing }.map(\.rawValue)
    .joined(separator: ", ")

  private func frequency() -> Fault.Frequency? {
    let present = ["rate", "call", "every"].filter { map.node($0) != nil }
    guard present.count <= 1 else {
      return wrong(
        "\(present.joined(separator: " and ")) exclude each other", "write only one of them")
    }
    switch present.first {
    case "rate":
      guard let rate = map.double("rate") else { return nil }
      guard (0...1).contains(rate.value) else {
        return wrong("rate is not a fraction", "write a number from 0 to 1")
      }
      return .rate(rate.value)
    case "every": return count("every").map { .every($0) }
    case "call": return calls()
    default: return .every(1)
    }
  }

  private func calls() -> Fault.Frequency? {
    guard let node = map.node("call") else { return nil }
    let texts =
      node.sequence == nil
      ? map.string("call").map { [$0.value] } : map.strings(node, name: map.name("call"))?.value
    guard let texts else { return nil }
    let calls = texts.compactMap { Int($0) }
    guard calls.count == texts.count, calls.allSatisfy({ $0 > 0 }) else {
      return map.wrongType(map.name("call"), node, "a number such as 3, or a list of them")
    }
    return .calls(calls)
  }

  // MARK: Values

  private func flag(_ key: String, _ kind: Fault.Kind) -> Fault.Kind? {
    guard let flag = map.bool(key) else { return nil }
    return flag.value ? kind : wrong("\(key) is not true", "write true, or remove the fault")
  }

  private func count(_ key: String) -> Int? {
    guard let count = map.integer(key) else { return nil }
    return (1...Self.countMax).contains(count.value)
      ? count.value : wrong("\(key) is out of range", "write a number from 1 to \(Self.countMax)")
  }

  private func fraction(_ key: String) -> Double? {
    guard let fraction = map.double(key) else { return nil }
    return fraction.value >= 0 && fraction.value < 1
      ? fraction.value
      : wrong("\(key) is not a fraction", "write a number from 0 to less than 1")
  }

  private func word<Word: RawRepresentable & CaseIterable>(
    _ map: YAMLMap, _ key: String, _ type: Word.Type
  ) -> Word? where Word.RawValue == String {
    guard let text = map.requiredString(key) else { return nil }
    let words = Word.allCases.map(\.rawValue).joined(separator: ", ")
    return Word(rawValue: text.value)
      ?? wrong("\(key) is \"\(text.value)\"", "write one of \(words)", text.line)
  }

  private static let countMax = 1_000_000
  private static let secondsMax: Int64 = 86_400

  /// A time such as `250ms`, `2s` or `5min`, up to a day.
  private func duration(_ map: YAMLMap, _ key: String) -> Duration? {
    guard let text = map.requiredString(key) else { return nil }
    let digits = text.value.prefix { $0.isASCII && $0.isNumber }
    let unit = text.value.dropFirst(digits.count).drop { $0 == " " }
    switch (Int64(digits), unit) {
    case (let count?, "ms") where count <= Self.secondsMax * 1000: return .milliseconds(count)
    case (let count?, "s") where count <= Self.secondsMax: return .seconds(count)
    case (let count?, "min") where count <= Self.secondsMax / 60: return .seconds(count * 60)
    default:
      return wrong(
        "\(key) is \"\(text.value)\"", "write a time such as 250ms, 2s or 5min, up to a day",
        text.line)
    }
  }
}
