// Tables that are unusual because of their columns and values, or because of their triggers and foreign keys.

// MARK: Columns

extension UnusualTable {
  private static let protectAction =
    "{protect: {set: {visibility: hidden}, restore: {visibility: shown}}}"

  static let columns: [UnusualTable] = [
    UnusualTable(
      "a column that is generated from the location",
      tables: """
        CREATE TABLE shop.posts (
          id bigint PRIMARY KEY, latitude float8, longitude float8,
          at text GENERATED ALWAYS AS (latitude::text || ' ' || longitude::text) STORED);
        INSERT INTO shop.posts VALUES (1, 51.5, -0.1), (2, 48.8, 2.3), (3, NULL, NULL)
        """,
      actions: ["geo_scrubbed": "{scrub_geo: [latitude, longitude]}"],
      events: [(2, "geo_scrubbed"), (3, "geo_scrubbed")],
      rows: "SELECT p::text FROM shop.posts AS p",
      remaining: ["(1,51.5,-0.1,\"51.5 -0.1\")", "(2,,,)", "(3,,,)"]),
    UnusualTable(
      "types without a usable equality operator: point, box, circle, json, xml",
      tables: """
        CREATE TABLE shop.posts (
          id bigint PRIMARY KEY, at point, around box, raw json, old xml, circle circle);
        INSERT INTO shop.posts VALUES
          (1, '(1,2)', '((0,0),(2,2))', '{"a":1}', '<a/>', '((0,0),1)'),
          (2, '(1,2)', '((0,0),(2,2))', '{"a":1}', '<a/>', '((9,9),1)'),
          (3, NULL, '((7,7),(9,9))', '{}', NULL, '((0,0),1)')
        """,
      actions: [
        "geo_scrubbed":
          "{scrub_geo: {at: null, around: '((1,1),(3,3))', raw: '{}', old: null, circle: '((0,0),1)'}}"
      ],
      events: [(2, "geo_scrubbed"), (3, "geo_scrubbed")],
      rows: "SELECT p::text FROM shop.posts AS p",
      remaining: [
        #"(1,"(1,2)","(2,2),(0,0)","{""a"":1}",<a/>,"<(0,0),1>")"#,
        #"(2,,"(3,3),(1,1)",{},,"<(0,0),1>")"#, #"(3,,"(3,3),(1,1)",{},,"<(0,0),1>")"#,
      ]),
    UnusualTable(
      "enum, char(n), domain, boolean, numeric and timestamp columns that protect sets",
      tables: """
        CREATE TYPE shop."Mood" AS ENUM ('shown', 'hidden');
        CREATE DOMAIN shop.flag AS char(1) CHECK (value IN ('y', 'n'));
        CREATE TABLE shop.posts (
          id bigint PRIMARY KEY, mood shop."Mood" NOT NULL, code char(8), seen shop.flag, open boolean,
          price numeric(6, 2), noted timestamp(0));
        INSERT INTO shop.posts
        SELECT p, 'shown', 'ok', 'y', true, 1.5, '2023-11-01' FROM generate_series(1, 2) AS p
        """,
      actions: [
        "protected":
          "{protect: {set: {mood: hidden, code: gone, seen: n, open: false, price: 0, noted: 2023-11-02}}}"
      ],
      events: [(2, "protected")],
      rows: "SELECT p::text FROM shop.posts AS p",
      remaining: [
        #"(1,shown,"ok      ",y,t,1.50,"2023-11-01 00:00:00")"#,
        #"(2,hidden,"gone    ",n,f,0.00,"2023-11-02 00:00:00")"#,
      ]),
    UnusualTable(
      "a location in a json column with other content",
      tables: """
        CREATE TABLE shop.posts (id bigint PRIMARY KEY, raw json);
        INSERT INTO shop.posts VALUES
          (1, '{"place":  {"name": "London"}}'),
          (2, '{"a": 1, "place": {"name": "London"}, "geo": {"coordinates": [1, 2], "type": "Point"}}'),
          (3, '{"b": 1,   "a": 2}'), (4, '[1]'), (5, NULL)
        """,
      actions: ["geo_scrubbed": "{scrub_geo: {raw: [place, geo.coordinates]}}"],
      events: [2, 3, 4, 5].map { ($0, "geo_scrubbed") },
      rows: "SELECT id || ' ' || coalesce(raw::text, 'null') FROM shop.posts",
      remaining: [
        #"1 {"place":  {"name": "London"}}"#, #"2 {"a": 1, "geo": {"type": "Point"}}"#,
        #"3 {"b": 1,   "a": 2}"#, "4 [1]", "5 null",
      ]),
    UnusualTable(
      "jsonb that is a scalar, null, an array, or has arrays where objects are expected",
      tables: """
        CREATE TABLE shop.posts (id bigint PRIMARY KEY, raw jsonb);
        INSERT INTO shop.posts VALUES
          (1, '"place"'), (2, 'null'), (3, NULL), (4, '7'), (5, '["place", {"place": 1}]'),
          (6, '{"place": null}'), (7, '{"place": 1, "geo": [1, 2]}'), (8, '{"place": 1, "geo": "here"}'),
          (9, '{"media": [{"geo": 1, "key": 2}, {"geo": 3}]}'), (10, '[]'), (11, '{}')
        """,
      actions: ["geo_scrubbed": "{scrub_geo: {raw: [place, geo.coordinates, media.0.geo]}}"],
      events: (1...11).map { ($0, "geo_scrubbed") },
      rows: "SELECT id || ' ' || coalesce(raw::text, 'nothing') FROM shop.posts",
      remaining: [
        #"1 "place""#, "2 null", "3 nothing", "4 7", #"5 ["place", {"place": 1}]"#, "6 {}",
        #"7 {"geo": [1, 2]}"#, #"8 {"geo": "here"}"#, #"9 {"media": [{"key": 2}, {"geo": 3}]}"#,
        "10 []", "11 {}",
      ]),
    UnusualTable(
      "NOT NULL columns that are emptied, and a row that is marked as stale",
      tables: """
        CREATE TABLE shop.posts (
          id bigint PRIMARY KEY, body text NOT NULL, raw jsonb NOT NULL, is_stale boolean NOT NULL);
        INSERT INTO shop.posts
        SELECT p, 'text', '{"text": 1, "id": 2}', false FROM generate_series(1, 3) AS p
        """,
      actions: [
        "deleted": "{redact: {body: '', raw: [text]}}",
        "tweet_edited": "{rehydrate: {set: {is_stale: true}}}",
      ],
      events: [(2, "deleted"), (3, "tweet_edited")],
      rows: "SELECT p::text FROM shop.posts AS p",
      remaining: [
        #"(1,text,"{""id"": 2, ""text"": 1}",f)"#, #"(2,"","{""id"": 2}",f)"#,
        #"(3,text,"{""id"": 2, ""text"": 1}",t)"#,
      ]),
  ]
}

