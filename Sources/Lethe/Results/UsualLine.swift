internal import Vocabulary

/// Reads an event from a line in the form that the API uses: no white space, no escapes, only documented keys and
/// words, times with milliseconds. Eight bytes are compared or converted at once. For every other line, `init` returns
/// nil, and `LineScanner` then reads the line byte by byte.
struct UsualLine {
  enum Action {
    case delete, scrubGeo, rehydrate
  }

  private(set) var id: Int64 = 0
  private(set) var action: Action?
  private(set) var reason: Reason?
  private(set) var createdAt: Timestamp?
  private(set) var redactedAt: Timestamp?

  private let bytes: UnsafeRawBufferPointer
  private var index = 0

  /// - Returns: nil if the line has another form, or lacks the ID, the action or the reason.
  init?(_ line: UnsafeRawBufferPointer) {
    bytes = line
    guard line.first == UInt8(ascii: "{") else { return nil }
    repeat {
      index += 1
      guard readMember() else { return nil }
    } while index < bytes.count && bytes[index] == UInt8(ascii: ",")
    guard index + 1 == bytes.count, bytes[index] == UInt8(ascii: "}"), id > 0, action != nil,
      reason != nil
    else { return nil }
  }

  /// A text of up to eight bytes as a word, with the first byte in the lowest one.
  @inline(__always) private static func word(_ text: StaticString) -> UInt64 {
    var word: UInt64 = 0
    for place in 0..<text.utf8CodeUnitCount {
      word |= UInt64(text.utf8Start[place]) << UInt64(8 * place)
    }
    return word
  }

  /// Eight bytes from an offset on. Nil if the line ends before.
  @inline(__always) private func word(at offset: Int) -> UInt64? {
    guard offset + 8 <= bytes.count else { return nil }
    return UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }

  /// Moves over the text if it follows. The text has at most eight bytes. Returns false if fewer than eight bytes are
  /// left in the line.
  @inline(__always) private mutating func take(_ text: StaticString) -> Bool {
    let count = text.utf8CodeUnitCount
    guard let word = word(at: index) else { return false }
    let mask = count == 8 ? UInt64.max : (1 << UInt64(8 * count)) &- 1
    guard word & mask == Self.word(text) else { return false }
    index += count
    return true
  }

  private mutating func readMember() -> Bool {
    if take("\"id\":\"") { return id == 0 && readID() }
    if take("\"action\"") { return action == nil && take(":\"") && readAction() }
    if take("\"reason\"") { return reason == nil && take(":\"") && readReason() }
    if take("\"created") {
      guard createdAt == nil, take("_at\":\""), let time = readTime() else { return false }
      createdAt = time
      return true
    }
    if take("\"redacte") {
      guard redactedAt == nil, take("d_at\":\""), let time = readTime() else { return false }
      redactedAt = time
      return true
    }
    return false
  }

  private mutating func readAction() -> Bool {
    if take("delete\"") {
      action = .delete
    } else if take("scrub_ge") {
      if take("o\"") { action = .scrubGeo }
    } else if take("rehydrat") {
      if take("e\"") { action = .rehydrate }
    }
    return action != nil
  }

  private mutating func readReason() -> Bool {
    if take("deleted\"") {
      reason = .deleted
    } else if take("protecte") {
      if ends("d\"") { reason = .protected }
    } else if take("suspende") {
      if ends("d\"") { reason = .suspended }
    } else if take("deactiva") {
      if ends("ted\"") { reason = .deactivated }
    } else if take("bounced\"") {
      reason = .bounced
    } else if take("scrub_ge") {
      if ends("o\"") { reason = .geoScrubbed }
    } else if take("geo_scru") {
      if ends("bbed\"") { reason = .geoScrubbed }
    } else if take("tweet_ed") {
      if ends("ited\"") { reason = .tweetEdited }
    }
    return reason != nil
  }

  /// Moves over the text if it follows, also shortly before the line's end.
  private mutating func ends(_ text: StaticString) -> Bool {
    let count = text.utf8CodeUnitCount
    guard index + count <= bytes.count else { return false }
    for place in 0..<count where bytes[index + place] != text.utf8Start[place] { return false }
    index += count
    return true
  }

  private mutating func readTime() -> Timestamp? {
    guard index + Timestamp.usualBytes < bytes.count,
      bytes[index + Timestamp.usualBytes] == UInt8(ascii: "\""),
      let first = word(at: index), let second = word(at: index + 8),
      let third = word(at: index + 16), let time = Timestamp(usual: (first, second, third))
    else { return nil }
    index += Timestamp.usualBytes + 1
    return time
  }

  /// Up to 19 digits, the first of which is not 0, and a quotation mark.
  private mutating func readID() -> Bool {
    var value: UInt64 = 0
    guard index < bytes.count, bytes[index] != UInt8(ascii: "0") else { return false }
    let start = index
    while index - start < 19 {
      guard let word = word(at: index) else { return false }
      let count = Self.digits(in: word)
      if count == 0 { break }
      // The digits move to the upper end, and zeros follow them from below.
      let digits = (word &- 0x3030_3030_3030_3030) << UInt64(8 * (8 - count))
      value = value &* Self.powerOfTen(count) &+ Self.value(of: digits)
      index += count
      if count < 8 { break }
    }
    // A number of 19 digits fits into 64 bits.
    guard index > start, index - start <= 19, value <= UInt64(Int64.max), ends("\"") else {
      return false
    }
    id = Int64(value)
    return true
  }

  @inline(__always) private static func powerOfTen(_ exponent: Int) -> UInt64 {
    switch exponent {
    case 1: 10
    case 2: 100
    case 3: 1000
    case 4: 10_000
    case 5: 100_000
    case 6: 1_000_000
    case 7: 10_000_000
    default: 100_000_000
    }
  }

  /// The number of bytes before the first one that is not a digit.
  @inline(__always) private static func digits(in word: UInt64) -> Int {
    let upper: UInt64 = 0xF0F0_F0F0_F0F0_F0F0
    let zeros: UInt64 = 0x3030_3030_3030_3030
    // A byte is a digit if its upper half is 3, also after 6 is added. A carry comes only from a byte that is not a
    // digit, and changes only bytes after it.
    let others = (word & upper ^ zeros) | ((word &+ 0x0606_0606_0606_0606) & upper ^ zeros)
    return others.trailingZeroBitCount / 8
  }

  /// The value of eight digits from 0 to 9, the first one in the lowest byte. Neighbours are joined: first digits, then
  /// pairs, then fours.
  @inline(__always) private static func value(of digits: UInt64) -> UInt64 {
    let pairs = digits &* 10 &+ digits >> 8
    let mask: UInt64 = 0x0000_00FF_0000_00FF
    let upper = (pairs & mask) &* (100 + 1_000_000 << 32)
    let lower = (pairs >> 16 & mask) &* (1 + 10_000 << 32)
    return (upper &+ lower) >> 32
  }
}
