/// A statement or a part of one, with its bound values.
///
///     let isDue: SQL = "c.state = \(state.rawValue) AND c.due_at < \(time)::timestamptz"
///     try await session.query("SELECT chunk_id FROM lethe.chunk AS c WHERE \(isDue)")
///
/// An interpolation binds a value, or splices another `SQL`. Names, literals and trusted text need a label: see
/// `SQL.StringInterpolation`. Placeholders are numbered when the statement is sent, so a part can be used anywhere. If
/// a part is spliced twice, its values are sent only once, because both places use the same placeholders. So if a
/// statement needs a large value twice, put the value with its cast into an `SQL` constant, and splice the constant.
public struct SQL: Sendable {
  enum Element: Sendable {
    case text(String)
    case value(BoundValue)
  }

  /// A bound value. It is an object, so that all copies of it share one placeholder.
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

  /// Trusted SQL text, for example from a file, the catalog, the operator's definition or the program itself. It is
  /// used unchanged: nothing is quoted or bound.
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

  /// The text to send, and the values of `$1`, `$2`, ….
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
  /// The condition that at least one of the given conditions is met.
  public static func any(_ conditions: [SQL]) -> SQL {
    "(\(conditions.joined(separator: " OR ")))"
  }
}

extension Sequence<SQL> {
  /// The parts in order, with `separator` between them.
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

/// Prints the statement with its placeholders, without the values, because the values might be secret or personal data.
extension SQL: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  public var description: String { statement.text }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: ["statement": description]) }
}

extension DefaultStringInterpolation {
  /// The deprecation warns about a mistake: an `SQL` in a `String` would lose its bound values.
  @available(*, deprecated, message: "splice it into SQL, or use its description")
  public mutating func appendInterpolation(_ sql: SQL) {}
}
