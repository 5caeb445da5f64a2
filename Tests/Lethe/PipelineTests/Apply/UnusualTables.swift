import Testing

/// An unusual table, the API's answers about its IDs, and the rows that must remain.
struct UnusualTable: Sendable, CustomTestStringConvertible {
  let name: String
  /// The script that creates and fills the tables. They are in the schema `shop`, unless the case tests unusual names.
  let tables: String
  /// The dataset's keys, without type and actions.
  let dataset: String
  /// The actions by reason. Other reasons are ignored.
  let actions: [String: String]
  let events: [(id: Int64, reason: String)]
  /// The query that returns the rows, each as a text.
  let rows: String
  /// The expected rows of the query after the run, in any order.
  let remaining: [String]

  var testDescription: String { name }

  init(
    _ name: String, tables: String, dataset: String = "table: shop.posts\nid: id",
    actions: [String: String] = ["deleted": "delete"],
    events: [(id: Int64, reason: String)] = [(2, "deleted")],
    rows: String = "SELECT body FROM shop.posts", remaining: [String]
  ) {
    self.name = name
    self.tables = tables
    self.dataset = dataset
    self.actions = actions
    self.events = events
    self.rows = rows
    self.remaining = remaining
  }

  /// The pipeline's definition.
  var definition: String {
    let reasons = [
      "deleted", "bounced", "suspended", "deactivated", "protected", "geo_scrubbed", "tweet_edited",
    ]
    let lines = reasons.map { "      \($0): \(actions[$0] ?? "ignore")" }
    return """
      name: unusual
      warehouse: ${DATABASE_URL}
      api: {base_url: "${COMPLIANCE_API_URL}", bearer_token: t, poll_seconds: 0.02, poll_seconds_max: 0.05}
      limits: {max_redacted_percent: 100, max_redacted_rows: 100000, allow_whole_chunks: true}
      datasets:
        posts:
          type: tweets
      \(dataset.split(separator: "\n").map { "    \($0)" }.joined(separator: "\n"))
          actions:
      \(lines.joined(separator: "\n"))

      """
  }

  /// Returns the API's result for a chunk with these IDs.
  @Sendable func result(of ids: [Int64]) -> String {
    let apiActions = ["geo_scrubbed": "scrub_geo", "tweet_edited": "rehydrate"]
    return events.filter { ids.contains($0.id) }.map {
      CollectTests.event($0.id, apiActions[$0.reason] ?? "delete", $0.reason)
    }.joined()
  }

  /// Returns the ID of a post that was created at a time, in seconds since 1970.
  static func postID(of second: Int64) -> Int64 { (second * 1000 - 1_288_834_974_657) << 22 }
}

// MARK: IDs and keys

