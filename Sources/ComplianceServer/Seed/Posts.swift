/// Generates the posts, in the order of their IDs.
struct Posts {
  struct Post {
    let id: Int64
    let authorID: Int64
    let deletedAt: Instant?
    let bouncedAt: Instant?
    let editedAt: Instant?
    let geoRemovedAt: Instant?
  }

  private let accounts: Accounts
  private let shares: PostShares
  private let until: Instant
  private var left: Int
  private var timeline: Timeline
  private var random: SplitMix64

  /// How long a post can be edited.
  private static let editableMilliseconds: Int64 = 60 * 60 * 1000

  init(_ plan: SeedPlan, by accounts: Accounts) {
    self.accounts = accounts
    shares = plan.postShares
    until = Instant(epochSeconds: plan.untilEpochSeconds)
    left = plan.posts
    timeline = Timeline(
      from: Instant(epochSeconds: SeedPlan.firstPostEpochSeconds), to: until, count: plan.posts)
    // The inverted seed gives other random numbers than those of the accounts.
    random = SplitMix64(seed: ~plan.seed)
  }

  mutating func next() -> Post? {
    guard left > 0 else { return nil }
    left -= 1
    let id = timeline.next(&random)
    let written = Instant(snowflake: id)
    let author = accounts.author(at: written, &random)
    let removal = random.share()
    let isDeleted = removal < shares.deleted
    let isBounced = !isDeleted && removal < shares.deleted + shares.bounced
    let isEdited = random.happens(shares.edited)
    let lostLocation = random.happens(shares.geoRemoved)
    return Post(
      id: id, authorID: author, deletedAt: isDeleted ? soon(after: written) : nil,
      bouncedAt: isBounced ? soon(after: written) : nil,
      editedAt: isEdited ? edit(of: written) : nil,
      geoRemovedAt: lostLocation ? written.advanced(by: random.share(), to: until) : nil)
  }

  /// A random time, most likely soon after the post.
  private mutating func soon(after written: Instant) -> Instant {
    let share = random.share()
    return written.advanced(by: share * share * share * share, to: until)
  }

  private mutating func edit(of written: Instant) -> Instant {
    let last = Instant(milliseconds: written.milliseconds + Self.editableMilliseconds)
    return written.advanced(by: random.share(), to: min(last, until))
  }
}