// MARK: Triggers and references

extension UnusualTable {
  static let triggers: [UnusualTable] = [
    UnusualTable(
      "a trigger that counts each update of a row",
      tables: """
        CREATE TABLE shop.posts (id bigint PRIMARY KEY, visibility text, updates integer DEFAULT 0);
        CREATE FUNCTION shop.count_update() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN NEW.updates := OLD.updates + 1; RETURN NEW; END';
        CREATE TRIGGER counted BEFORE UPDATE ON shop.posts
          FOR EACH ROW EXECUTE FUNCTION shop.count_update();
        INSERT INTO shop.posts VALUES (1, 'shown'), (2, 'shown'), (3, 'hidden')
        """,
      actions: ["protected": protectAction], events: [(2, "protected"), (3, "protected")],
      rows: "SELECT p::text FROM shop.posts AS p",
      remaining: ["(1,shown,0)", "(2,hidden,1)", "(3,hidden,0)"]),
    UnusualTable(
      "triggers that archive deleted rows, for each row and for each statement",
      tables: """
        CREATE TABLE shop.posts (id bigint PRIMARY KEY, body text);
        CREATE TABLE shop.archive (id bigint, why text);
        CREATE FUNCTION shop.archive_row() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN INSERT INTO shop.archive VALUES (OLD.id, ''row''); RETURN NULL; END';
        CREATE FUNCTION shop.archive_all() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN INSERT INTO shop.archive SELECT id, ''statement'' FROM gone; RETURN NULL; END';
        CREATE TRIGGER each AFTER DELETE ON shop.posts
          FOR EACH ROW EXECUTE FUNCTION shop.archive_row();
        CREATE TRIGGER whole AFTER DELETE ON shop.posts REFERENCING OLD TABLE AS gone
          FOR EACH STATEMENT EXECUTE FUNCTION shop.archive_all();
        INSERT INTO shop.posts VALUES (1, 'one'), (2, 'two'), (3, 'three')
        """,
      events: [(2, "deleted"), (3, "deleted")],
      rows: "SELECT body FROM shop.posts UNION ALL SELECT id || ' ' || why FROM shop.archive",
      remaining: ["one", "2 row", "3 row", "2 statement", "3 statement"]),
    UnusualTable(
      "a foreign key from the table to itself, with one event per batch",
      tables: """
        CREATE TABLE shop.posts (id bigint PRIMARY KEY, reply_to bigint REFERENCES shop.posts, body text);
        CREATE INDEX ON shop.posts (reply_to);
        INSERT INTO shop.posts VALUES
          (1, NULL, 'one'), (2, 1, 'two'), (3, 2, 'three'), (4, 3, 'four'), (5, NULL, 'five'), (6, 2, 'six'),
          (7, 5, 'seven')
        """,
      dataset: "table: shop.posts\nid: id\nbatch: 1",
      events: [2, 3, 4, 6, 7].map { ($0, "deleted") }, remaining: ["one", "five"]),
    UnusualTable(
      "replies that are deleted with the post to which they reply",
      tables: """
        CREATE TABLE shop.posts (id bigint PRIMARY KEY, reply_to bigint REFERENCES shop.posts, body text);
        CREATE INDEX ON shop.posts (reply_to);
        INSERT INTO shop.posts VALUES (1, NULL, 'one'), (2, 1, 'two'), (3, 2, 'three')
        """,
      dataset: """
        table: shop.posts
        id: id
        targets: [{table: shop.posts, match: reply_to, id: id, actions: {deleted: delete}}]
        """,
      remaining: ["one"]),
    UnusualTable(
      "foreign keys with ON DELETE CASCADE and ON DELETE SET NULL",
      tables: """
        CREATE TABLE shop.posts (id bigint PRIMARY KEY, body text);
        CREATE TABLE shop.media (post bigint REFERENCES shop.posts ON DELETE CASCADE, body text);
        CREATE TABLE shop.quotes (post bigint REFERENCES shop.posts ON DELETE SET NULL, body text);
        INSERT INTO shop.posts VALUES (1, 'one'), (2, 'two');
        INSERT INTO shop.media VALUES (1, 'picture one'), (2, 'picture two');
        INSERT INTO shop.quotes VALUES (1, 'quote one'), (2, 'quote two')
        """,
      rows: """
        SELECT body FROM shop.posts UNION ALL SELECT body FROM shop.media
        UNION ALL SELECT coalesce(post, 0) || ' ' || body FROM shop.quotes
        """,
      remaining: ["one", "picture one", "1 quote one", "0 quote two"]),
    UnusualTable(
      "a deferred foreign key to a composite key",
      tables: """
        CREATE TABLE shop.posts (id bigint, part integer, body text, PRIMARY KEY (id, part));
        CREATE TABLE shop.media (
          post bigint, part integer, body text,
          FOREIGN KEY (post, part) REFERENCES shop.posts DEFERRABLE INITIALLY DEFERRED);
        CREATE INDEX ON shop.media (post);
        INSERT INTO shop.posts VALUES (1, 1, 'one'), (2, 1, 'two'), (2, 2, 'two, again');
        INSERT INTO shop.media VALUES (1, 1, 'picture one'), (2, 2, 'picture two')
        """,
      dataset: """
        table: shop.posts
        id: id
        targets: [{table: shop.media, match: post, actions: {deleted: delete}}]
        """,
      rows: "SELECT body FROM shop.posts UNION ALL SELECT body FROM shop.media",
      remaining: ["one", "picture one"]),
    UnusualTable(
      "a target without an action for one of the dataset's reasons",
      tables: """
        CREATE TABLE shop.posts (id bigint PRIMARY KEY, body text);
        CREATE TABLE shop.media (post bigint REFERENCES shop.posts, body text);
        CREATE INDEX ON shop.media (post);
        INSERT INTO shop.posts VALUES (1, 'one'), (2, 'two'), (3, 'three');
        INSERT INTO shop.media VALUES (1, 'picture one'), (2, 'picture two')
        """,
      dataset: """
        table: shop.posts
        id: id
        targets: [{table: shop.media, match: post, actions: {deleted: delete}}]
        """,
      actions: ["deleted": "delete", "bounced": "delete"],
      events: [(2, "deleted"), (3, "bounced")],
      rows: "SELECT body FROM shop.posts UNION ALL SELECT body FROM shop.media",
      remaining: ["one", "picture one"]),
  ]
}
