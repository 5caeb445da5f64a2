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

    /// Splices another part: its values stay bound.
    public mutating func appendInterpolation(_ sql: SQL) {
      elements += sql.elements
    }

    /// Binds a value. Where the server cannot tell its type, as in a SELECT list, cast it: `\(id)::bigint`. An
    /// array always needs one: `\(ids)::bigint[]`.
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

    /// A name, in quotes.
    public mutating func appendInterpolation(identifier name: String) {
      elements.append(.text(Identifier(name).quoted))
    }

    public mutating func appendInterpolation(identifier name: Identifier) {
      elements.append(.text(name.quoted))
    }

    /// A text as an SQL literal, for statements that take no bound values, such as COMMENT.
    public mutating func appendInterpolation(literal text: String) {
      elements.append(.text(Self.literal(text)))
    }

    public mutating func appendInterpolation(literal number: some FixedWidthInteger) {
      elements.append(.text("\(number)"))
    }

    /// SQL that the operator has written, or that a caller vouches for: it is taken as it is.
    public mutating func appendInterpolation(trusted text: String) {
      elements.append(.text(text))
    }

    /// Means the text whatever it contains, and however the server reads backslashes.
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
