internal import DefinitionFiles
internal import Foundation
internal import Yams

extension FaultPlan {
  /// - Throws: `DefinitionError`, naming file, line and the remedy.
  public init(path: String) throws {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw DefinitionError(
        file: path, line: nil, message: "cannot be read", remedy: "name a file that is there")
    }
    guard let yaml = String(bytes: data, encoding: .utf8) else {
      throw DefinitionError(
        file: path, line: nil, message: "is not UTF-8", remedy: "save it as UTF-8")
    }
    try self.init(yaml: yaml, file: path)
  }

  /// - Throws: `DefinitionError`, naming file, line and the remedy.
  public init(yaml: String, file: String) throws {
    let root = try YAMLMap.compose(
      yaml, file: file, whenEmpty: "begin with faults:, and list them below it")
    let map = try YAMLMap(root, file: file, path: "", keys: ["seed", "faults"])
    let seed = try map.integer("seed")?.value ?? 0
    guard let list = try map.requiredNode("faults").sequence else {
      throw map.wrongType("faults", try map.requiredNode("faults"), "a list of faults")
    }
    var faults: [Fault] = []
    for (index, node) in list.enumerated() {
      let written = try WrittenFault(
        YAMLMap(node, file: file, path: "faults[\(index)]", keys: WrittenFault.keys),
        number: index + 1)
      let fault = try written.fault()
      guard !faults.contains(where: { $0.name == fault.name }) else {
        throw written.error("the name \(fault.name) stands twice", "name each fault differently")
      }
      faults.append(fault)
    }
    self.init(file: file, seed: UInt64(bitPattern: Int64(seed)), faults: faults)
  }
}

/// A fault as the file has it.
private struct WrittenFault {
  static let kinds = [
    "latency", "answer", "cut", "lose_response", "truncate", "corrupt", "slow", "fail", "expire",
    "duplicate_lines", "unknown_lines", "malformed_lines", "blank_lines", "profile",
  ]
  static let keys = ["name", "at", "rate", "call", "every", "times"] + kinds

  let map: YAMLMap
  let number: Int

  init(_ map: YAMLMap, number: Int) {
    self.map = map
    self.number = number
  }

  func fault() throws -> Fault {
    let present = Self.kinds.filter { map.node($0) != nil }
    guard present.count == 1, let key = present.first else {
      throw error(
        present.isEmpty
          ? "the fault does nothing" : "the fault does \(present.joined(separator: " and "))",
        "give it exactly one of \(Self.kinds.joined(separator: ", "))")
    }
    let times = try map.integer("times")
    if let times, times.value < 1 {
      throw error("times is \(times.value)", "write how often at most, 1 or more", times.line)
    }
    return Fault(
      name: try map.string("name")?.value ?? "\(number) \(key)", kind: try kind(key),
      places: try places(key), occasion: try occasion(), timesMax: times?.value)
  }

  func error(_ message: String, _ remedy: String, _ line: Int? = nil) -> DefinitionError {
    DefinitionError(
      file: map.file, line: line ?? map.line, message: "\(map.path): \(message)", remedy: remedy)
  }

  // MARK: What

  private func kind(_ key: String) throws -> Fault.Kind {
    switch key {
    case "latency": .latency(try duration(map, key))
    case "answer": try answer()
    case "cut": .cut(try word(map, key, Fault.Moment.self))
    case "lose_response": try flag(key, .loseResponse)
    case "truncate": .truncate(try part(key))
    case "corrupt": .corrupt(try count(key))
    case "slow": .slow(try duration(map, key))
    case "fail": .fail(try map.requiredString(key).value)
    case "expire": try flag(key, .expire)
    case "duplicate_lines": .duplicateLines(try count(key))
    case "unknown_lines": .unknownLines(try count(key))
    case "malformed_lines": .malformedLines(try count(key))
    case "blank_lines": .blankLines(try count(key))
    default: .profile(try profile())
    }
  }

  private func answer() throws -> Fault.Kind {
    let answer = try YAMLMap(
      map.requiredNode("answer"), file: map.file, path: map.name("answer"),
      keys: ["status", "body", "reset"])
    _ = try answer.requiredNode("status")
    guard let status = try answer.integer("status"), (400...599).contains(status.value) else {
      throw error("answer.status is no error", "write a status from 400 to 599", answer.line)
    }
    let reset = answer.node("reset") == nil ? nil : try duration(answer, "reset")
    guard reset == nil || status.value == 429 else {
      throw error("answer.reset belongs to 429", "leave it out", status.line)
    }
    return .answer(
      status: status.value,
      body: answer.node("body") == nil ? .json : try word(answer, "body", Fault.Body.self),
      reset: reset)
  }

