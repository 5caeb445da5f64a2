/// The accounts of a world, in the order of their IDs. Posts need them, so they are kept: 20 bytes each.
struct Accounts {
  struct Account {
    let id: Int64
    let username: [UInt8]
    let state: AccountState
    let stateChangedAt: Instant?
  }

  /// In the order of time, as their IDs are.
  private var ids: [Int64] = []
  /// When each stopped writing; `Int64.max` for those that did not.
  private var endedMilliseconds: [Int64] = []
  /// The accounts by how much they write, the busiest first.
  private var byActivity: [UInt32] = []

  private let plan: WorldPlan
  private let until: Instant
  private var timeline: Timeline
  private var dice: Dice

  init(_ plan: WorldPlan) {
    self.plan = plan
    until = Instant(epochSeconds: plan.untilEpochSeconds)
    timeline = Timeline(
      from: Instant(epochSeconds: WorldPlan.firstAccountEpochSeconds), to: until,
      count: plan.accounts)
    dice = Dice(seed: plan.seed)
    ids.reserveCapacity(plan.accounts)
    endedMilliseconds.reserveCapacity(plan.accounts)
  }

  mutating func next() -> Account? {
    guard ids.count < plan.accounts else { return nil }
    let number = ids.count
    let id = timeline.next(&dice)
    let draw = dice.share()
    let when = Instant(snowflake: id).advanced(by: dice.share(), to: until)
    // The first account stays, so that no post is without an author.
    var (state, changed) = number == 0 ? (.active, false) : fate(draw)
    if when <= Instant(snowflake: id) { (state, changed) = (.active, false) }
    ids.append(id)
    endedMilliseconds.append(state.endsPosts ? when.milliseconds : .max)
    return Account(
      id: id, username: Self.username(number), state: state, stateChangedAt: changed ? when : nil)
  }

  private func fate(_ draw: Double) -> (AccountState, changed: Bool) {
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

  /// Once all accounts are made: who writes how much.
  mutating func rankByActivity() {
    byActivity = (0..<UInt32(ids.count)).shuffled(using: &dice)
  }

  /// The author of a post of that instant: a few accounts write most of the posts.
  func author(at instant: Instant, _ dice: inout Dice) -> Int64 {
    for _ in 0..<32 {
      let share = dice.share()
      let account = Int(byActivity[Int(share * share * share * Double(byActivity.count))])
      if writes(account, at: instant) { return ids[account] }
    }
    return ids[0]
  }

  private func writes(_ account: Int, at instant: Instant) -> Bool {
    Instant(snowflake: ids[account]) < instant
      && instant.milliseconds < endedMilliseconds[account]
  }

  /// Twelve letters, another for each number below 2^32.
  private static func username(_ number: Int) -> [UInt8] {
    let consonants = Array("bdfghjklmnprstvz".utf8)
    let vowels = Array("aeio".utf8)
    // An odd factor maps the numbers one to one.
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

  /// Whether nobody can write as this account any more.
  var endsPosts: Bool {
    switch self {
    case .active, .protected: false
    case .suspended, .deactivated, .deleted: true
    }
  }
}
