/// The pairs of chunks of `ConcurrentBatchTests`.
extension ConcurrentBatchTests {
  private static let hide = "{protect: {set: {visibility: protected}, restore: former}}"
  private static let hideOtherwise = "{protect: {set: {visibility: hidden}, restore: former}}"
  private static let hideMore =
    "{protect: {set: {visibility: protected, searchable: false}, restore: former}}"
  private static let unlist = "{protect: {set: {searchable: false}, restore: former}}"
  private static let empty =
    "{protect: {set: {visibility: protected, text: null}, restore: former}}"
  private static let emptyOnly = "{protect: {set: {text: null}, restore: former}}"
  private static let emptyPlace =
    "{protect: {set: {latitude: 0, raw: null}, restore: former}}"
  private static let emptyPlaceAndMore =
    "{protect: {set: {raw: null, latitude: 0, searchable: false}, restore: former}}"
  private static let noLatitudeAndMore =
    "{protect: {set: {latitude: null, visibility: protected}, restore: former}}"
  private static let hideForGood = "{protect: {set: {visibility: protected}}}"
  private static let hideForGoodOtherwise = "{protect: {set: {visibility: gone}}}"
  /// A protection whose definition names the former values, as versions without holds needed them.
  private static let hideWithValues =
    "{protect: {set: {visibility: protected}, restore: {visibility: public}}}"

  /// The chunk with the posts 9 and 10. Their reposts are a target.
  static func posts(
    _ reasons: [Int64: String], _ protect: String = hide, of pipeline: String = "shop"
  ) -> TwoChunks.Part {
    TwoChunks.Part(
      "posts", reasons, of: pipeline,
      datasets: """
          posts:
            type: tweets
            table: shop.posts
            id: post_id
            actions: {deleted: delete, bounced: {redact: {text: null, raw: [lang]}}, suspended: delete,
                      deactivated: {redact: {latitude: null}}, protected: \(protect),
                      geo_scrubbed: {scrub_geo: {latitude: null, raw: [geo]}}, tweet_edited: rehydrate}
            targets:
              - table: shop.reposts
                match: original_id
                actions: {deleted: delete, protected: \(protectingReposts(protect))}
        """)
  }

  /// The chunk with the repost 900.
  static func reposts(_ reasons: [Int64: String], _ protect: String = hide)
    -> TwoChunks.Part
  {
    TwoChunks.Part(
      "reposts", reasons,
      datasets: """
          reposts:
            type: tweets
            table: shop.reposts
            id: repost_id
            actions: {deleted: delete, bounced: {redact: {text: null}}, suspended: delete,
                      deactivated: delete, protected: \(protect), geo_scrubbed: ignore, tweet_edited: rehydrate}
        """)
  }

  /// The chunk with the users 1 and 2. Their posts and the reposts of these are targets.
  static func users(
    _ reasons: [Int64: String], _ protect: String = hide, suspended: String = "delete",
    batch: String = "batch: 100"
  ) -> TwoChunks.Part {
    TwoChunks.Part(
      "users", reasons,
      datasets: """
          users:
            type: users
            table: shop.users
            id: user_id
            \(batch)
            actions: {deleted: delete, suspended: ignore, deactivated: ignore, protected: \(hide)}
            targets:
              - table: shop.posts
                match: author_id
                id: post_id
                type: tweets
                actions: {deleted: delete, suspended: \(suspended), protected: \(protect)}
                targets:
                  - table: shop.reposts
                    match: original_id
                    actions: {deleted: delete, protected: \(protectingReposts(protect))}
        """)
  }

  /// Adds the datasets of another part to the definition.
  private static func with(_ part: TwoChunks.Part, _ other: TwoChunks.Part) -> TwoChunks.Part {
    var both = part
    both.datasets += "\n" + other.datasets
    return both
  }

  /// Reposts have fewer columns than posts.
  private static func protectingReposts(_ protect: String) -> String {
    protect.contains("visibility") ? hide : emptyOnly
  }

  static let pairs: [Pair] =
    protections + releases + deletions + erasures + protectionsForGood + formerProtections

