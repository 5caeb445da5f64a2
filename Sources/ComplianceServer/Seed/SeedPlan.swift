/// The parameters of the generated data. The same plan gives the same rows, bit for bit.
public struct SeedPlan: Sendable {
  /// The number of accounts, from 1 to `UInt32.max`.
  public var accounts: Int
  public var posts: Int
  public var seed: UInt64
  /// The end of the generated time range, in seconds since 1970.
  public var untilEpochSeconds: Int64
  public var accountShares: AccountShares
  public var postShares: PostShares

  /// 2026-11-01T00:00:00Z.
  public static let defaultUntilEpochSeconds: Int64 = 1_793_491_200
  /// 2012-01-01T00:00:00Z, the time of the first post. The first account is a year older.
  public static let firstPostEpochSeconds: Int64 = 1_325_376_000
  static let firstAccountEpochSeconds: Int64 = 1_293_840_000

  public init(
    accounts: Int, posts: Int, seed: UInt64,
    untilEpochSeconds: Int64 = Self.defaultUntilEpochSeconds,
    accountShares: AccountShares = AccountShares(), postShares: PostShares = PostShares()
  ) {
    self.accounts = accounts
    self.posts = posts
    self.seed = seed
    self.untilEpochSeconds = untilEpochSeconds
    self.accountShares = accountShares
    self.postShares = postShares
  }
}

/// The fraction of the accounts in each state, from 0 to 1. The other accounts are active.
public struct AccountShares: Sendable {
  public var protected = 0.03
  public var suspended = 0.015
  public var deactivated = 0.01
  public var deleted = 0.02
  /// Accounts that are active again after protection or suspension.
  public var returned = 0.005

  public init() {}

  public var all: [Double] { [protected, suspended, deactivated, deleted, returned] }
}

/// The fraction of the posts, from 0 to 1, that are deleted, bounced, edited or without their location. A post can have
/// several of these changes, but is not both deleted and bounced.
public struct PostShares: Sendable {
  public var deleted = 0.04
  public var bounced = 0.0002
  public var edited = 0.005
  public var geoRemoved = 0.01

  public init() {}

  public var all: [Double] { [deleted, bounced, edited, geoRemoved] }
}

/// A time, in milliseconds since the epoch of snowflake IDs.
struct Instant: Comparable {
  let milliseconds: Int64

  /// 2010-11-04T01:42:54.657Z, in milliseconds since 1970.
  static let epoch: Int64 = 1_288_834_974_657

  init(milliseconds: Int64) {
    self.milliseconds = milliseconds
  }

  init(epochSeconds: Int64) {
    milliseconds = epochSeconds * 1000 - Self.epoch
  }

  /// When the account or post with this ID was created.
  init(snowflake: Int64) {
    milliseconds = snowflake >> 22
  }

  /// A `timestamptz` in COPY's binary format: microseconds since 2000-01-01.
  var copyMicroseconds: Int64 { (milliseconds + Self.epoch - 946_684_800_000) * 1000 }

  static func < (left: Instant, right: Instant) -> Bool { left.milliseconds < right.milliseconds }

  /// The time at this fraction, from 0 to 1, of the interval to `end`.
  func advanced(by share: Double, to end: Instant) -> Instant {
    Instant(
      milliseconds: milliseconds + Int64(Double(end.milliseconds - milliseconds) * share))
  }
}

/// The SplitMix64 random number generator. The same seed gives the same numbers on every machine.
struct SplitMix64: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) {
    state = seed
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }

  /// A number from 0 to below 1, uniformly distributed.
  mutating func share() -> Double { Double(next() >> 11) * 0x1p-53 }

  mutating func happens(_ share: Double) -> Bool { self.share() < share }
}

/// Generates IDs in ascending order of time. The last day has three times as many IDs as the first, like the days of a
/// growing platform.
struct Timeline {
  private let begin: Instant
  private let end: Instant
  private let count: Int
  private var made = 0
  private var last: Int64 = 0

  init(from begin: Instant, to end: Instant, count: Int) {
    self.begin = begin
    self.end = end
    self.count = count
  }

  /// The next snowflake, larger than the previous one.
  mutating func next(_ random: inout SplitMix64) -> Int64 {
    // Use only basic arithmetic, because every machine rounds it in the same way. The first ID has the time `begin`.
    let fraction = made == 0 ? 0 : (Double(made) + random.share()) / Double(count)
    let instant = begin.advanced(by: fraction * (3 - fraction) / 2, to: end)
    made += 1
    last = max(last + 1, instant.milliseconds << 22 | Int64(random.next() >> 42))
    return last
  }
}
