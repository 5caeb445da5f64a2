/// Writes events as result lines, in the format of a wire profile.
struct ResultLines {
  let type: JobType
  let profile: WireProfile
  let vocabulary: ResultVocabulary

  /// The events that are held back to shuffle the lines of a gcs result. An event stays here until a later event
  /// replaces it, or until `finish`. The order of the lines depends only on the IDs, so the same IDs always give the
  /// same order.
  private var waiting: [PlatformEvent] = []
  private static let waitingMax = 8192

  /// The number of lines in the current shard, plus one after the first empty line. A real gcs result consists of
  /// shards with an empty line between them. Here an empty line follows the first line, and then every 999 lines.
  private var shardLines = 0
  private static let shardLinesMax = 1000

  init(type: JobType, profile: WireProfile, vocabulary: ResultVocabulary) {
    self.type = type
    self.profile = profile
    self.vocabulary = vocabulary
  }

  mutating func append(_ event: PlatformEvent, to bytes: inout [UInt8]) {
    guard profile == .gcs else { return write(event, to: &bytes) }
    guard waiting.count == Self.waitingMax else { return waiting.append(event) }
    let index = Int(event.shuffleKey % UInt64(Self.waitingMax))
    write(waiting[index], to: &bytes)
    waiting[index] = event
  }

  /// Writes the remaining events. Call this after the last event.
  mutating func finish(to bytes: inout [UInt8]) {
    waiting.sort { $0.shuffleKey < $1.shuffleKey }
    for event in waiting { write(event, to: &bytes) }
    waiting = []
  }

  private mutating func write(_ event: PlatformEvent, to bytes: inout [UInt8]) {
    if profile == .gcs {
      if shardLines == 1 || shardLines == Self.shardLinesMax {
        bytes.append(UInt8(ascii: "\n"))
        if shardLines == Self.shardLinesMax { shardLines = 1 }
      }
      shardLines += 1
    }
    bytes.append(contentsOf: #"{"id":""#.utf8)
    bytes.append(decimal: event.id)
    bytes.append(contentsOf: vocabulary.words(event.verdict, profile).utf8)
    switch profile {
    case .native:
      bytes.append(contentsOf: #"","created_at":""#.utf8)
      bytes.append(time: event.createdAt, .milliseconds)
      bytes.append(contentsOf: #"","redacted_at":""#.utf8)
      bytes.append(time: event.since, .milliseconds)
    case .gcs:
      bytes.append(contentsOf: #"","created_at":""#.utf8)
      bytes.append(time: event.createdAt, type == .users ? .secondsAndOffset : .milliseconds)
      if event.verdict.hasLegacyTime {
        bytes.append(contentsOf: #"","redacted_at":""#.utf8)
        bytes.append(time: event.since, .secondsAndOffset)
      }
    }
    bytes.append(contentsOf: "\"}\n".utf8)
  }

  /// Appends the result line for a submitted line that is not an ID: `{"id":"<line>","error":"invalid_id"}`. Invalid
  /// UTF-8 becomes U+FFFD.
  static func append(invalid line: UnsafeRawBufferPointer, to bytes: inout [UInt8]) {
    bytes.append(contentsOf: #"{"id":""#.utf8)
    for byte in String(decoding: line, as: UTF8.self).utf8 {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"):
        bytes.append(UInt8(ascii: "\\"))
        bytes.append(byte)
      case 0..<0x20:
        bytes.append(contentsOf: (byte < 0x10 ? "\\u000" : "\\u00").utf8)
        bytes.append(contentsOf: String(byte, radix: 16).utf8)
      default: bytes.append(byte)
      }
    }
    bytes.append(contentsOf: "\",\"error\":\"invalid_id\"}\n".utf8)
  }
}

extension PlatformEvent {
  /// A hash of the ID that is unrelated to the order of the IDs: SplitMix64.
  fileprivate var shuffleKey: UInt64 {
    var bits = UInt64(bitPattern: id) &+ 0x9E37_79B9_7F4A_7C15
    bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
    bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
    return bits ^ (bits >> 31)
  }
}

extension Verdict {
  /// Whether a gcs line has `redacted_at`. The lines that X sent for suspensions had none. Here, lines for bounced
  /// posts and removed locations have none, either.
  fileprivate var hasLegacyTime: Bool {
    switch self {
    case .bounced, .geoRemoved, .authorSuspended: false
    case .deleted, .authorDeleted, .authorDeactivated, .authorProtected, .edited: true
    }
  }
}

extension StaticString {
  fileprivate var utf8: UnsafeBufferPointer<UInt8> {
    UnsafeBufferPointer(start: utf8Start, count: utf8CodeUnitCount)
  }
}

extension [UInt8] {
  fileprivate enum TimeFormat {
    /// `2021-08-11T19:42:55.000Z`
    case milliseconds
    /// `2019-03-02T03:37:59+00:00`
    case secondsAndOffset
  }

  fileprivate mutating func append(decimal value: Int64) {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 20) { digits in
      var rest = value.magnitude
      var position = 20
      repeat {
        position -= 1
        digits[position] = UInt8(ascii: "0") + UInt8(rest % 10)
        rest /= 10
      } while rest > 0
      append(contentsOf: UnsafeBufferPointer(rebasing: digits[position..<20]))
    }
  }

  fileprivate mutating func append(_ value: Int, digits: Int) {
    var divisor = 1
    for _ in 1..<digits { divisor *= 10 }
    while divisor > 0 {
      append(UInt8(ascii: "0") + UInt8(value / divisor % 10))
      divisor /= 10
    }
  }

  /// The times with a year of four digits, in microseconds since 2000-01-01.
  private static let writable: ClosedRange<Int64> =
    -63_082_281_600_000_000...252_455_615_999_999_999

  /// Appends a time. A time before the year 1 or after the year 9999, such as PostgreSQL's `infinity`, becomes the
  /// nearest time of these years.
  /// - Parameter time: microseconds since 2000-01-01.
  fileprivate mutating func append(time: Int64, _ format: TimeFormat) {
    let perDay: Int64 = 86_400_000_000
    let time = Swift.min(Swift.max(time, Self.writable.lowerBound), Self.writable.upperBound)
    let (days, microseconds) = time.quotientAndRemainder(flooringBy: perDay)
    let (year, month, day) = Self.civil(daysSince2000: Int(days))
    let seconds = Int(microseconds / 1_000_000)
    append(year, digits: 4)
    append(UInt8(ascii: "-"))
    append(month, digits: 2)
    append(UInt8(ascii: "-"))
    append(day, digits: 2)
    append(UInt8(ascii: "T"))
    append(seconds / 3600, digits: 2)
    append(UInt8(ascii: ":"))
    append(seconds / 60 % 60, digits: 2)
    append(UInt8(ascii: ":"))
    append(seconds % 60, digits: 2)
    switch format {
    case .milliseconds:
      append(UInt8(ascii: "."))
      append(Int(microseconds % 1_000_000 / 1000), digits: 3)
      append(UInt8(ascii: "Z"))
    case .secondsAndOffset: append(contentsOf: "+00:00".utf8)
    }
  }

  /// Converts days since 2000-01-01 to a date, with Howard Hinnant's algorithm civil_from_days.
  private static func civil(daysSince2000 days: Int) -> (year: Int, month: Int, day: Int) {
    let shifted = days + 730_425
    let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let monthFromMarch = (5 * dayOfYear + 2) / 153
    let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
    return (
      yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month,
      dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
    )
  }
}

extension Int64 {
  fileprivate func quotientAndRemainder(flooringBy divisor: Int64) -> (Int64, Int64) {
    let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
  }
}
