import PostgreSQL
import Runtime
import TestSupport
import Testing
import Warehouse

/// A table with features that real databases use. A test hides and restores the rows of post 2.
struct HeldTable: Sendable, CustomTestStringConvertible {
  let testDescription: String
  /// The statements that create the tables. The search path names their schema.
  let tables: String
  var keys = "table: shop.posts\nid: id"
  var set = "{visibility: protected}"
  /// The SQL condition for a hidden row of post 2.
  var hidden = "visibility = 'protected'"
  /// The SQL condition for the rows of post 2.
  var reached = "id::text = '2'"
  /// The size of the batches. By default each event is its own batch.
  var batch = "batch: 1"

  func definition(restore: String = "former") -> String {
    """
    name: shop
    warehouse: ${DATABASE_URL}
    api: {base_url: "${COMPLIANCE_API_URL}", bearer_token: t, poll_seconds: 0.02, poll_seconds_max: 0.05}
    limits: {max_redacted_percent: 100, max_redacted_rows: 100000, allow_whole_chunks: true}
    datasets:
      posts:
        type: tweets
    \(keys.split(separator: "\n").map { "    \($0)" }.joined(separator: "\n"))
        \(batch)
        actions:
          deleted: delete
          bounced: ignore
          suspended: ignore
          deactivated: ignore
          protected: {protect: {set: \(set), restore: \(restore)}}
          geo_scrubbed: ignore
          tweet_edited: ignore

    """
  }
}

