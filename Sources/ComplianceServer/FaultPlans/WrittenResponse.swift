internal import DefinitionFiles
internal import Yams

/// A response as written in the file. Each mistake is reported. A plan with a mistake is refused, so no
/// value of it is used.
struct WrittenResponse {
  /// The keys that `answer` and `rewrite` share.
  static let keys = ["status", "body", "text", "headers", "header_case", "coding", "framing"]
  /// The additional keys of `rewrite`.
  static let jobKeys = ["members", "without", "shorten", "numbers", "entries"]

  let map: YAMLMap

  /// - Parameter defaultBody: used if the file has no body and the status allows one.
  func change(defaultBody: ResponseChange.Body?) -> ResponseChange? {
    var change = ResponseChange()
    if map.node("status") != nil {
      guard let status = map.integer("status") else { return nil }
      guard (200...599).contains(status.value) else {
        note("status is not a final status", "write a status from 200 to 599", status.line)
        return nil
      }
      change.status = status.value
    }
    change.body = body() ?? defaultBody
    if let status = change.status, ResponseChange.isBodiless(status) {
      if map.node("text") != nil || map.node("body") != nil || map.node("coding") != nil {
        note(
          "a response with status \(status) has no body", "remove body, text and coding", map.line)
      }
      change.body = .empty
    }
    change.headers = map.map("headers", keys: .names).map(headers) ?? []
    change.headerCase = word("header_case", ResponseChange.LetterCase.self)
    change.coding = word("coding", ResponseChange.Coding.self)
    change.framing = word("framing", ResponseChange.Framing.self)
    change.jobs = jobs()
    return change
  }

  private func note(_ message: String, _ remedy: String, _ line: Int) {
    map.note(line, "\(map.path): \(message)", remedy)
  }

  private func body() -> ResponseChange.Body? {
    if map.node("text") != nil, map.node("body") != nil {
      note("body and text exclude each other", "write only one of them", map.line)
    }
    if let text = map.string("text") { return .text(TimedText(text.value)) }
    guard let word = map.string("body") else { return nil }
    switch word.value {
    case "json": return .json
    case "html": return .html
    case "empty": return .empty
    default:
      note(
        "body is \"\(word.value)\"",
        "write json, html or empty, or write the body itself under the key text", word.line)
      return nil
    }
  }

  private func word<Word: RawRepresentable & CaseIterable>(_ key: String, _ type: Word.Type)
    -> Word?
  where Word.RawValue == String {
    guard let text = map.string(key) else { return nil }
    if let word = Word(rawValue: text.value) { return word }
    let words = Word.allCases.map(\.rawValue).joined(separator: ", ")
    note("\(key) is \"\(text.value)\"", "write one of \(words)", text.line)
    return nil
  }

  // MARK: Headers

  private func headers(_ headers: YAMLMap) -> [ResponseChange.Header] {
    headers.entries.compactMap { key, node in
      guard key.value.wholeMatch(of: /[A-Za-z0-9!#$%&'*+.^_`|~-]+/) != nil else {
        note(
          "\"\(key.value)\" is not a header name", "write a name such as Retry-After", key.line)
        return nil
      }
      if YAMLMap.isNull(node) { return .init(name: key.value, values: []) }
      let values =
        node.sequence.map { $0.map { headers.string($0, name: headers.name(key.value)) } }
        ?? [headers.string(node, name: headers.name(key.value))]
      return .init(
        name: key.value, values: values.compactMap { $0 }.compactMap { value(key.value, $0) })
    }
  }

  private func value(_ name: String, _ value: Located<String>) -> TimedText? {
    let text = TimedText(value.value)
    if let unknown = text.unknownPlaceholder {
      note(
        "\(unknown) in \(name) is not a known time placeholder",
        "write {epoch}, {epoch_ms}, {date} or {timestamp}, or add seconds, such as {epoch+60}",
        value.line)
      return nil
    }
    guard value.value.unicodeScalars.allSatisfy({ $0.value >= 0x20 || $0 == "\t" }) else {
      note(
        "\(name) has control characters or more than one line", "write the header on one line",
        value.line)
      return nil
    }
    return text
  }

  // MARK: Jobs

  private func jobs() -> JobChange {
    var jobs = JobChange()
    for (name, node) in map.map("members", keys: .names)?.entries ?? [] {
      jobs.members[name.value] = JSONValue(node)
    }
    jobs.without = map.strings("without")?.value ?? []
    if let lengths = map.map("shorten", keys: .names) {
      for (name, _) in lengths.entries {
        guard let length = lengths.integer(name.value) else { continue }
        jobs.shorten[name.value] = length.value
        if length.value < 0 {
          note("shorten.\(name.value) is \(length.value)", "write 0 or more", length.line)
        }
      }
    }
    jobs.numbers = map.strings("numbers")?.value ?? []
    if let node = map.node("entries") {
      if let entries = node.sequence {
        jobs.entries = entries.map { JSONValue($0) }
      } else {
        map.noteWrongType(map.name("entries"), node, "a list of entries")
      }
    }
    return jobs
  }
}

extension JSONValue {
  /// Converts a YAML node. By YAML's rules, a quoted scalar is always a string.
  fileprivate init(_ node: Node) {
    if let sequence = node.sequence {
      self = .array(sequence.map { JSONValue($0) })
    } else if let mapping = node.mapping {
      let members = mapping.map { ($0.key.string ?? "", JSONValue($0.value)) }
      self = .object(Dictionary(members) { $1 })
    } else if YAMLMap.isNull(node) {
      self = .null
    } else {
      let text = node.scalar?.string ?? ""
      let isPlain = node.scalar.map { $0.style == .plain || $0.style == .any } ?? false
      self = isPlain ? Self.plain(text) : .text(text)
    }
  }

  private static func plain(_ text: String) -> JSONValue {
    if let flag = Bool(text) { return .flag(flag) }
    if let number = Int64(text) { return .integer(number) }
    if text.first?.isNumber == true || text.first == "-", let number = Double(text), number.isFinite
    {
      return .number(number)
    }
    return .text(text)
  }
}