extension UnusualTable {
  static let ids: [UnusualTable] = [
    UnusualTable(
      "text IDs, and texts that are not IDs",
      tables: """
        CREATE TABLE shop.posts (id text, body text);
        CREATE INDEX ON shop.posts (id);
        INSERT INTO shop.posts VALUES
          ('1', 'one'), ('2', 'two'), ('02', 'zero two'), (' 2', 'blank two'), ('2 ', 'two blank'),
          ('2.0', 'two point'), ('-2', 'minus two'), ('٢', 'arabic two'), (E'2\\n', 'two newline'),
          ('two', 'word'), ('', 'empty'), (NULL, 'null'), ('9223372036854775807', 'largest'),
          ('9223372036854775808', 'too large'), ('99999999999999999999', 'far too large')
        """,
      events: [(2, "deleted"), (.max, "deleted")],
      remaining: [
        "one", "zero two", "blank two", "two blank", "two point", "minus two", "arabic two",
        "two newline", "word", "empty", "null", "too large", "far too large",
      ]),
    UnusualTable(
      "a varchar primary key",
      tables: """
        CREATE TABLE shop.posts (id varchar(19) PRIMARY KEY, body text);
        INSERT INTO shop.posts VALUES ('2', 'two'), ('10', 'ten'), ('1', 'one')
        """,
      events: [(2, "deleted"), (10, "deleted")], remaining: ["one"]),
    UnusualTable(
      "numeric values that are not whole numbers, or not numbers",
      tables: """
        CREATE TABLE shop.posts (id numeric, body text);
        INSERT INTO shop.posts VALUES
          (1, 'one'), (2.0, 'two'), (2.5, 'two and a half'), ('NaN', 'none'), ('Infinity', 'endless'),
          (1e30, 'huge'), (-2, 'minus two'), (0, 'zero'), (NULL, 'null'), (9223372036854775807, 'largest')
        """,
      events: [(2, "deleted"), (.max, "deleted")],
      remaining: ["one", "two and a half", "none", "endless", "huge", "minus two", "zero", "null"]),
    UnusualTable(
      "a domain over a domain over bigint, and a domain over text in a target",
      tables: """
        CREATE DOMAIN shop.snowflake AS bigint CHECK (value > 0);
        CREATE DOMAIN shop.post_id AS shop.snowflake NOT NULL;
        CREATE DOMAIN shop.post_key AS varchar(19);
        CREATE TABLE shop.posts (id shop.post_id PRIMARY KEY, body text);
        CREATE TABLE shop.media (post shop.post_key, body text);
        CREATE INDEX ON shop.media (post);
        INSERT INTO shop.posts VALUES (1, 'one'), (2, 'two');
        INSERT INTO shop.media VALUES ('1', 'picture one'), ('2', 'picture two')
        """,
      dataset: """
        table: shop.posts
        id: id
        targets: [{table: shop.media, match: post, actions: {deleted: delete}}]
        """,
      rows: "SELECT body FROM shop.posts UNION ALL SELECT body FROM shop.media",
      remaining: ["one", "picture one"]),
    UnusualTable(
      "several versions of a post, with a composite primary key",
      tables: """
        CREATE TABLE shop.posts (id bigint, version integer, body text, PRIMARY KEY (version, id));
        INSERT INTO shop.posts VALUES
          (1, 1, 'one'), (2, 1, 'two'), (2, 2, 'two, edited'), (3, 1, 'three'), (3, 2, 'three, edited')
        """,
      dataset: "table: shop.posts\nid: id\nbatch: 1\nbatch_rows: 1",
      events: [(2, "deleted"), (3, "deleted")], remaining: ["one"]),
    UnusualTable(
      "no primary key, and duplicate rows",
      tables: """
        CREATE TABLE shop.posts (id bigint, body text);
        INSERT INTO shop.posts VALUES (1, 'one'), (1, 'one'), (2, 'two'), (2, 'two'), (NULL, 'null')
        """,
      remaining: ["one", "one", "null"]),
    UnusualTable(
      "names that need quoting",
      tables: #"""
        CREATE SCHEMA "The ""Shop"" of Posts";
        CREATE TABLE "The ""Shop"" of Posts"."posts; DROP TABLE posts" (
          "Post ""ID""" bigint PRIMARY KEY, "is it 'seen'?" text, "select" text, "$1" jsonb);
        CREATE TABLE "The ""Shop"" of Posts"."Media.1" (
          "ID" bigint PRIMARY KEY, "from" bigint
            CONSTRAINT "it's ""held""" REFERENCES "The ""Shop"" of Posts"."posts; DROP TABLE posts");
        INSERT INTO "The ""Shop"" of Posts"."posts; DROP TABLE posts" VALUES
          (1, 'yes', 'one', '{}'), (2, 'yes', 'two', '{}'), (3, 'yes', 'three', '{}'),
          (4, 'yes', 'four', '{"a place": {"it''s": 1, "b": 2}}');
        INSERT INTO "The ""Shop"" of Posts"."Media.1" VALUES (11, 1), (12, 2)
        """#,
      dataset: #"""
        table: '"The ""Shop"" of Posts"."posts; DROP TABLE posts"'
        id: Post "ID"
        where: "\"select\" <> 'nothing'"
        targets: [{table: '"The ""Shop"" of Posts"."Media.1"', match: from, id: ID, type: none, actions: {deleted: delete}}]
        """#,
      actions: [
        "deleted": "delete", "protected": #"{protect: {set: {"is it 'seen'?": "it's not"}}}"#,
        "geo_scrubbed": #"{scrub_geo: {$1: [[a place, it's]], select: "''"}}"#,
      ],
      events: [(2, "deleted"), (3, "protected"), (4, "geo_scrubbed")],
      rows: #"""
        SELECT p::text FROM "The ""Shop"" of Posts"."posts; DROP TABLE posts" AS p
        UNION ALL SELECT m::text FROM "The ""Shop"" of Posts"."Media.1" AS m
        """#,
      remaining: [
        "(1,yes,one,{})", "(3,\"it's not\",three,{})",
        #"(4,yes,'',"{""a place"": {""b"": 2}}")"#, "(11,1)",
      ]),
    UnusualTable(
      "a where with dollar signs, and with a comment at its end",
      tables: """
        CREATE TABLE shop.posts (id bigint PRIMARY KEY, body text);
        INSERT INTO shop.posts VALUES (1, 'one'), (2, 'two'), (3, 'a draft')
        """,
      dataset: """
        table: shop.posts
        id: id
        where: "body <> $$$$a draft$$$$ OR body IS NULL -- drafts are nobody's"
        """,
      events: [(2, "deleted"), (3, "deleted")], remaining: ["one", "a draft"]),
  ]
}

// MARK: Partitions

extension UnusualTable {
  private static let partitioned = """
    PARTITION BY RANGE (created_at);
    CREATE TABLE shop.posts_old PARTITION OF shop.posts FOR VALUES FROM (MINVALUE) TO ('2023-11-01');
    CREATE TABLE shop.posts_11 PARTITION OF shop.posts FOR VALUES FROM ('2023-11-01') TO ('2023-12-01');
    CREATE TABLE shop.posts_12 PARTITION OF shop.posts FOR VALUES FROM ('2023-12-01') TO ('2024-01-01');
    """

  static let partitions: [UnusualTable] = [
    UnusualTable(
      "partitioned by month, with times in other time zones, and with old IDs that contain no time",
      tables: """
        CREATE TABLE shop.posts (id bigint, created_at timestamp, body text, PRIMARY KEY (id, created_at))
        \(partitioned)
        INSERT INTO shop.posts VALUES
          (\(postID(of: 1_700_000_000)), '2023-11-14 22:13:20', 'in November'),
          (\(postID(of: 1_701_374_400)), '2023-12-01 10:00:00', 'already December at UTC+14'),
          (\(postID(of: 1_701_403_200)), '2023-11-30 14:00:00', 'still November at UTC-14'),
          (\(postID(of: 1_701_700_000)), '2023-12-04 14:26:40', 'in December'),
          (20, '2006-03-21 20:50:14', 'one of the first'), (29, '2006-03-21 21:02:56', 'another')
        """,
      dataset: "table: shop.posts\nid: id\nid_time: created_at\nbatch: 2",
      events: [
        (20, "deleted"), (postID(of: 1_700_000_000), "deleted"),
        (postID(of: 1_701_374_400), "deleted"), (postID(of: 1_701_403_200), "deleted"),
      ],
      remaining: ["in December", "another"]),
    UnusualTable(
      "partitioned by date, in the time zone of Tokyo",
      tables: """
        CREATE TABLE shop.posts (id bigint, created_at date, body text) \(partitioned)
        INSERT INTO shop.posts VALUES
          (\(postID(of: 1_701_360_000)), '2023-12-01', 'one in the morning'),
          (\(postID(of: 1_701_345_600)), '2023-11-30', 'nine in the evening')
        """,
      dataset: "table: shop.posts\nid: id\nid_time: created_at",
      events: [(postID(of: 1_701_360_000), "deleted")], remaining: ["nine in the evening"]),
    UnusualTable(
      "partitioned by language, and then by month",
      tables: """
        CREATE TABLE shop.posts (id bigint, language text, created_at timestamptz, body text)
        PARTITION BY LIST (language);
        CREATE TABLE shop.posts_en PARTITION OF shop.posts FOR VALUES IN ('en')
        PARTITION BY RANGE (created_at);
        CREATE TABLE shop.posts_en_old PARTITION OF shop.posts_en
        FOR VALUES FROM (MINVALUE) TO ('2023-11-01');
        CREATE TABLE shop.posts_en_11 PARTITION OF shop.posts_en
        FOR VALUES FROM ('2023-11-01') TO ('2023-12-01');
        CREATE TABLE shop.posts_rest PARTITION OF shop.posts DEFAULT;
        INSERT INTO shop.posts VALUES
          (\(postID(of: 1_690_000_000)), 'en', to_timestamp(1690000000), 'a post'),
          (\(postID(of: 1_700_000_000)), 'en', to_timestamp(1700000000), 'another'),
          (\(postID(of: 1_700_000_001)), NULL, to_timestamp(1700000001), '…'),
          (\(postID(of: 1_700_000_002)), 'de', to_timestamp(1700000002), 'ein Beitrag')
        """,
      dataset: "table: shop.posts\nid: id\nid_time: created_at",
      events: [
        (postID(of: 1_690_000_000), "deleted"), (postID(of: 1_700_000_001), "deleted"),
        (postID(of: 1_700_000_002), "deleted"),
      ],
      remaining: ["another"]),
    UnusualTable(
      "partitioned by the column that protect sets, so the row moves",
      tables: """
        CREATE TABLE shop.posts (id bigint, visibility text, body text) PARTITION BY LIST (visibility);
        CREATE TABLE shop.seen PARTITION OF shop.posts FOR VALUES IN ('public');
        CREATE TABLE shop.unseen PARTITION OF shop.posts FOR VALUES IN ('protected');
        INSERT INTO shop.posts VALUES (1, 'public', 'one'), (2, 'public', 'two'), (3, 'protected', 'three')
        """,
      // A restore is not possible here. A primary key must include the visibility, so a restore could not find the
      // changed rows by their key.
      actions: ["protected": "{protect: {set: {visibility: protected}, restore: none}}"],
      events: [(2, "protected"), (3, "protected")],
      rows: "SELECT tableoid::regclass || ' ' || body FROM shop.posts",
      remaining: ["shop.seen one", "shop.unseen two", "shop.unseen three"]),
    UnusualTable(
      "partitioned by the hash of a text ID",
      tables: """
        CREATE TABLE shop.posts (id text PRIMARY KEY, body text) PARTITION BY HASH (id);
        CREATE TABLE shop.posts_0 PARTITION OF shop.posts FOR VALUES WITH (MODULUS 3, REMAINDER 0);
        CREATE TABLE shop.posts_1 PARTITION OF shop.posts FOR VALUES WITH (MODULUS 3, REMAINDER 1);
        CREATE TABLE shop.posts_2 PARTITION OF shop.posts FOR VALUES WITH (MODULUS 3, REMAINDER 2);
        INSERT INTO shop.posts SELECT p::text, 'post ' || p FROM generate_series(1, 9) AS p
        """,
      dataset: "table: shop.posts\nid: id\nbatch: 3",
      events: [2, 3, 4, 5, 6, 7, 8].map { ($0, "deleted") }, remaining: ["post 1", "post 9"]),
    UnusualTable(
      "a table that inherits from another table, with the same ID in both tables",
      tables: """
        CREATE TABLE shop.posts (id bigint PRIMARY KEY, body text);
        CREATE TABLE shop.long_posts (PRIMARY KEY (id), rest text) INHERITS (shop.posts);
        CREATE TABLE shop.media (post bigint, body text);
        CREATE TABLE shop.videos (FOREIGN KEY (post) REFERENCES shop.long_posts) INHERITS (shop.media);
        INSERT INTO shop.posts VALUES (1, 'one'), (2, 'two');
        INSERT INTO shop.long_posts VALUES (2, 'two, long'), (3, 'three, long'), (4, 'four, long');
        INSERT INTO shop.media VALUES (1, 'picture one'), (2, 'picture two');
        INSERT INTO shop.videos VALUES (3, 'video three'), (4, 'video four')
        """,
      dataset: """
        table: shop.posts
        id: id
        batch_rows: 1
        targets: [{table: shop.media, match: post, actions: {deleted: delete}}]
        """,
      events: [(2, "deleted"), (3, "deleted")],
      rows: "SELECT body FROM shop.posts UNION ALL SELECT body FROM shop.media",
      remaining: ["one", "four, long", "picture one", "video four"]),
  ]
}

extension UnusualTable {
  static let all = ids + partitions + columns + triggers
}