  private static let protections: [Pair] = [
    Pair(
      testDescription: "two IDs protect a post", one: posts([9: "protected"]),
      other: users([1: "protected"])),
    Pair(
      testDescription: "two IDs protect a post in a table with holds",
      before: [posts([10: "protected"])], one: posts([9: "protected", 10: "protected"]),
      other: users([1: "protected"])),
    Pair(
      testDescription: "two IDs protect a post with different values",
      one: posts([9: "protected"], hideOtherwise), other: users([1: "protected"])),
    Pair(
      testDescription: "two IDs protect a post with different values in a table with holds",
      before: [posts([10: "protected"])],
      one: posts([9: "protected", 10: "protected"], hideOtherwise),
      other: users([1: "protected"])),
    Pair(
      testDescription: "one ID sets more columns",
      one: posts([9: "protected"], hideMore), other: users([1: "protected"])),
    Pair(
      testDescription: "one ID sets more columns in a table with holds",
      before: [posts([10: "protected"])],
      one: posts([9: "protected", 10: "protected"], hideMore), other: users([1: "protected"])),
    Pair(
      testDescription: "two IDs set different columns",
      one: posts([9: "protected"], unlist), other: users([1: "protected"])),
    Pair(
      testDescription: "two pipelines protect a post with different values",
      one: posts([9: "protected"], hideOtherwise),
      other: posts([9: "protected"], of: "archive")),
    Pair(
      testDescription: "a post and its repost are protected by chunks of two datasets",
      hasReposts: true,
      one: posts([9: "protected"]), other: reposts([900: "protected"], hideOtherwise)),
  ]

  private static let releases: [Pair] = [
    Pair(
      testDescription: "the post is released and its author is protected",
      before: [posts([9: "protected"])], one: posts([:]), other: users([1: "protected"])),
    Pair(
      testDescription: "the post is released and its author is protected with another value",
      before: [posts([9: "protected"])], one: posts([:]),
      other: users([1: "protected"], hideOtherwise)),
    Pair(
      testDescription: "two columns are released and one of them is protected",
      before: [posts([9: "protected"], hideMore)], one: posts([:]),
      other: users([1: "protected"])),
    Pair(
      testDescription: "one of two columns is released and it is protected",
      before: [posts([9: "protected"], unlist), users([1: "protected"])],
      one: posts([:]), other: users([1: "protected"], hideMore)),
    Pair(
      testDescription: "one column is released and more columns are protected",
      before: [posts([9: "protected"])], one: posts([:]),
      other: users([1: "protected"], hideMore)),
    Pair(
      testDescription: "both holders are released",
      before: [posts([9: "protected"]), users([1: "protected"])], one: posts([:]),
      other: users([:])),
    Pair(
      testDescription: "both holders of different columns are released",
      before: [posts([9: "protected"], unlist), users([1: "protected"])], one: posts([:]),
      other: users([:])),
    Pair(
      testDescription: "a holder gets another column, whose only other holder is released",
      before: [posts([9: "protected"]), users([1: "protected"], unlist)],
      one: posts([9: "protected"], unlist, of: "archive"), other: users([:], unlist)),
    Pair(
      testDescription: "a repost is released and its original is protected", hasReposts: true,
      before: [reposts([900: "protected"])], one: reposts([:]), other: posts([9: "protected"])),
    Pair(
      testDescription: "the row of a released post gets another change",
      before: [posts([9: "protected"])], one: posts([:]),
      other: users([1: "suspended"], suspended: "{redact: {latitude: null}}")),
  ]

  private static let deletions: [Pair] = [
    Pair(
      testDescription: "the post is deleted and its author is protected",
      one: posts([9: "deleted"]), other: users([1: "protected"])),
    Pair(
      testDescription: "the post is deleted and its author is protected, in a table with holds",
      before: [posts([10: "protected"])], one: posts([9: "deleted", 10: "protected"]),
      other: users([1: "protected"])),
    Pair(
      testDescription: "the author is deleted and the post is protected",
      one: users([1: "deleted"]), other: posts([9: "protected"])),
    Pair(
      testDescription: "the author is deleted and the post is protected, in a table with holds",
      before: [posts([10: "protected"])], one: users([1: "deleted"]),
      other: posts([9: "protected", 10: "protected"])),
    Pair(
      testDescription: "the author is deleted and the held post is protected", hasReposts: true,
      before: [users([1: "protected"])], one: users([1: "deleted"]),
      other: posts([9: "protected"])),
    Pair(
      testDescription: "the author is deleted and the post is released",
      before: [posts([9: "protected"])], one: users([1: "deleted"]), other: posts([:])),
    Pair(
      testDescription: "the post is deleted and its author is released",
      before: [users([1: "protected"])], one: posts([9: "deleted"]), other: users([:])),
    Pair(
      testDescription: "the author and the post are deleted",
      one: users([1: "deleted"]), other: posts([9: "suspended"])),
    Pair(
      testDescription: "the repost and its original are deleted", hasReposts: true,
      one: reposts([900: "suspended"]), other: posts([9: "deleted"])),
    Pair(
      testDescription: "the repost is deleted and its original is protected", hasReposts: true,
      before: [posts([10: "protected"])], one: reposts([900: "deleted"]),
      other: posts([9: "protected", 10: "protected"])),
    Pair(
      testDescription: "the author is deleted in several transactions and the post is protected",
      one: users([1: "deleted"], batch: "batch: 1\n    batch_rows: 1"),
      other: posts([9: "protected"])),
    Pair(
      testDescription:
        "the author is deleted in several transactions and the post is protected, in a table with holds",
      before: [posts([10: "protected"])],
      one: users([1: "deleted"], batch: "batch: 1\n    batch_rows: 1"),
      other: posts([9: "protected", 10: "protected"])),
    Pair(
      testDescription: "two pipelines delete a post for different reasons",
      one: posts([9: "deleted"]), other: posts([9: "suspended"], of: "archive")),
  ]

