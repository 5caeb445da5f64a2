import ArgumentParser
import Foundation
import PlatformSeed
import PostgreSQL

struct Seed: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Fill the platform's tables with generated data.",
    discussion: """
      The same options generate the same data, bit for bit. IDs are snowflakes whose time is created_at. \
      An eighth of the accounts writes about half of the posts. No account posts before it was created or after it was \
      suspended, deactivated or deleted. The command runs in one transaction.
      """)

  @OptionGroup var database: DatabaseOption

  @Option(help: "The number of accounts.")
  var accounts = 10_000

  @Option(help: "The number of posts.")
  var posts = 1_000_000

  @Option(
    help: "The seed of the random numbers. Another seed generates other data of the same kind.")
  var seed: UInt64 = 1

  @Option(
    help: ArgumentHelp(
      "The end of the generated time range, such as 2026-11-01T00:00:00Z.",
      valueName: "time"))
  var until = EpochTime(seconds: SeedPlan.defaultUntilEpochSeconds)

  @Flag(help: "Empty the tables first. Without this flag, the tables must be empty.")
  var replace = false

  @OptionGroup(title: "Fractions, from 0 to 1") var shares: SeedShares

  func validate() throws {
    guard (1...Int(UInt32.max)).contains(accounts) else {
      throw ValidationError("--accounts must be from 1 to \(UInt32.max).")
    }
    guard posts >= 0 else { throw ValidationError("--posts cannot be negative.") }
    guard until.seconds > SeedPlan.firstPostEpochSeconds else {
      throw ValidationError(
        "--until must be after 2012-01-01T00:00:00Z, the time of the first post.")
    }
  }

  func run() async throws {
    var plan = SeedPlan(
      accounts: accounts, posts: posts, seed: seed, untilEpochSeconds: until.seconds)
    plan.accountShares = shares.ofAccounts
    plan.postShares = shares.ofPosts
    let began = ContinuousClock.now
    let report = try await Connection.withConnection(
      database.connectionString, applicationName: "compliance-server seed", refusingPoolers: true
    ) { [plan, posts] connection in
      var seeding = Seeding(connection, plan)
      if isatty(STDERR_FILENO) == 1 {
        seeding.progressed = { made in
          let line = "\r\(made.formatted()) of \(posts.formatted()) posts"
          FileHandle.standardError.write(Data((line + (made == posts ? "\n" : "")).utf8))
        }
      }
      return try await seeding.run(isReplacing: replace)
    }
    let seconds = (ContinuousClock.now - began) / .seconds(1)
    print(Self.summary(report, seconds: seconds))
  }

  private static func summary(_ report: Seeding.Report, seconds: Double) -> String {
    let states = report.accountsByState.sorted { $0.key < $1.key }
      .map { "\($0.value.formatted()) \($0.key)" }.joined(separator: ", ")
    return """
      \(report.accounts.formatted()) accounts: \(states)
      \(report.posts.formatted()) posts: \(report.deleted.formatted()) deleted, \
      \(report.bounced.formatted()) bounced, \(report.edited.formatted()) edited, \
      \(report.geoRemoved.formatted()) without their location
      in \(seconds.formatted(.number.precision(.fractionLength(1)))) s
      """
  }
}

struct SeedShares: ParsableArguments {
  @Option(help: "Accounts that are protected.")
  var protected = AccountShares().protected

  @Option(help: "Accounts that are suspended.")
  var suspended = AccountShares().suspended

  @Option(help: "Accounts that are deactivated.")
  var deactivated = AccountShares().deactivated

  @Option(help: "Accounts that are deleted.")
  var deleted = AccountShares().deleted

  @Option(help: "Accounts that are active again after protection or suspension.")
  var returned = AccountShares().returned

  @Option(name: .customLong("posts-deleted"), help: "Posts that are deleted.")
  var postsDeleted = PostShares().deleted

  @Option(name: .customLong("posts-bounced"), help: "Posts that bounced.")
  var postsBounced = PostShares().bounced

  @Option(name: .customLong("posts-edited"), help: "Posts that were edited.")
  var postsEdited = PostShares().edited

  @Option(name: .customLong("posts-geo-removed"), help: "Posts whose location was removed.")
  var postsGeoRemoved = PostShares().geoRemoved

  var ofAccounts: AccountShares {
    var shares = AccountShares()
    shares.protected = protected
    shares.suspended = suspended
    shares.deactivated = deactivated
    shares.deleted = deleted
    shares.returned = returned
    return shares
  }

  var ofPosts: PostShares {
    var shares = PostShares()
    shares.deleted = postsDeleted
    shares.bounced = postsBounced
    shares.edited = postsEdited
    shares.geoRemoved = postsGeoRemoved
    return shares
  }

  func validate() throws {
    guard (ofAccounts.all + ofPosts.all).allSatisfy({ (0...1).contains($0) }) else {
      throw ValidationError("Each fraction, such as --protected, must be from 0 to 1.")
    }
    guard ofAccounts.all.reduce(0, +) <= 1 else {
      throw ValidationError(
        "The sum of --protected, --suspended, --deactivated, --deleted and --returned is more than 1."
      )
    }
    guard postsDeleted + postsBounced <= 1 else {
      throw ValidationError("The sum of --posts-deleted and --posts-bounced is more than 1.")
    }
  }
}

/// A command line argument: a time such as 2026-11-01T00:00:00Z.
struct EpochTime: ExpressibleByArgument {
  let seconds: Int64

  init(seconds: Int64) {
    self.seconds = seconds
  }

  init?(argument: String) {
    guard let date = try? Date(argument, strategy: .iso8601) else { return nil }
    seconds = Int64(date.timeIntervalSince1970)
  }

  var defaultValueDescription: String {
    Date(timeIntervalSince1970: TimeInterval(seconds)).formatted(.iso8601)
  }
}
