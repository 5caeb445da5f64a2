extension SQL: ExpressibleByStringInterpolation {
  public init(stringLiteral text: String) {
    self.init(trusted: text)
  }

  public init(stringInterpolation: StringInterpolation) {
    self.init(elements: stringInterpolation.elements)
  }

  public struct StringInterpolation: StringInterpolationProtocol {
    var elements: [Element] = []

    public init(literalCapacity: Int, interpolationCount: Int) {
      elements.reserveCapacity(2 * interpolationCount + 1)
    }

    public mutating func appendLiteral(_ text: String) {
      if !text.isEmpty { elements.append(.text(text)) }
    }

    /// Splices another part. The part's values stay bound.
    public mutating func appendInterpolation(_ sql: SQL) {
      elements += sql.elements
    }

    /// Binds a value. If the server cannot infer its type, as in a SELECT list, add a cast: `\(id)::bigint`. An array
    /// always needs a cast: `\(ids)::bigint[]`.
    public mutating func appendInterpolation(_ value: some Bindable) {
      elements.append(.value(BoundValue(value.parameter)))
    }

    /// Binds a value, or NULL.
    public mutating func appendInterpolation(_ value: (some Bindable)?) {
      elements.append(.value(BoundValue(value?.parameter ?? .null)))
    }

    /// Binds a text for people: see `Parameter.prose`.
    public mutating func appendInterpolation(prose text: String?) {
      elements.append(.value(BoundValue(Parameter(prose: text))))
    }

    /// Binds texts for people.
    public mutating func appendInterpolation(prose texts: [String]) {
      elements.append(.value(BoundValue(.proses(texts))))
    }

    /// Adds a name as a quoted identifier.
    public mutating func appendInterpolation(identifier name: String) {
      elements.append(.text(Identifier(name).quoted))
    }

    public mutating func appendInterpolation(identifier name: Identifier) {
      elements.append(.text(name.quoted))
    }

    /// Adds a text as an SQL literal, for statements that cannot have bound values, such as COMMENT.
    public mutating func appendInterpolation(literal text: String) {
      elements.append(.text(Self.literal(text)))
    }

    public mutating func appendInterpolation(literal number: some FixedWidthInteger) {
      // The parentheses are necessary because a cast binds more tightly than a minus sign.
      elements.append(.text(number < 0 ? "(\(number))" : "\(number)"))
    }

    /// Adds trusted SQL, such as the operator's condition, unchanged.
    public mutating func appendInterpolation(trusted text: String) {
      elements.append(.text(text))
    }

    /// A literal that is correct for any text and any setting of standard_conforming_strings.
    private static func literal(_ text: String) -> String {
      let quoted = text.split(separator: "'", omittingEmptySubsequences: false)
        .joined(separator: "''")
      guard text.contains("\\") else { return "'\(quoted)'" }
      let escaped = quoted.split(separator: "\\", omittingEmptySubsequences: false)
        .joined(separator: "\\\\")
      return " E'\(escaped)'"
    }
  }
}
