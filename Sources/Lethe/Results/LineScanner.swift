public import Vocabulary

/// Reads one line of a result: a flat JSON object with keys in any order.
///
/// It is written by hand for strictness and speed. JSONDecoder reads only 40 MB/s, although COPY can write hundreds of
/// MB/s. Nearly all lines have one form, which `UsualLine` reads several times faster than a byte at a time. A line
/// that is neither blank nor exactly one well-formed object in UTF-8 is refused.
public struct LineScanner: Sendable {
  private let type: JobType

  public init(type: JobType) {
    self.type = type
  }

  /// - Parameter line: the line without its newline. A carriage return at its end counts as white space.
  public func scan(_ line: UnsafeRawBufferPointer) -> ScannedLine {
    if let usual = UsualLine(line), let event = event(usual) { return .event(event) }
    return scanByBytes(line)
  }

  /// Nil if results of the job's type cannot have the reason, or if the action does not match the reason.
  private func event(_ line: UsualLine) -> Event? {
    guard let reason = line.reason, reason.isDocumented(for: type) else { return nil }
    switch (reason, line.action) {
    case (.deleted, .delete), (.bounced, .delete), (.suspended, .delete), (.deactivated, .delete),
      (.protected, .delete), (.geoScrubbed, .scrubGeo), (.geoScrubbed, .delete),
      (.tweetEdited, .rehydrate):
      return Event(
        id: line.id, reason: reason, createdAt: line.createdAt, redactedAt: line.redactedAt)
    default: return nil
    }
  }

  /// Reads a line in any form.
  func scanByBytes(_ line: UnsafeRawBufferPointer) -> ScannedLine {
    var cursor = JSONCursor(line)
    cursor.skipWhitespace()
    if cursor.isAtEnd { return .blank }
    guard cursor.isValidUTF8 else { return .refused("not UTF-8", id: nil) }
    var fields = Fields()
    if let fault = cursor.readObject(into: &fields) {
      return .refused(fault, id: nil)
    }
    cursor.skipWhitespace()
    guard cursor.isAtEnd else {
      return .refused("something follows the JSON object", id: nil)
    }
    return event(fields)
  }

  /// Whether a line is one complete JSON object that `JSONCursor` accepts. The object does not have to be an event.
  static func isWholeObject(_ line: UnsafeRawBufferPointer) -> Bool {
    var cursor = JSONCursor(line)
    var fields = Fields()
    cursor.skipWhitespace()
    guard cursor.readObject(into: &fields) == nil else { return false }
    cursor.skipWhitespace()
    return cursor.isAtEnd
  }

  private func event(_ fields: Fields) -> ScannedLine {
    let id = fields.id?.identifier
    func refused(_ why: String) -> ScannedLine { .refused(why, id: id) }
    if let error = fields.error {
      let why = "the API says \(error.text.withoutSecrets())"
      guard let quote = fields.id else { return refused(why) }
      // A chunk's file has no leading zeros, so a quoted line with them is not from the file.
      return .error(why, id: id.flatMap { quote.text == "\($0)" ? $0 : nil })
    }
    guard fields.id != nil else { return refused("no id") }
    guard let id else { return refused("the id is not an integer from 1 to \(Int64.max)") }
    guard let action = fields.action else { return refused("no action") }
    guard let reasonText = fields.reason else { return refused("no reason") }
    guard let reason = Reason(word: reasonText.text) else {
      return refused("unknown reason \"\(reasonText.text.withoutSecrets())\"")
    }
    guard reason.isDocumented(for: type) else {
      return refused("a job of type \(type.rawValue) cannot have the reason \(reasonText.text)")
    }
    guard Self.allows(action: action.text, reason) else {
      return refused(
        "unknown action \"\(action.text.withoutSecrets())\" for the reason \(reasonText.text)")
    }
    return .event(
      Event(
        id: id, reason: reason, createdAt: fields.createdAt?.timestamp,
        redactedAt: (fields.redactedAt ?? fields.deletedAt)?.timestamp))
  }

  /// Whether the X docs list this pair of action and reason. `delete` with a geo reason is from an older
  /// version of the docs.
  private static func allows(action: String, _ reason: Reason) -> Bool {
    switch reason {
    case .deleted, .bounced, .suspended, .deactivated, .protected: action == "delete"
    case .geoScrubbed: action == "scrub_geo" || action == "delete"
    case .tweetEdited: action == "rehydrate"
    }
  }
}

/// The values of the known keys. A `null` counts as absent.
struct Fields {
  var id: JSONText?
  var action: JSONText?
  var reason: JSONText?
  var createdAt: JSONText?
  var redactedAt: JSONText?
  var deletedAt: JSONText?
  var error: JSONText?
  private var seen: UInt8 = 0

  enum Key: UInt8 {
    case id, action, reason, createdAt, redactedAt, deletedAt, error
  }

  /// - Returns: false if the key appears twice. The line is then refused, because the two values can differ.
  mutating func claim(_ key: Key) -> Bool {
    let bit = UInt8(1) << key.rawValue
    defer { seen |= bit }
    return seen & bit == 0
  }

  mutating func set(_ key: Key, _ value: JSONText?) {
    switch key {
    case .id: id = value
    case .action: action = value
    case .reason: reason = value
    case .createdAt: createdAt = value
    case .redactedAt: redactedAt = value
    case .deletedAt: deletedAt = value
    case .error: error = value
    }
  }
}
