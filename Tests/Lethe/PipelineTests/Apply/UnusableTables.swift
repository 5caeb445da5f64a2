import Testing

/// A table that Lethe cannot change with this definition, and parts of the expected error. The rows must not change.
struct UnusableTable: Sendable, CustomTestStringConvertible {
  let table: UnusualTable
  /// Parts of the error message, including the remedy.
  let messages: [String]

  var testDescription: String { table.name }

  init(
    _ name: String, tables: String, dataset: String = "table: shop.posts\nid: id",
    actions: [String: String] = ["deleted": "delete"],
    events: [(id: Int64, reason: String)] = [(1, "deleted"), (2, "deleted")],
    rows: String = "SELECT body FROM shop.posts", remaining: [String] = ["one", "two", "three"],
    messages: [String]
  ) {
    table = UnusualTable(
      name, tables: tables, dataset: dataset, actions: actions, events: events, rows: rows,
      remaining: remaining)
    self.messages = messages
  }

  private static let posts = """
    CREATE TABLE shop.posts (id bigint PRIMARY KEY, body text, visibility text DEFAULT 'shown');
    INSERT INTO shop.posts VALUES (1, 'one'), (2, 'two'), (3, 'three');

    """

  // MARK: Refused before a run begins

  /// A run over one of these tables is refused before it begins.
  static let refused: [UnusableTable] = [
    UnusableTable(
      "a view with INSTEAD OF triggers",
      tables: """
        CREATE TABLE shop.rows (id bigint PRIMARY KEY, body text);
        INSERT INTO shop.rows VALUES (1, 'one'), (2, 'two'), (3, 'three');
        CREATE VIEW shop.posts AS SELECT id, body FROM shop.rows WHERE id > 0;
        CREATE FUNCTION shop.delete_row() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN DELETE FROM shop.rows WHERE id = OLD.id; RETURN OLD; END';
        CREATE TRIGGER deleting INSTEAD OF DELETE ON shop.posts
          FOR EACH ROW EXECUTE FUNCTION shop.delete_row()
        """,
      messages: [
        "shop.posts is a view", "cannot verify", "name the table that holds the rows",
      ]),
    UnusableTable(
      "a materialized view",
      tables: """
        CREATE TABLE shop.rows (id bigint PRIMARY KEY, body text);
        INSERT INTO shop.rows VALUES (1, 'one'), (2, 'two'), (3, 'three');
        CREATE MATERIALIZED VIEW shop.posts AS TABLE shop.rows
        """,
      messages: ["a materialized view: its rows cannot be changed", "name the table"]),
    UnusableTable(
      "a foreign table",
      tables: """
        CREATE TABLE shop.rows (id bigint, body text);
        CREATE FOREIGN DATA WRAPPER nothing;
        CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing;
        CREATE FOREIGN TABLE shop.posts (id bigint, body text) SERVER elsewhere
        """,
      rows: "SELECT body FROM shop.rows", remaining: [],
      messages: ["a foreign table: its changes do not commit together with the ledger"]),
    UnusableTable(
      "a rule that replaces deletions with updates",
      tables: posts
        + "CREATE RULE kept AS ON DELETE TO shop.posts DO INSTEAD UPDATE shop.posts SET body = '' WHERE id = OLD.id",
      messages: ["a rule of shop.posts rewrites DELETE", "drop the rule"]),
    UnusableTable(
      "an ID column of type char(n)",
      tables: posts + "ALTER TABLE shop.posts ALTER id TYPE char(19)",
      messages: ["shop.posts.id is bpchar, which cannot store IDs", "bigint, numeric or text"]),
    UnusableTable(
      "a value that the column refuses",
      tables: posts + """
        CREATE TYPE shop.mood AS ENUM ('shown');
        ALTER TABLE shop.posts ALTER visibility DROP DEFAULT, ALTER visibility TYPE shop.mood USING 'shown'
        """,
      actions: ["protected": "{protect: {set: {visibility: hidden}}}"],
      messages: ["shop.posts.visibility is shop.mood and refuses the value hidden"]),
    UnusableTable(
      "times that differ from the times in the IDs",
      tables: """
        CREATE TABLE shop.posts (id bigint, body text, created_at timestamptz)
        PARTITION BY RANGE (created_at);
        CREATE TABLE shop.posts_all PARTITION OF shop.posts DEFAULT;
        INSERT INTO shop.posts VALUES
          (\(UnusualTable.postID(of: 1_700_000_000)), 'one', to_timestamp(1700000000)),
          (\(UnusualTable.postID(of: 1_700_000_001)), 'two', to_timestamp(1700000000)),
          (\(UnusualTable.postID(of: 1_700_000_002)), 'three', to_timestamp(1700200002))
        """,
      dataset: "table: shop.posts\nid: id\nid_time: created_at",
      messages: [
        "is 2023-11-17 05:46:42+00", "the time in the ID is 2023-11-14 22:13:22", "remove id_time",
      ]
    ),
  ]

