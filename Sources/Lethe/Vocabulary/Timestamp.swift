/// A point in time as PostgreSQL's `timestamptz` stores it: microseconds since 2000-01-01 00:00 UTC.
public struct Timestamp: Sendable, Hashable, Comparable {
  public let microsecondsSince2000: Int64

  public init(microsecondsSince2000: Int64) {
    self.microsecondsSince2000 = microsecondsSince2000
  }

  public static func < (left: Timestamp, right: Timestamp) -> Bool {
    left.microsecondsSince2000 < right.microsecondsSince2000
  }

  /// Seconds since 1970-01-01 00:00 UTC.
  public var secondsSince1970: Double {
    Double(microsecondsSince2000) / 1e6 + 946_684_800
  }

  /// Reads RFC 3339 in the forms that the API has used: `2021-08-11T19:42:55.000Z`,
  /// `2019-03-02T03:37:59+00:00`, `…-08:00`, with or without a fraction, and with or without the offset's colon.
  public init?(_ text: some StringProtocol) {
    var text = String(text)
    guard let value = text.withUTF8({ Timestamp(UnsafeRawBufferPointer($0)) }) else { return nil }
    self = value
  }

  /// Reads the same forms from bytes.
  public init?(_ bytes: UnsafeRawBufferPointer) {
    var reader = DigitReader(bytes: bytes)
    guard let year = reader.number(digits: 4), reader.take("-"),
      let month = reader.number(digits: 2), (1...12).contains(month), reader.take("-"),
      let day = reader.number(digits: 2),
      day >= 1, day <= Self.days(inMonth: month, of: year),
      reader.take("T") || reader.take("t") || reader.take(" "),
      let hour = reader.number(digits: 2), hour < 24, reader.take(":"),
      let minute = reader.number(digits: 2), minute < 60, reader.take(":"),
      let second = reader.number(digits: 2), second <= 60,
      let fraction = reader.fractionMicroseconds(),
      let offsetMinutes = reader.offsetMinutes(), reader.isAtEnd
    else { return nil }
    let days = Self.daysSince2000(year: year, month: month, day: day)
    let seconds = ((days * 24 + hour) * 60 + minute - offsetMinutes) * 60 + second
    self.init(microsecondsSince2000: Int64(seconds) * 1_000_000 + Int64(fraction))
  }

  /// The number of bytes of the form that the API uses now: `2021-08-11T19:42:55.000Z`.
  public static let usualBytes = 24

  /// Reads only the form of `usualBytes` bytes, in three words of eight bytes.
  /// - Parameter words: the bytes, the first one in the lowest byte.
  /// - Returns: nil if the bytes have another form, or are no time.
  public init?(usual words: (UInt64, UInt64, UInt64)) {
    guard
      let date = Digits(words.0, separators: 0x2D00_002D_0000_0000, at: 0xFF00_00FF_0000_0000),
      let hours = Digits(words.1, separators: 0x0000_3A00_0054_0000, at: 0x0000_FF00_00FF_0000),
      let seconds = Digits(words.2, separators: 0x5A00_0000_2E00_003A, at: 0xFF00_0000_FF00_00FF)
    else { return nil }
    let (year, month) = (date.pair(0) * 100 + date.pair(2), date.pair(5))
    let (day, hour, minute) = (hours.pair(0), hours.pair(3), hours.pair(6))
    let second = seconds.pair(1)
    guard (1...12).contains(month), day >= 1, day <= Self.days(inMonth: month, of: year),
      hour < 24, minute < 60, second <= 60
    else { return nil }
    let days = Self.daysSince2000(year: year, month: month, day: day)
    let milliseconds = seconds.pair(4) * 10 + seconds.digit(6)
    self.init(
      microsecondsSince2000: Int64(((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000
        + Int64(milliseconds) * 1000)
  }

  private static func days(inMonth month: Int, of year: Int) -> Int {
    switch month {
    case 2:
      year.isMultiple(of: 4) && (!year.isMultiple(of: 100) || year.isMultiple(of: 400)) ? 29 : 28
    case 4, 6, 9, 11: 30
    default: 31
    }
  }

  /// The days since 2000-01-01, by Howard Hinnant's algorithm days_from_civil.
  private static func daysSince2000(year: Int, month: Int, day: Int) -> Int {
    let year = month <= 2 ? year - 1 : year
    let era = (year >= 0 ? year : year - 399) / 400
    let yearOfEra = year - era * 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
    return era * 146_097 + dayOfEra - 730_425
  }
}

/// Eight bytes that are digits, except for some separators.
private struct Digits {
  private let word: UInt64

  /// - Parameters:
  ///   - separators: the separators in their places, and 0 in the other bytes.
  ///   - mask: 0xFF in the bytes of the separators.
  init?(_ word: UInt64, separators: UInt64, at mask: UInt64) {
    guard word & mask == separators else { return nil }
    let digits = word & ~mask | 0x3030_3030_3030_3030 & mask
    // A byte is a digit if its upper half is 3, also after 6 is added.
    let upper: UInt64 = 0xF0F0_F0F0_F0F0_F0F0
    guard digits & upper == 0x3030_3030_3030_3030,
      (digits &+ 0x0606_0606_0606_0606) & upper == 0x3030_3030_3030_3030
    else { return nil }
    self.word = digits
  }

  func digit(_ place: UInt64) -> Int { Int(word >> (8 * place) & 0xF) }

  func pair(_ place: UInt64) -> Int { digit(place) * 10 + digit(place + 1) }
}

private struct DigitReader {
  let bytes: UnsafeRawBufferPointer
  var index = 0

  var isAtEnd: Bool { index == bytes.count }

  mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard index < bytes.count, UInt32(bytes[index]) == character.value else { return false }
    index += 1
    return true
  }

  mutating func digit() -> Int? {
    guard index < bytes.count, case let value = bytes[index] &- 0x30, value < 10 else { return nil }
    index += 1
    return Int(value)
  }

  mutating func number(digits: Int) -> Int? {
    var value = 0
    for _ in 0..<digits {
      guard let digit = digit() else { return nil }
      value = value * 10 + digit
    }
    return value
  }

  /// Reads an optional fraction: `.5` is 500,000. Digits after the sixth are dropped.
  /// - Returns: 0 without a fraction; nil if no digit follows the point.
  mutating func fractionMicroseconds() -> Int? {
    guard take(".") else { return 0 }
    var value = 0
    var scale = 100_000
    guard let first = digit() else { return nil }
    value = first * scale
    while let digit = digit() {
      scale /= 10
      value += digit * scale
    }
    return value
  }

  mutating func offsetMinutes() -> Int? {
    if take("Z") || take("z") { return 0 }
    let sign: Int
    if take("+") {
      sign = 1
    } else if take("-") {
      sign = -1
    } else {
      return nil
    }
    guard let hours = number(digits: 2), hours < 24 else { return nil }
    _ = take(":")
    guard let minutes = number(digits: 2), minutes < 60 else { return nil }
    return sign * (hours * 60 + minutes)
  }
}
