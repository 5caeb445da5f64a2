/// A size, written as in PostgreSQL's settings: a number and B, kB, MB, GB or TB. A kB has 1024 bytes.
public struct ByteSize: Sendable, Equatable, CustomStringConvertible {
  public let bytes: Int

  private static let units: [Unit] = [
    ("TB", 1_099_511_627_776), ("GB", 1_073_741_824), ("MB", 1_048_576), ("kB", 1024), ("B", 1),
  ]

  public init(bytes: Int) {
    self.bytes = bytes
  }

  /// Nil if the text is not a size of at least one byte and less than 2^62 bytes.
  init?(_ text: String) {
    guard let amount = amount(of: text, in: Self.units), (1..<0x1p62).contains(amount)
    else { return nil }
    bytes = Int(amount)
  }

  public var description: String {
    let unit = Self.units.first { Double(bytes) >= $0.factor } ?? ("B", 1)
    return "\(oneDecimal(Double(bytes) / unit.factor)) \(unit.name)"
  }
}

/// A time, written as in PostgreSQL's settings: a number and us, ms, s, min, h or d.
public struct TimeSpan: Sendable, Equatable, CustomStringConvertible {
  public let seconds: Double

  private static let units: [Unit] = [
    ("us", 1e-6), ("ms", 1e-3), ("s", 1), ("min", 60), ("h", 3600), ("d", 86400),
  ]

  public init(seconds: Double) {
    self.seconds = seconds
  }

  /// Nil if the text is not a time above zero.
  init?(_ text: String) {
    guard let amount = amount(of: text, in: Self.units), amount > 0
    else { return nil }
    seconds = amount
  }

  public var description: String {
    switch seconds {
    case ..<1: "\(oneDecimal(seconds * 1000)) ms"
    case ..<120: "\(oneDecimal(seconds)) s"
    default: "\(oneDecimal(seconds / 60)) min"
    }
  }
}

private typealias Unit = (name: String, factor: Double)

/// The number in a text, times its unit. Nil without a number or with another unit.
private func amount(of text: String, in units: [Unit]) -> Double? {
  let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
  let name = text.dropFirst(digits.count).drop { $0 == " " }
  guard let number = Double(digits), let unit = units.first(where: { $0.name == name })
  else { return nil }
  return number * unit.factor
}

private func oneDecimal(_ value: Double) -> String {
  let tenths = (value * 10).rounded() / 10
  return tenths == tenths.rounded() ? "\(Int(tenths))" : "\(tenths)"
}
