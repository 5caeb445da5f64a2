import Warehouse

/// Cases in which the check reports warnings and notes, but no error.
extension RehearsalCase {
  /// The notes about partitions or tables that have no rows.
  static func emptyNotes(_ parts: String...) -> [[String]] {
    [
      ["delete shop.posts"] + parts, ["protect shop.posts"] + parts,
      ["scrub_geo shop.posts"] + parts,
      ["redact shop.posts"] + parts,
    ]
  }

  private static let past = "CREATE TABLE shop.past (id bigint, text text);"

  static let copied: [RehearsalCase] = [
    RehearsalCase(
      name: "an INSERT in the text of the function",
      setupSQL: past + function("keep", "INSERT INTO shop.past VALUES (OLD.post_id, OLD.text)")
        + """
        CREATE TRIGGER keep AFTER DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """, messageParts: [["shop.past gets copies", "keep of shop.posts"]]),
    RehearsalCase(
      name: "an INSERT in dynamic SQL",
      setupSQL: past
        + function(
          "keep",
          "EXECUTE 'INS' || 'ERT INTO shop.past VALUES ($1, $2)' USING OLD.post_id, OLD.text")
          + """
          CREATE TRIGGER keep BEFORE DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep()
          """, messageParts: [["shop.past gets copies", "keep of shop.posts"]]),
    RehearsalCase(
      name: "an INSERT into a view, by a function that the trigger calls",
      setupSQL: past + """
        CREATE VIEW shop.window AS SELECT * FROM shop.past;
        CREATE FUNCTION shop.put(id bigint, url text) RETURNS void LANGUAGE sql AS
          'INSERT INTO shop.window VALUES ($1, $2)';
        \(function("keep", "PERFORM shop.put(OLD.media_id, OLD.url)"))
        CREATE TRIGGER keep BEFORE DELETE ON shop.media FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """, messageParts: [["shop.past gets copies", "keep of shop.media"]]),
    RehearsalCase(
      name: "a statement-level trigger with a transition table",
      setupSQL: past + """
        CREATE FUNCTION shop.keep() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN EXECUTE 'INS' || 'ERT INTO shop.past SELECT media_id, url FROM gone'; RETURN NULL; END $$;
        CREATE TRIGGER keep AFTER DELETE ON shop.media REFERENCING OLD TABLE AS gone
          FOR EACH STATEMENT EXECUTE FUNCTION shop.keep()
        """, messageParts: [["shop.past gets copies", "keep of shop.media"]]),
    RehearsalCase(
      name: "copies of former values in a partitioned table",
      setupSQL: """
        CREATE TABLE shop.past (id bigint, text text) PARTITION BY RANGE (id);
        CREATE TABLE shop.past_1 PARTITION OF shop.past FOR VALUES FROM (0) TO (100);
        \(function(
          "keep", "EXECUTE 'INS' || 'ERT INTO shop.past VALUES ($1, $2)' USING OLD.post_id, OLD.text"))
        CREATE TRIGGER keep AFTER UPDATE OF text ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """, messageParts: [["shop.past_1 gets copies", "redact shop.posts", "keep of shop.posts"]]),
    RehearsalCase(
      name: "a trigger that fires because redact moves the rows to another partition",
      setupSQL: past
        + partitioned(
          by: "LIST (text)",
          """
          CREATE TABLE shop.posts_1 PARTITION OF shop.posts FOR VALUES IN ('', '[redacted]');
          CREATE TABLE shop.posts_2 PARTITION OF shop.posts DEFAULT;
          """)
        + function("keep", "INSERT INTO shop.past VALUES (NEW.post_id, NEW.text)", returns: "NULL")
          + """
          CREATE TRIGGER keep AFTER INSERT OR UPDATE OF ingested_at ON shop.posts
            FOR EACH ROW EXECUTE FUNCTION shop.keep()
          """,
      messageParts: [["shop.past gets copies", "redact shop.posts", "keep of shop.posts"]],
      notes: emptyNotes("1 of 2 parts", "shop.posts_1")),
    RehearsalCase(
      name: "a trigger on the parent of a partition",
      setupSQL: past + """
        ALTER TABLE shop.media DROP CONSTRAINT media_post_id_fkey;
        CREATE TABLE shop.whole (LIKE shop.posts) PARTITION BY RANGE (post_id);
        ALTER TABLE shop.whole ATTACH PARTITION shop.posts FOR VALUES FROM (0) TO (100);
        \(function("keep", "INSERT INTO shop.past VALUES (OLD.post_id, OLD.text)"))
        CREATE TRIGGER keep AFTER DELETE ON shop.whole FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """, messageParts: [["shop.past gets copies", "keep of shop.posts"]]),
    RehearsalCase(
      name: "a statement-level trigger on a partition, which never fires",
      setupSQL: past
        + partitioned(
          by: "RANGE (post_id)",
          "CREATE TABLE shop.posts_1 PARTITION OF shop.posts FOR VALUES FROM (0) TO (100);")
        + function("keep", "INSERT INTO shop.past VALUES (1)", returns: "NULL") + """
          CREATE TRIGGER keep AFTER DELETE ON shop.posts_1 EXECUTE FUNCTION shop.keep()
          """),
    RehearsalCase(
      name: "a trigger that fires only on INSERT",
      setupSQL: past + function("keep", "INSERT INTO shop.past VALUES (1)", returns: "NEW") + """
        CREATE TRIGGER keep AFTER INSERT ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """),
    RehearsalCase(
      name: "copies of a row that is only hidden",
      setupSQL: past
        + function(
          "keep", "EXECUTE 'INS' || 'ERT INTO shop.past VALUES ($1)' USING OLD.post_id",
          returns: "NEW") + """
          CREATE TRIGGER keep AFTER UPDATE OF visibility ON shop.posts
            FOR EACH ROW EXECUTE FUNCTION shop.keep()
          """),
    RehearsalCase(
      name: "a trigger that updates a counter",
      setupSQL: "CREATE TABLE shop.counter AS SELECT 4 AS n;"
        + function("count", "UPDATE shop.counter SET n = n - 1") + """
          CREATE TRIGGER count AFTER DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.count()
          """, notes: [["delete shop.posts fires triggers that change rows of shop.counter"]]),
    RehearsalCase(
      name: "a disabled trigger",
      setupSQL: past + function("keep", "INSERT INTO shop.past VALUES (OLD.post_id, OLD.text)")
        + """
        CREATE TRIGGER keep AFTER DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep();
        ALTER TABLE shop.posts DISABLE TRIGGER keep
        """),
  ].map {
    var each = $0
    each.severity = .warning
    return each
  }

