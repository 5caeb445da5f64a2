/// A small warehouse and its definition, for runs that hide and restore rows. An answer about a post changes the post's
/// row. An answer about a user changes the user's row and the rows of the user's posts. The definition does not use the
/// table `reposts`.
struct Shop: Sendable {
  /// The order in which a run applies its datasets.
  enum Order: String, CaseIterable, Sendable {
    /// The order of `lethe run`.
    case run
    /// The stages run one after the other. Apply begins with the dataset that the case names.
    case postsFirst, usersFirst
  }

  var order = Order.run
  var set = "{visibility: protected}"
  var restore = "{visibility: public}"
  /// The values that the protection of a user sets on the user's posts. Nil means the values of `set`.
  var reachedSet: String?
  /// Keys and values that are added to `limits` in the definition.
  var limits = ""
  /// More keys of the posts' dataset.
  var postKeys: [String] = []
  /// More keys of the users' dataset.
  var userKeys: [String] = []
  /// Actions on posts by reason, which replace the usual actions.
  var postActions: [String: String] = [:]
  /// Actions on users by reason, which replace the usual actions.
  var userActions: [String: String] = [:]
  /// Actions on a user's posts by reason, which replace the usual actions.
  var reachedActions: [String: String] = [:]
  /// More tables and rows. The statements run in the schema `shop` and in its copy.
  var more = ""

  /// The values of `restore` with which Lethe keeps holds. All of them have the same effect on held rows.
  static let restores = ["{visibility: public}", "former"]

  var protect: String { "{protect: {set: \(set), restore: \(restore)}}" }

  var reachedProtect: String { "{protect: {set: \(reachedSet ?? set), restore: \(restore)}}" }

  static let tables = """
    CREATE TABLE users (
      user_id bigint PRIMARY KEY, name text, visibility text DEFAULT 'public',
      likes integer NOT NULL DEFAULT 0);
    CREATE TABLE posts (
      post_id bigint PRIMARY KEY, author_id bigint, text text, visibility text DEFAULT 'public',
      searchable boolean NOT NULL DEFAULT true, latitude float8, raw jsonb,
      likes integer NOT NULL DEFAULT 0);
    CREATE INDEX ON posts (author_id);
    CREATE TABLE reposts (
      repost_id bigint PRIMARY KEY, original_id bigint, author_id bigint, text text,
      visibility text DEFAULT 'public');
    CREATE INDEX ON reposts (original_id);
    CREATE INDEX ON reposts (author_id);
    """

  var definition: String {
    let datasets = order == .usersFirst ? [users, posts] : [posts, users]
    return """
      name: shop
      warehouse: ${DATABASE_URL}
      api: {base_url: "${COMPLIANCE_API_URL}", bearer_token: t, poll_seconds: 0.02, poll_seconds_max: 0.05}
      limits: {max_redacted_percent: 100, max_redacted_rows: 100000, allow_whole_chunks: true\(limits)}
      datasets:
      \(datasets.joined(separator: "\n"))

      """
  }

  private var posts: String {
    let actions = [
      "deleted": "delete", "bounced": "delete", "suspended": "delete", "deactivated": "delete",
      "protected": protect, "geo_scrubbed": "{scrub_geo: {latitude: null, raw: [geo]}}",
      "tweet_edited": "rehydrate",
    ].merging(postActions) { $1 }
    return """
        posts:
          type: tweets
          table: shop.posts
          id: post_id
      \(Self.lines(postKeys, indent: 4))    actions:
      \(Self.lines(actions.sorted { $0.key < $1.key }.map { "\($0): \($1)" }, indent: 6))
      """
  }

  private var users: String {
    let actions = [
      "deleted": "delete", "suspended": "delete", "deactivated": "delete", "protected": protect,
    ].merging(userActions) { $1 }
    let reached = ["deleted": "delete", "protected": reachedProtect].merging(reachedActions) { $1 }
    return """
        users:
          type: users
          table: shop.users
          id: user_id
      \(Self.lines(userKeys, indent: 4))    actions:
      \(Self.lines(actions.sorted { $0.key < $1.key }.map { "\($0): \($1)" }, indent: 6))    targets:
            - table: shop.posts
              match: author_id
              actions:
      \(Self.lines(reached.sorted { $0.key < $1.key }.map { "\($0): \($1)" }, indent: 10))
      """
  }

  private static func lines(_ texts: [String], indent: Int) -> String {
    texts.map { String(repeating: " ", count: indent) + $0 + "\n" }.joined()
  }
}
