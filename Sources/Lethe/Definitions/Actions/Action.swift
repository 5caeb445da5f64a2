internal import DefinitionFiles
internal import Yams

/// The action on the rows that an event matches.
public struct Action: Sendable {
  package let kind: any RowAction

  package init(_ kind: any RowAction) { self.kind = kind }

  /// The action's name in definitions, the ledger and reports.
  public var word: String { kind.word }
  /// Whether the action deletes or hides rows, or removes data from them, and so counts towards the limits.
  public var isRedacting: Bool { kind.isRedacting }
  /// Whether the action removes all content of the row.
  public var isRemoving: Bool { kind.isRemoving }
  /// The text of the action in a definition.
  public var written: String { kind.written }
  /// The columns that the action names, in order.
  public var columns: [String] { kind.columns }

  /// The same action on columns of other names.
  public func renamingColumns(_ name: (String) -> String) -> Action {
    Action(kind.renamingColumns(name))
  }
}

extension Action: Hashable {
  public static func == (one: Action, other: Action) -> Bool {
    AnyHashable(one.kind) == AnyHashable(other.kind)
  }

  public func hash(into hasher: inout Hasher) { AnyHashable(kind).hash(into: &hasher) }
}

/// The actions that definitions can name.
package struct ActionVocabulary: Sendable {
  package let kinds: [any RowAction.Type]

  package init(_ kinds: [any RowAction.Type]) { self.kinds = kinds }

  /// Lethe's own actions, in the order in which messages list them.
  package static let standard = ActionVocabulary([
    DeleteAction.self, RehydrateAction.self, IgnoreAction.self, ProtectAction.self,
    ScrubGeoAction.self, RedactAction.self,
  ])

  /// The actions of the current task. A test can add its own actions.
  @TaskLocal package static var current = standard

  package func kind(_ word: String) -> (any RowAction.Type)? { kinds.first { $0.word == word } }

  /// The words of the actions that count towards the limits.
  package var redactingWords: [String] { kinds.filter { $0.isRedacting }.map { $0.word } }

  /// The words that a definition can write as a mapping: `{protect: …}`.
  fileprivate var keys: [String] { kinds.filter { $0.allowsMapping }.map { $0.word } }

  /// The remedy for an unknown action: `write delete, ignore or {protect: …}`.
  fileprivate var advice: String {
    let forms = kinds.map { $0.form }
    return "write \(forms.dropLast().joined(separator: ", ")) or \(forms.last ?? "")"
  }
}

// MARK: The definition

extension Action {
  /// Reads the action for a reason: an action's word alone, or a mapping with that word as its only key.
  /// - Returns: nil if the action is not valid. The mistake is then in `map.mistakes`.
  init?(_ node: Node, in map: YAMLMap, reason: String) {
    let path = map.name(reason)
    guard node.mapping != nil else {
      guard node.scalar != nil, !YAMLMap.isNull(node) else {
        map.note(
          node.mark?.line ?? map.line, "\(path) has no action",
          "give it an action, such as delete; write ignore to do nothing")
        return nil
      }
      guard let word = map.string(node, name: path) else { return nil }
      self.init(word: word, path, map.mistakes)
      return
    }
    let vocabulary = ActionVocabulary.current
    guard let action = YAMLMap(node, path: path, keys: .fixed(vocabulary.keys), map.mistakes)
    else { return nil }
    guard action.entries.count == 1, let word = action.entries.first?.key.value else {
      action.noteWrongType(path, node, "one action")
      return nil
    }
    // An unknown word is already recorded in `map.mistakes`.
    guard let kind = vocabulary.kind(word)?.read(action) else { return nil }
    self.init(kind)
  }

  private init?(word: Located<String>, _ path: String, _ mistakes: Mistakes) {
    let vocabulary = ActionVocabulary.current
    let kind = vocabulary.kind(word.value)
    if let action = kind?.fromWord() {
      self.init(action)
      return
    }
    let mistake =
      kind?.missingMappingError ?? ("unknown action \(word.value)", vocabulary.advice)
    mistakes.note(word.line, "\(path): \(mistake.message)", mistake.remedy)
    return nil
  }
}

// MARK: The run's copy of the definition

extension Action: Codable {
  public init(from decoder: any Decoder) throws {
    let members = try decoder.container(keyedBy: StoredKey.self)
    let keys = members.allKeys.map(\.stringValue).sorted()
    guard keys.count == 1, let key = keys.first,
      let kind = ActionVocabulary.current.kinds.first(where: { $0.storedKey == key })
    else {
      throw DecodingError.dataCorrupted(
        .init(
          codingPath: decoder.codingPath,
          debugDescription: keys.isEmpty
            ? "no action" : "unknown action \(keys.joined(separator: ", "))"))
    }
    let values = try members.nestedContainer(keyedBy: StoredKey.self, forKey: StoredKey(key))
    self.init(try kind.init(stored: values))
  }

  public func encode(to encoder: any Encoder) throws {
    var members = encoder.container(keyedBy: StoredKey.self)
    var values = members.nestedContainer(
      keyedBy: StoredKey.self, forKey: StoredKey(type(of: kind).storedKey))
    try kind.encode(into: &values)
  }
}