  static let noted: [RehearsalCase] = [
    RehearsalCase(name: "nothing is wrong", setupSQL: ""),
    RehearsalCase(
      name: "nothing is wrong for a role with only the necessary privileges", setupSQL: "",
      isPlainRole: true),
    RehearsalCase(
      name: "no rows", setupSQL: "TRUNCATE shop.media, shop.posts",
      notes: emptyNotes("was not rehearsed: no ") + [["delete shop.media was not rehearsed"]]),
    RehearsalCase(
      name: "some partitions are empty",
      setupSQL: partitioned(
        by: "RANGE (post_id)",
        """
        CREATE TABLE shop.posts_1 PARTITION OF shop.posts FOR VALUES FROM (0) TO (3);
        CREATE TABLE shop.posts_2 PARTITION OF shop.posts FOR VALUES FROM (3) TO (9);
        CREATE TABLE shop.posts_3 PARTITION OF shop.posts FOR VALUES FROM (9) TO (20);
        CREATE TABLE shop.posts_4 PARTITION OF shop.posts FOR VALUES FROM (20) TO (30);
        """), notes: emptyNotes("2 of 4 parts", "shop.posts_3, shop.posts_4")),
    RehearsalCase(
      name: "a trigger that moves the row",
      setupSQL: partitioned(
        by: "LIST (region)",
        """
        CREATE TABLE shop.posts_a PARTITION OF shop.posts FOR VALUES IN ('a');
        CREATE TABLE shop.posts_b PARTITION OF shop.posts FOR VALUES IN ('b');
        """) + function("move", "NEW.region := 'b'", returns: "NEW") + """
          CREATE TRIGGER move BEFORE UPDATE OF visibility ON shop.posts
            FOR EACH ROW EXECUTE FUNCTION shop.move()
          """, notes: emptyNotes("1 of 2 parts", "shop.posts_b")),
    RehearsalCase(
      name: "each post has media", setupSQL: "DELETE FROM shop.posts WHERE post_id IN (3, 4)",
      notes: [["delete shop.posts was not rehearsed", "no unreferenced row"]]),
    RehearsalCase(
      name: "a foreign key with ON DELETE SET NULL",
      setupSQL: """
        CREATE TABLE shop.likes (post_id bigint REFERENCES shop.posts ON DELETE SET NULL);
        CREATE INDEX ON shop.likes (post_id);
        INSERT INTO shop.likes VALUES (3)
        """, notes: [["shop.likes", "was not rehearsed", "likes_post_id_fkey"]]),
    RehearsalCase(
      name: "a foreign key with ON DELETE CASCADE from an unreadable table",
      setupSQL: """
        CREATE TABLE shop.likes (post_id bigint REFERENCES shop.posts ON DELETE CASCADE);
        CREATE INDEX ON shop.likes (post_id);
        INSERT INTO shop.likes VALUES (3), (4)
        """,
      notes: [
        ["delete shop.posts was not rehearsed", "rows of shop.likes, which Lethe may not read"],
        ["shop.likes", "was not rehearsed", "likes_post_id_fkey"],
      ], isPlainRole: true),
    RehearsalCase(
      name: "all rows are already hidden", setupSQL: "UPDATE shop.posts SET visibility = 'hidden'",
      notes: [["protect shop.posts was not rehearsed", "no row to change"]]),
    RehearsalCase(
      name: "an event trigger that allows the command",
      setupSQL: """
        CREATE FUNCTION shop.list() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
        CREATE EVENT TRIGGER list ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP VIEW')
          EXECUTE FUNCTION shop.list()
        """, notes: [["the event trigger list fires on CREATE TABLE;"]]),
    RehearsalCase(
      name: "an event trigger on commands for guards",
      setupSQL: """
        CREATE FUNCTION shop.list() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
        CREATE EVENT TRIGGER list ON ddl_command_end WHEN TAG IN ('REVOKE', 'COMMENT', 'DROP FUNCTION')
          EXECUTE FUNCTION shop.list()
        """, notes: [["the event trigger list fires on REVOKE, COMMENT, DROP FUNCTION;"]]),
    RehearsalCase(
      name: "an event trigger on dropped objects",
      setupSQL: """
        CREATE FUNCTION shop.list() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
        CREATE EVENT TRIGGER list ON sql_drop EXECUTE FUNCTION shop.list()
        """, notes: [["the event trigger list fires on DROP FUNCTION, DROP TRIGGER, DROP TABLE;"]]),
    RehearsalCase(
      name: "a disabled event trigger",
      setupSQL: """
        CREATE FUNCTION shop.never() RETURNS event_trigger LANGUAGE plpgsql AS
          $$ BEGIN RAISE EXCEPTION 'no'; END $$;
        CREATE EVENT TRIGGER never ON ddl_command_start EXECUTE FUNCTION shop.never();
        ALTER EVENT TRIGGER never DISABLE
        """),
    RehearsalCase(
      name: "an event trigger on other commands",
      setupSQL: """
        CREATE FUNCTION shop.never() RETURNS event_trigger LANGUAGE plpgsql AS
          $$ BEGIN RAISE EXCEPTION 'no'; END $$;
        CREATE EVENT TRIGGER never ON ddl_command_start WHEN TAG IN ('CREATE VIEW', 'CREATE INDEX')
          EXECUTE FUNCTION shop.never()
        """),
  ]
}