  private func profile() throws -> String {
    let name = try map.requiredString("profile")
    guard ["native", "gcs"].contains(name.value) else {
      throw error("profile is \(name.value)", "write native or gcs", name.line)
    }
    return name.value
  }

  // MARK: Where and when

  private func places(_ key: String) throws -> Set<Fault.Place> {
    let implied: Fault.Place? =
      switch key {
      case "truncate", "corrupt": .download
      case "expire", "profile": .create
      case "latency", "answer", "cut", "lose_response": nil
      default: .processing
      }
    guard let node = map.node("at") else {
      if let implied { return [implied] }
      throw error("at is missing", "say where, with one or several of \(Self.places)")
    }
    let words =
      node.sequence == nil
      ? Located(value: [try map.requiredString("at").value], line: node.mark?.line ?? map.line)
      : try map.strings(node, name: map.name("at"))
    let places = try words.value.map { word in
      guard let place = Fault.Place(rawValue: word), implied != nil || place != .processing else {
        throw error("at names \(word)", "write one or several of \(Self.places)", words.line)
      }
      return place
    }
    if let implied, places != [implied] {
      throw error("\(key) is always at \(implied.rawValue)", "leave at: out", words.line)
    }
    return Set(places)
  }

  private static let places = Fault.Place.allCases.filter { $0 != .processing }.map(\.rawValue)
    .joined(separator: ", ")

  private func occasion() throws -> Fault.Occasion {
    let present = ["rate", "call", "every"].filter { map.node($0) != nil }
    guard present.count <= 1 else {
      throw error(
        "\(present.joined(separator: " and ")) exclude one another", "write one of them")
    }
    switch present.first {
    case "rate":
      guard let rate = try map.double("rate"), (0...1).contains(rate.value) else {
        throw error("rate is no part of the calls", "write a number from 0 to 1")
      }
      return .rate(rate.value)
    case "every": return .every(try count("every"))
    case "call":
      let node = try map.requiredNode("call")
      let texts =
        node.sequence == nil
        ? [try map.requiredString("call").value]
        : try map.strings(node, name: map.name("call")).value
      let calls = texts.compactMap { Int($0) }
      guard calls.count == texts.count, calls.allSatisfy({ $0 > 0 }) else {
        throw map.wrongType(map.name("call"), node, "a number such as 3, or a list of them")
      }
      return .calls(calls)
    default: return .every(1)
    }
  }

  // MARK: Values

  private func flag(_ key: String, _ kind: Fault.Kind) throws -> Fault.Kind {
    guard let flag = try map.bool(key), flag.value else {
      throw error("\(key) is not true", "write true, or take the fault out")
    }
    return kind
  }

  private func count(_ key: String) throws -> Int {
    guard let count = try map.integer(key), count.value > 0 else {
      throw error("\(key) is not a count", "write 1 or more")
    }
    return count.value
  }

  private func part(_ key: String) throws -> Double {
    guard let part = try map.double(key), part.value >= 0, part.value < 1 else {
      throw error("\(key) is no part", "write how much of it comes, from 0 to less than 1")
    }
    return part.value
  }

  private func word<Word: RawRepresentable & CaseIterable>(
    _ map: YAMLMap, _ key: String, _ type: Word.Type
  ) throws -> Word where Word.RawValue == String {
    let text = try map.requiredString(key)
    guard let word = Word(rawValue: text.value) else {
      let words = Word.allCases.map(\.rawValue).joined(separator: ", ")
      throw error("\(key) is \(text.value)", "write one of \(words)", text.line)
    }
    return word
  }

  /// `250ms`, `2s` or `5min`.
  private func duration(_ map: YAMLMap, _ key: String) throws -> Duration {
    let text = try map.requiredString(key)
    let digits = text.value.prefix { $0.isASCII && $0.isNumber }
    let unit = text.value.dropFirst(digits.count).drop { $0 == " " }
    switch (Int64(digits), unit) {
    case (let count?, "ms"): return .milliseconds(count)
    case (let count?, "s"): return .seconds(count)
    case (let count?, "min"): return .seconds(count * 60)
    default:
      throw error("\(key) is \(text.value)", "write a time such as 250ms, 2s or 5min", text.line)
    }
  }
}