  // MARK: Detected by apply

  /// Apply cannot change the rows of these tables as the definition says. It detects this and rolls the changes back.
  static let rolledBack: [UnusableTable] = [
    UnusableTable(
      "a trigger that silently skips deletions",
      tables: posts + """
        CREATE FUNCTION shop.keep() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN RETURN CASE WHEN OLD.id <> 2 THEN OLD END; END';
        CREATE TRIGGER kept BEFORE DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """,
      messages: ["delete shop.posts: rows are unchanged: id 2", "look for a trigger"]),
    UnusableTable(
      "a trigger that replaces a deletion with an update",
      tables: posts + """
        CREATE FUNCTION shop.keep() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN UPDATE shop.posts SET visibility = ''deleted'' WHERE id = OLD.id; RETURN NULL; END';
        CREATE TRIGGER kept BEFORE DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """,
      messages: ["rows are unchanged: id 1; id 2"]),
    UnusableTable(
      "a trigger that sets the old value again",
      tables: posts + """
        CREATE FUNCTION shop.keep() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN NEW.visibility := OLD.visibility; RETURN NEW; END';
        CREATE TRIGGER kept BEFORE UPDATE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """,
      actions: ["protected": "{protect: {set: {visibility: hidden}}}"], events: [(2, "protected")],
      rows: "SELECT body FROM shop.posts WHERE visibility = 'shown'",
      messages: ["protect shop.posts: rows are unchanged: id 2"]),
    UnusableTable(
      "a foreign key that no target covers",
      tables: posts + """
        CREATE TABLE shop.media (post bigint CONSTRAINT media_of_post REFERENCES shop.posts);
        INSERT INTO shop.media VALUES (2)
        """,
      dataset: "table: shop.posts\nid: id\nbatch: 1",
      messages: [
        "constraint media_of_post", "rows of shop.media refer", "declare shop.media as a target",
      ]),
    UnusableTable(
      "a deferred foreign key that no target covers",
      tables: posts + """
        CREATE TABLE shop.media (
          post bigint CONSTRAINT media_of_post REFERENCES shop.posts DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO shop.media VALUES (2)
        """,
      dataset: "table: shop.posts\nid: id\nbatch: 1",
      messages: ["constraint media_of_post", "declare shop.media as a target"]),
    UnusableTable(
      "a foreign key on a partition that no target covers",
      tables: """
        CREATE TABLE shop.posts (id bigint, body text) PARTITION BY RANGE (id);
        CREATE TABLE shop.posts_1 PARTITION OF shop.posts (PRIMARY KEY (id)) FOR VALUES FROM (1) TO (9);
        CREATE TABLE shop.media (post bigint CONSTRAINT media_of_post REFERENCES shop.posts_1);
        INSERT INTO shop.posts VALUES (1, 'one'), (2, 'two'), (3, 'three');
        INSERT INTO shop.media VALUES (2)
        """,
      dataset: "table: shop.posts\nid: id\nbatch: 1",
      messages: ["constraint media_of_post", "declare shop.media as a target"]),
    UnusableTable(
      "a target that does not match the rows of a foreign key",
      tables: posts + """
        CREATE TABLE shop.media (owner bigint, post bigint CONSTRAINT media_of_post REFERENCES shop.posts);
        CREATE INDEX ON shop.media (owner);
        INSERT INTO shop.media VALUES (1, 1), (7, 2)
        """,
      dataset: """
        table: shop.posts
        id: id
        batch: 1
        targets: [{table: shop.media, match: owner, actions: {deleted: delete}}]
        """,
      messages: ["constraint media_of_post", "event of ID 2"]),
    UnusableTable(
      "a reply that remains and refers to a deleted post",
      tables: posts + """
        ALTER TABLE shop.posts ADD reply_to bigint CONSTRAINT reply REFERENCES shop.posts;
        UPDATE shop.posts SET reply_to = 2 WHERE id = 3
        """,
      dataset: "table: shop.posts\nid: id\nbatch: 1",
      messages: [
        "constraint reply", "event of ID 2", "ON DELETE SET NULL",
        "declare shop.posts once more as a target",
      ]),
  ]
}
