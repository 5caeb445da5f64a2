/// Generates the accounts, in the order of their IDs. It keeps 20 bytes for each account, because it later chooses the
/// authors of the posts.
struct Accounts {
  struct Account {
    let id: Int64
    let username: [UInt8]
    let state: AccountState
    let stateChangedAt: Instant?
  }

  /// The IDs of the accounts, in ascending order.
  private var ids: [Int64] = []
  /// When each account stopped posting; `Int64.max` for an account that still posts.
  private var endedMilliseconds: [Int64] = []
  /// The indexes of the accounts in `ids`. `author` tries an earlier one more often.
  private var byActivity: [UInt32] = []

  private let plan: SeedPlan
  private let until: Instant
  private var timeline: Timeline
  private var random: SplitMix64

  init(_ plan: SeedPlan) {
    self.plan = plan
    until = Instant(epochSeconds: plan.untilEpochSeconds)
    timeline = Timeline(
      from: Instant(epochSeconds: SeedPlan.firstAccountEpochSeconds), to: until,
      count: plan.accounts)
    random = SplitMix64(seed: plan.seed)
    ids.reserveCapacity(plan.accounts)
    endedMilliseconds.reserveCapacity(plan.accounts)
  }

  mutating func next() -> Account? {
    guard ids.count < plan.accounts else { return nil }
    let number = ids.count
    let id = timeline.next(&random)
    let draw = random.share()
    let when = Instant(snowflake: id).advanced(by: random.share(), to: until)
    // The first account stays active, so that each post has an author.
    var (state, changed) = number == 0 ? (.active, false) : chosenState(draw)
    if when <= Instant(snowflake: id) { (state, changed) = (.active, false) }
    ids.append(id)
    endedMilliseconds.append(state.endsPosts ? when.milliseconds : .max)
    return Account(
      id: id, username: Self.username(number), state: state, stateChangedAt: changed ? when : nil)
  }

  private func chosenState(_ draw: Double) -> (AccountState, changed: Bool) {
    let shares = plan.accountShares
    var bound = 0.0
    for (share, state) in [
      (shares.protected, AccountState.protected), (shares.suspended, .suspended),
      (shares.deactivated, .deactivated), (shares.deleted, .deleted), (shares.returned, .active),
    ] {
      bound += share
      if draw < bound { return (state, true) }
    }
    return (.active, false)
  }

  /// Shuffles the accounts. The order decides how active each account is: `author` tries the first one most often. Call
  /// this after the last account.
  mutating func rankByActivity() {
    byActivity = (0..<UInt32(ids.count)).shuffled(using: &random)
  }

  /// Chooses the author of a post that is written at `instant`. The most active eighth of the accounts writes about
  /// half of the posts.
  func author(at instant: Instant, _ random: inout SplitMix64) -> Int64 {
    for _ in 0..<32 {
      let share = random.share()
      let account = Int(byActivity[Int(share * share * share * Double(byActivity.count))])
      if writes(account, at: instant) { return ids[account] }
    }
    return ids[0]
  }

  private func writes(_ account: Int, at instant: Instant) -> Bool {
    Instant(snowflake: ids[account]) < instant
      && instant.milliseconds < endedMilliseconds[account]
  }

  /// A username of twelve letters. All numbers below 2^32 have different usernames.
  private static func username(_ number: Int) -> [UInt8] {
    let consonants = Array("bdfghjklmnprstvz".utf8)
    let vowels = Array("aeio".utf8)
    // Different numbers stay different, because multiplication by an odd number is one-to-one modulo 2^32.
    let mixed = UInt64(UInt32(truncatingIfNeeded: number) &* 2_654_435_761)
    var name: [UInt8] = []
    for syllable in 0..<6 {
      let bits = Int(mixed >> (syllable * 6) & 63)
      name.append(consonants[bits >> 2])
      name.append(vowels[bits & 3])
    }
    return name
  }
}

enum AccountState: String {
  case active
  case protected
  case suspended
  case deactivated
  case deleted

  /// Whether an account in this state can no longer post.
  var endsPosts: Bool {
    switch self {
    case .active, .protected: false
    case .suspended, .deactivated, .deleted: true
    }
  }
}