  private static let erasures: [Pair] = [
    Pair(
      testDescription: "the text is redacted and the post is protected",
      one: posts([9: "bounced"]), other: users([1: "protected"], empty)),
    Pair(
      testDescription: "the text is redacted and its hold is released",
      before: [users([1: "protected"], empty)], one: posts([9: "bounced"]), other: users([:])),
    Pair(
      testDescription: "the text is redacted and its hold gets another column",
      before: [users([1: "protected"], emptyOnly)], one: posts([9: "bounced"]),
      other: users([1: "protected"], empty)),
    Pair(
      testDescription:
        "the latitude is redacted, without a change of the row, and its hold gets another column",
      before: [users([1: "protected"], "{protect: {set: {latitude: null}, restore: former}}")],
      one: posts([9: "deactivated"]),
      other: users(
        [1: "protected"],
        noLatitudeAndMore)
    ),
    Pair(
      testDescription: "the text is redacted and its hold loses another column",
      before: [users([1: "protected"], emptyOnly), posts([9: "protected"])],
      one: users([1: "suspended"], suspended: "{redact: {text: null}}"), other: posts([:])),
    Pair(
      testDescription: "the location is removed and the post is protected",
      one: posts([9: "geo_scrubbed"]),
      other: users([1: "protected"], emptyPlace)),
    Pair(
      testDescription: "the location is removed and its hold is released",
      before: [
        users([1: "protected"], emptyPlace)
      ],
      one: posts([9: "geo_scrubbed"]), other: users([:])),
    Pair(
      testDescription: "the location is removed and its hold gets another column",
      before: [users([1: "protected"], "{protect: {set: {raw: null}, restore: former}}")],
      one: posts([9: "geo_scrubbed"]),
      other: users([1: "protected"], emptyPlaceAndMore)),
    Pair(
      testDescription: "the text is redacted and the post is deleted",
      before: [users([1: "protected"], empty)], one: posts([9: "bounced"]),
      other: users([1: "deleted"])),
  ]

  private static let protectionsForGood: [Pair] = [
    Pair(
      testDescription: "the post is hidden for good and its author is protected",
      one: posts([9: "protected"], hideForGood), other: users([1: "protected"])),
    Pair(
      testDescription: "the post is hidden for good with another value and its author is protected",
      one: posts([9: "protected"], hideForGoodOtherwise), other: users([1: "protected"])),
    Pair(
      testDescription:
        "the post is hidden for good with another value and its author is protected, in a table with holds",
      before: [users([2: "protected"])], one: posts([9: "protected"], hideForGoodOtherwise),
      other: users([1: "protected", 2: "protected"])),
    Pair(
      testDescription: "the held post is hidden for good and its author sets more columns",
      before: [users([1: "protected"])], one: posts([9: "protected"], hideForGood),
      other: users([1: "protected"], hideMore)),
    Pair(
      testDescription: "the held post is hidden for good and released",
      before: [users([1: "protected"])], one: posts([9: "protected"], hideForGood),
      other: users([:])),
  ]

  /// Protections of a version without holds.
  private static let formerProtections: [Pair] = {
    let (bothPosts, bothUsers) = (
      { with(posts($0, hideWithValues), users([:], hideWithValues)) },
      { with(users($0, hideWithValues), posts([:], hideWithValues)) }
    )
    return [
      Pair(
        testDescription:
          "a post that was protected without a hold is released and its author is protected",
        before: [bothPosts([:])], one: bothPosts([:]), other: bothUsers([1: "protected"]),
        more: protected("('shop', 'posts', 9)")),
      Pair(
        testDescription: "both IDs that protected a post without a hold are released",
        before: [bothPosts([:])], one: bothPosts([:]), other: bothUsers([:]),
        more: protected("('shop', 'posts', 9), ('shop', 'users', 1)")),
      Pair(
        testDescription: "two IDs protect a post that was protected without a hold",
        before: [bothPosts([:])], one: bothPosts([9: "protected"]),
        other: bothUsers([1: "protected"]), more: protected("('shop', 'posts', 9)")),
    ]
  }()

  private static func protected(_ ids: String) -> String {
    """
    INSERT INTO lethe.protection (pipeline, dataset, id, chunk_id, protected_at, asked_at)
    SELECT pipeline, dataset, id, 1, now(), '2000-01-01 00:00+00' FROM (VALUES \(ids)) AS v (pipeline, dataset, id);
    UPDATE shop.posts SET visibility = 'protected' WHERE post_id = 9
    """
  }
}
