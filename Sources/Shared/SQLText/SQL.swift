/// A statement or a part of one, together with the values that are bound in it.
///
///     let isDue: SQL = "c.state = \(state.rawValue) AND c.due_at < \(time)::timestamptz"
///     try await session.query("SELECT chunk_id FROM lethe.chunk AS c WHERE \(isDue)")
///
/// An interpolation binds a value, and splices another `SQL`. Names, literals and text of the operator's own
/// go by a label: see `SQL.StringInterpolation`. The placeholders get their numbers when the statement is
/// sent, so a part can stand anywhere. A part that is spliced twice keeps one placeholder for each of its
/// values: give a value that is large, or whose type is settled in one place, a name of its own.
public struct SQL: Sendable {
  enum Element: Sendable {
    case text(String)
    case value(BoundValue)
  }

  /// A value in its place. It is an object, so that copies of the place are known to be the same.
  final class BoundValue: Sendable {
    let parameter: Parameter

    init(_ parameter: Parameter) {
      self.parameter = parameter
    }
  }

  private(set) var elements: [Element]

  init(elements: [Element]) {
    self.elements = elements
  }

  /// SQL that is no literal of this program: a file's, or what the operator has written. Nothing in it is
  /// quoted or bound.
  public init(trusted text: String) {
    elements = text.isEmpty ? [] : [.text(text)]
  }

  public var isEmpty: Bool { elements.isEmpty }

  public static func + (one: SQL, other: SQL) -> SQL {
    SQL(elements: one.elements + other.elements)
  }

  public static func += (one: inout SQL, other: SQL) {
    one.elements += other.elements
  }

  /// The text as it is sent, and the values of `$1`, `$2`, ….
  package var statement: (text: String, parameters: [Parameter]) {
    var text = ""
    var parameters: [Parameter] = []
    var numbers: [ObjectIdentifier: Int] = [:]
    for element in elements {
      switch element {
      case .text(let part): text += part
      case .value(let value):
        let number = numbers[ObjectIdentifier(value), default: parameters.count + 1]
        if number > parameters.count {
          parameters.append(value.parameter)
          numbers[ObjectIdentifier(value)] = number
        }
        text += "$\(number)"
      }
    }
    return (text, parameters)
  }
}

extension SQL {
  /// The condition that one of the given ones is met.
  public static func any(_ conditions: [SQL]) -> SQL {
    "(\(conditions.joined(separator: " OR ")))"
  }
}

extension Sequence<SQL> {
  /// The parts in order, with `separator` between each two.
  public func joined(separator: SQL = "") -> SQL {
    var all: SQL = ""
    var isFirst = true
    for part in self {
      if !isFirst { all += separator }
      all += part
      isFirst = false
    }
    return all
  }
}

/// What prints is the statement with its placeholders. The values may be secret or somebody's data.
extension SQL: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  public var description: String { statement.text }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: ["statement": description]) }
}

extension DefaultStringInterpolation {
  /// Put into a text, SQL would lose the values that are bound in it.
  @available(*, deprecated, message: "splice it into SQL, or ask for its description")
  public mutating func appendInterpolation(_ sql: SQL) {}
}