extension HeldTable {
  static let byKey: [HeldTable] = [
    HeldTable(
      testDescription: "a text key with quotes, commas and braces in it",
      tables: """
        CREATE TABLE posts (k text PRIMARY KEY, id bigint, visibility text);
        CREATE INDEX ON posts (id);
        INSERT INTO posts VALUES
          ('a,b', 2, 'internal'), ('{"x"}', 2, 'public'), (E'new\\nline \\\\ and ''quote''', 2, 'friends'),
          ('NULL', 2, 'a'), ('', 2, 'b'), (' ', 2, 'c'), ('ünïcode 漢字', 2, 'd'), ('one', 1, 'internal')
        """),
    HeldTable(
      testDescription: "a composite key",
      tables: """
        CREATE TABLE posts (region text, id bigint, version integer, visibility text,
                            PRIMARY KEY (version, region, id));
        INSERT INTO posts VALUES
          ('eu', 2, 1, 'internal'), ('us', 2, 1, 'public'), ('us', 2, 2, NULL), ('eu', 1, 1, 'internal')
        """),
    HeldTable(
      testDescription: "a uuid key",
      tables: """
        CREATE TABLE posts (k uuid PRIMARY KEY, id bigint, visibility text);
        CREATE INDEX ON posts (id);
        INSERT INTO posts VALUES ('00000000-0000-0000-0000-00000000000a', 2, 'internal'),
          ('00000000-0000-0000-0000-00000000000b', 2, 'public'),
          ('00000000-0000-0000-0000-00000000000c', 3, 'public')
        """),
    HeldTable(
      testDescription: "a key with a time, a day and a number with decimals",
      tables: """
        CREATE TABLE posts (id bigint, at timestamptz, day date, n numeric, visibility text,
                            PRIMARY KEY (id, at, day, n));
        INSERT INTO posts VALUES
          (2, '2026-03-29 02:30:00.123456+01', '2026-03-29', 1.50, 'internal'),
          (2, 'infinity', '-infinity', 'NaN', 'public'), (2, '0044-03-15 BC', '0044-03-15 BC', 1e-20, 'a'),
          (1, '2026-03-29 02:30:00.123456+01', '2026-03-29', 1.50, 'internal')
        """),
    HeldTable(
      testDescription: "a key of bytes, an interval, a float and a boolean",
      tables: """
        CREATE TABLE posts (id bigint, b bytea, i interval, f float8, t boolean, visibility text,
                            PRIMARY KEY (id, b, i, f, t));
        INSERT INTO posts VALUES (2, '\\x00ff5c', '1 mon -3 days 00:00:00.5', 0.1, true, 'internal'),
          (2, '\\x', '0', 'NaN', false, 'public'), (2, '\\x00', '36 hours', 1e300, true, 'friends')
        """),
    HeldTable(
      testDescription: "a replica identity, without a primary key",
      tables: """
        CREATE TABLE posts (id bigint NOT NULL, version integer NOT NULL, visibility text);
        CREATE UNIQUE INDEX posts_identity ON posts (id, version);
        ALTER TABLE posts REPLICA IDENTITY USING INDEX posts_identity;
        INSERT INTO posts VALUES (2, 1, 'internal'), (2, 2, 'public'), (3, 1, 'internal')
        """),
    HeldTable(
      testDescription: "a unique index on columns that are NOT NULL, and one on other columns",
      tables: """
        CREATE TABLE posts (id bigint NOT NULL, version integer NOT NULL, slug text, visibility text);
        CREATE UNIQUE INDEX ON posts (slug);
        CREATE UNIQUE INDEX ON posts (id, version);
        INSERT INTO posts VALUES (2, 1, NULL, 'internal'), (2, 2, NULL, 'public'), (3, 1, 'x', 'internal')
        """),
    HeldTable(
      testDescription: "partitions by time, with the time in the key",
      tables: """
        CREATE TABLE posts (id bigint, at timestamptz, visibility text, PRIMARY KEY (id, at))
          PARTITION BY RANGE (at);
        CREATE TABLE posts_old PARTITION OF posts FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
        CREATE TABLE posts_new PARTITION OF posts FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
        INSERT INTO posts VALUES (2, '2025-12-31', 'internal'), (2, '2026-01-02', 'public'),
          (3, '2026-01-02', 'internal')
        """),
    HeldTable(
      testDescription: "partitions by hash of the ID, and partitions of partitions",
      tables: """
        CREATE TABLE posts (id bigint, lang text, visibility text, PRIMARY KEY (id, lang))
          PARTITION BY HASH (id);
        CREATE TABLE posts_0 PARTITION OF posts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE posts_1 PARTITION OF posts FOR VALUES WITH (MODULUS 2, REMAINDER 1)
          PARTITION BY LIST (lang);
        CREATE TABLE posts_1_en PARTITION OF posts_1 FOR VALUES IN ('en');
        CREATE TABLE posts_1_rest PARTITION OF posts_1 DEFAULT;
        INSERT INTO posts SELECT i, lang, 'internal'
        FROM generate_series(1, 6) AS i, unnest(ARRAY['en', 'de', 'fr']) AS lang
        """),
    HeldTable(
      testDescription: "names that need quoting",
      tables: #"""
        CREATE TABLE "Po""sts; --" ("i d" bigint, "k,1" text, "vis""i'ble" text, PRIMARY KEY ("k,1", "i d"));
        INSERT INTO "Po""sts; --" VALUES (2, 'a', 'internal'), (2, 'b', 'public'), (3, 'a', 'internal')
        """#,
      keys: #"""
        table: 'shop."Po""sts; --"'
        id: i d
        """#,
      set: #"{"vis\"i'ble": protected}"#, hidden: #""vis""i'ble" = 'protected'"#,
      reached: #""i d" = 2"#),
    HeldTable(
      testDescription: "text IDs",
      tables: """
        CREATE TABLE posts (id varchar(19) PRIMARY KEY, visibility text);
        INSERT INTO posts VALUES ('2', 'internal'), ('02', 'internal'), ('3', 'public')
        """),
    HeldTable(
      testDescription: "the collation C in the key",
      tables: """
        CREATE TABLE posts (k text COLLATE "C", id bigint, visibility text, PRIMARY KEY (k, id));
        INSERT INTO posts VALUES ('a', 2, 'internal'), ('A', 2, 'public'), ('a', 3, 'friends')
        """),
    HeldTable(
      testDescription: "thousands of rows of one ID in small batches",
      tables: """
        CREATE TABLE posts (k integer PRIMARY KEY, id bigint, visibility text);
        CREATE INDEX ON posts (id);
        INSERT INTO posts
        SELECT k, 1 + k % 2, (ARRAY['public', 'internal', 'friends'])[1 + k % 3]
        FROM generate_series(1, 5000) AS k
        """, batch: "batch: 10\n    batch_rows: 100"),
  ]

  static let byFormerValue: [HeldTable] = [
    HeldTable(
      testDescription: "NULL",
      tables: """
        CREATE TABLE posts (id bigint PRIMARY KEY, visibility text);
        INSERT INTO posts VALUES (1, NULL), (2, NULL)
        """),
    HeldTable(
      testDescription: "NULL hides the row, and the former value is a text",
      tables: """
        CREATE TABLE posts (k integer PRIMARY KEY, id bigint, visibility text);
        INSERT INTO posts VALUES (1, 2, 'internal'), (2, 2, 'null'), (3, 2, ''), (4, 2, NULL), (5, 1, 'x')
        """, set: "{visibility: null}", hidden: "visibility IS NULL"),
    HeldTable(
      testDescription: "texts that look like something else",
      tables: #"""
        CREATE TABLE posts (k integer PRIMARY KEY, id bigint, visibility text);
        INSERT INTO posts SELECT row_number() OVER (), 2, t FROM unnest(ARRAY[
          'null', 'NULL', '"quoted"', '{"a": 1}', '[1, 2]', '1e5', 'true', '', ' ', '\', '\n', '\u0041',
          '''', '$1', '%s', E'tab\there', E'line\nbreak', E'\r\n', 'ünïcode 漢字 🙂', E'\u00a0', E'\u2028',
          repeat('long ', 20000)]) AS t
        """#),
    HeldTable(
      testDescription: "jsonb",
      tables: """
        CREATE TABLE posts (k integer PRIMARY KEY, id bigint, j jsonb);
        INSERT INTO posts VALUES
          (1, 2, '{"a": [1, 2.50, null, true, {"b": "\\u00e9\\""}]}'), (2, 2, 'null'), (3, 2, NULL),
          (4, 2, '"text"'), (5, 2, '12345678901234567890.0987654321'), (6, 2, '[]'), (7, 1, '{"a": 1}')
        """, set: "{j: '{\"hidden\": true}'}", hidden: #"j = '{"hidden": true}'"#),
    HeldTable(
      testDescription: "json with blanks and repeated keys",
      tables: """
        CREATE TABLE posts (id bigint PRIMARY KEY, j json);
        INSERT INTO posts VALUES (2, '{ "b" : 1,  "a":2, "b":3 }'), (3, '{}')
        """, set: "{j: null}", hidden: "j IS NULL"),
    HeldTable(
      testDescription: "arrays of texts and of numbers",
      tables: #"""
        CREATE TABLE posts (k integer PRIMARY KEY, id bigint, tags text[], n bigint[]);
        INSERT INTO posts VALUES
          (1, 2, ARRAY['a', NULL, 'NULL', 'b,c', '"q"', '{}', ''], ARRAY[[1, 2], [3, NULL]]),
          (2, 2, '{}', '[0:1]={5,6}'), (3, 2, NULL, NULL), (4, 1, ARRAY['x'], ARRAY[1])
        """#, set: "{tags: '{hidden}', n: null}", hidden: "tags = '{hidden}' AND n IS NULL"),
    HeldTable(
      testDescription: "bytes",
      tables: """
        CREATE TABLE posts (k integer PRIMARY KEY, id bigint, b bytea);
        INSERT INTO posts VALUES (1, 2, '\\x00ff5c27'), (2, 2, ''), (3, 2, NULL), (4, 2, 'text'), (5, 1, '\\x01')
        """, set: "{b: '\\x00'}", hidden: "b = '\\x00'::bytea"),
    HeldTable(
      testDescription: "times, dates and intervals",
      tables: """
        CREATE TABLE posts (k integer PRIMARY KEY, id bigint, at timestamptz, local timestamp, day date,
                            span interval, clock timetz);
        INSERT INTO posts VALUES
          (1, 2, '2026-10-25 02:30:00.123456+01', '2026-10-25 02:30:00.123456', '2026-10-25',
           '1 year 2 mons -3 days 04:05:06.789', '04:05:06.789+05:30'),
          (2, 2, 'infinity', '-infinity', 'infinity', '0', '00:00+00'), (3, 2, NULL, NULL, NULL, NULL, NULL),
          (4, 2, '0044-03-15 BC', '0044-03-15 BC', '0044-03-15 BC', '-1 mon', '23:59:59.999999-12'),
          (5, 1, '2020-01-01', '2020-01-01', '2020-01-01', '1 day', '00:00+00')
        """, set: "{at: '1970-01-01', local: null, day: '1970-01-01', span: null, clock: null}",
      hidden: "(at, day) = ('1970-01-01', '1970-01-01') AND local IS NULL AND span IS NULL"),
    HeldTable(
      testDescription: "numbers of every kind",
      tables: """
        CREATE TABLE posts (k integer PRIMARY KEY, id bigint, n numeric, m numeric(10, 2), f float8, r real,
                            s smallint, b bigint, money money);
        INSERT INTO posts VALUES
          (1, 2, 1.500, 1.5, 0.1, 0.1, -32768, 9223372036854775807, 12.34),
          (2, 2, 'NaN', 'NaN', 'NaN', '-Infinity', 0, 0, 0), (3, 2, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
          (4, 2, 1e-30, 0, 1e-300, 3e38, 1, -9223372036854775808, -1), (5, 1, 1, 1, 1, 1, 1, 1, 1)
        """, set: "{n: 0, m: 0, f: 0, r: 0, s: 0, b: 0, money: 0}",
      hidden: "(n, m, f, r, s, b, money) = (0, 0, 0::float8, 0::real, 0, 0, 0::money)"),
    HeldTable(
      testDescription: "an enum, a domain, a boolean and a range",
      tables: """
        CREATE TYPE shade AS ENUM ('open', 'it''s "odd", {really}', 'shut');
        CREATE DOMAIN word AS text CHECK (value <> 'never');
        CREATE TABLE posts (k integer PRIMARY KEY, id bigint, e shade, w word, t boolean, r int4range);
        INSERT INTO posts VALUES (1, 2, 'open', 'a', true, '[1,5)'), (2, 2, 'it''s "odd", {really}', '', false, 'empty'),
          (3, 2, NULL, NULL, NULL, NULL), (4, 1, 'open', 'b', true, '(,)')
        """, set: "{e: shut, w: hidden, t: false, r: empty}",
      hidden: "e = 'shut' AND w = 'hidden' AND NOT t AND isempty(r)"),
    HeldTable(
      testDescription: "addresses, bits, a uuid, a point and a char",
      tables: """
        CREATE TABLE posts (k integer PRIMARY KEY, id bigint, i inet, b bit varying, u uuid, p point, c char(5));
        INSERT INTO posts VALUES
          (1, 2, '10.0.0.1/8', B'0101', '00000000-0000-0000-0000-00000000000a', '(1.5,-2)', 'ab'),
          (2, 2, '::1', B'', NULL, NULL, ''), (3, 1, '::1', B'1', NULL, NULL, 'x')
        """, set: "{i: null, b: null, u: null, p: null, c: null}",
      hidden: "(i, b, u, c) IS NULL AND p IS NULL"),
    HeldTable(
      testDescription: "a column that a generated column depends on",
      tables: """
        CREATE TABLE posts (id bigint PRIMARY KEY, visibility text,
                            is_open boolean GENERATED ALWAYS AS (visibility = 'public') STORED);
        INSERT INTO posts VALUES (1, 'public'), (2, 'public')
        """, hidden: "visibility = 'protected' AND NOT is_open"),
  ]
}

@Suite struct HoldTableTests {
  @Test(arguments: HeldTable.byKey + HeldTable.byFormerValue)
  func everyRowIsFoundAgainAndGetsItsFormerValues(table: HeldTable) async throws {
    try await NightlyFixture.with(definition: table.definition(), tables: table.tables) { nights in
      // The table with names that need quoting is not named `posts`.
      let name = table.testDescription.contains("quoting") ? #""Po""sts; --""# : "posts"
      let rows: SQL = "SELECT t.*::text FROM shop.\(trusted: name) AS t"
      let before = try await nights.rows(rows)
      try await nights.run([2: "protected"], checks: false)
      #expect(
        try await nights.rows(
          """
          SELECT count(*) FROM shop.\(trusted: name)
          WHERE \(trusted: table.reached) AND (\(trusted: table.hidden)) IS NOT TRUE
          """) == ["(0)"])
      // The rows of other posts are unchanged.
      let others: SQL = "\(trusted: name) AS t WHERE NOT (\(trusted: table.reached))"
      #expect(
        try await nights.rows("SELECT t.*::text FROM shop.\(others)")
          == nights.rows("SELECT t.*::text FROM before.\(others)"))
      try await nights.run([2: "protected"], checks: false)
      try await nights.run(checks: false)
      #expect(try await nights.rows(rows) == before)
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(0)"])
    }
  }

  /// The definition names a partition and its parent. A row has one hold only.
  @Test(arguments: [["posts", "posts_new"], ["posts_new", "posts"]])
  func aRowOfAPartitionAndItsParentHasOneHold(tables: [String]) async throws {
    let first = HeldTable(testDescription: "", tables: "", keys: "table: shop.\(tables[0])\nid: id")
    let second = """
          targets: [{table: shop.\(tables[1]), match: id, actions: {protected: {protect:
            {set: {visibility: protected, searchable: false}, restore: former}}}}]

      """
    try await NightlyFixture.with(
      definition: first.definition() + second,
      tables: """
        CREATE TABLE posts (id bigint, at date, visibility text, searchable boolean, PRIMARY KEY (id, at))
          PARTITION BY RANGE (at);
        CREATE TABLE posts_old PARTITION OF posts FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
        CREATE TABLE posts_new PARTITION OF posts FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
        INSERT INTO posts VALUES (2, '2026-01-02', 'internal', true), (3, '2026-01-02', 'internal', true)
        """
    ) { nights in
      try await nights.run([2: "protected"], checks: false)
      #expect(
        try await nights.rows("SELECT * FROM shop.posts")
          == ["(2,2026-01-02,protected,f)", "(3,2026-01-02,internal,t)"])
      #expect(try await nights.rows("SELECT count(*) FROM lethe.hold") == ["(1)"])
      try await nights.run(checks: false)
      #expect(
        try await nights.rows("SELECT * FROM shop.posts")
          == ["(2,2026-01-02,internal,t)", "(3,2026-01-02,internal,t)"])
    }
  }

  /// Each partition has a key, but the table has none. Two rows of the table can have the same key.
  @Test func aTableWhoseKeysAreOnlyOnThePartitionsIsRefused() async throws {
    let table = HeldTable(
      testDescription: "",
      tables: """
        CREATE TABLE posts (id bigint, lang text, visibility text) PARTITION BY LIST (lang);
        CREATE TABLE posts_en PARTITION OF posts (PRIMARY KEY (id)) FOR VALUES IN ('en');
        CREATE TABLE posts_de PARTITION OF posts (PRIMARY KEY (id)) FOR VALUES IN ('de');
        INSERT INTO posts VALUES (2, 'en', 'internal')
        """)
    try await NightlyFixture.with(definition: table.definition(), tables: table.tables) { nights in
      let errors = try await nights.findings().filter { $0.severity == .error }
      #expect(errors.contains { $0.message.contains("shop.posts") && $0.message.contains("key") })
    }
  }

  struct Refused: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let tables: String
    var set = "{visibility: protected}"
  }

  static let refused: [Refused] = [
    Refused(
      testDescription: "no key",
      tables: "CREATE TABLE posts (id bigint, visibility text); CREATE INDEX ON posts (id)"),
    Refused(
      testDescription: "a unique index on a column that may be NULL",
      tables: "CREATE TABLE posts (id bigint UNIQUE, visibility text)"),
    Refused(
      testDescription: "a partial unique index",
      tables: """
        CREATE TABLE posts (id bigint NOT NULL, visibility text);
        CREATE UNIQUE INDEX ON posts (id) WHERE id > 0
        """),
    Refused(
      testDescription: "a unique index on an expression",
      tables: """
        CREATE TABLE posts (id bigint NOT NULL, visibility text);
        CREATE UNIQUE INDEX ON posts (id, lower(visibility))
        """),
    Refused(
      testDescription: "a unique constraint that is checked at the end of a transaction",
      tables: """
        CREATE TABLE posts (id bigint NOT NULL UNIQUE DEFERRABLE, visibility text)
        """),
    Refused(
      testDescription: "the key contains a column that set changes",
      tables: "CREATE TABLE posts (id bigint, visibility text, PRIMARY KEY (id, visibility))"),
  ]

  @Test(arguments: sampled(refused, ["former", "{visibility: public}"], refused.count))
  func aTableWhoseRowsCannotBeFoundAgainIsRefused(
    refused: Refused, restore: String
  ) async throws {
    let table = HeldTable(testDescription: "", tables: refused.tables, set: refused.set)
    try await NightlyFixture.with(
      definition: table.definition(restore: restore), tables: table.tables
    ) { nights in
      let errors = try await nights.findings().filter { $0.severity == .error }
      #expect(errors.count == 1)
      #expect(errors.first?.message.contains("shop.posts") == true)
      #expect(errors.first?.remedy.contains("restore: none") == true)
      try nights.edit("restore: \(restore)", to: "restore: none")
      #expect(try await nights.findings().filter { $0.severity == .error } == [])
    }
  }
}
