import Testing
import Warehouse

/// A change to the tables of the rehearsal tests, and the findings that the check reports.
struct RehearsalCase: Sendable, CustomTestStringConvertible {
  let name: String
  let damage: String
  /// Parts of the message of each finding that is not a note.
  var says: [[String]] = []
  var severity = Finding.Severity.error
  /// Parts of the message of each note.
  var notes: [[String]] = []
  var remedy = ""
  /// Whether the program connects as a role that has only the necessary privileges on the tables.
  var isPlainRole = false

  var testDescription: String { name }

  /// Posts 3 and 4 have no media. Post 4 has no location.
  static let tables = """
    CREATE SCHEMA shop;
    CREATE TABLE shop.posts (
      post_id bigint PRIMARY KEY, ingested_at timestamptz DEFAULT '2026-01-01', text text,
      visibility text DEFAULT 'shown', latitude float8, raw jsonb DEFAULT '{"geo": 1}');
    CREATE TABLE shop.media (
      media_id bigint PRIMARY KEY, post_id bigint REFERENCES shop.posts, url text);
    CREATE INDEX media_post_id ON shop.media (post_id);
    INSERT INTO shop.posts (post_id, text, latitude)
    VALUES (1, 'secret one', 1), (2, 'secret two', 2), (3, 'secret three', 3), (4, 'secret four', NULL);
    INSERT INTO shop.media VALUES (11, 1, 'secret url'), (12, 2, 'secret url'), (13, 2, 'secret url');
    """

  /// How hidden rows are restored. Former values need a key that all parts of the table share and that hiding does not
  /// change. The partitioned and inherited tables of these tests have no such key.
  private var restore: String {
    damage.contains("PARTITION BY") || damage.contains("INHERITS") ? "none" : "former"
  }

  /// Replacements in the definition.
  var edits: [(String, String)] = []

  var definition: String {
    edits.reduce(Self.definition.replacing("restore: former", with: "restore: \(restore)")) {
      $0.replacing($1.0, with: $1.1)
    }
  }

  static let definition = """
    name: rehearsal
    warehouse: ${DATABASE_URL}
    api: {bearer_token: t}
    datasets:
      posts:
        type: tweets
        table: shop.posts
        id: post_id
        actions:
          deleted: delete
          bounced: delete
          suspended: ignore
          deactivated: {redact: {text: '', raw: [text]}}
          protected: {protect: {set: {visibility: hidden}, restore: former}}
          scrub_geo: {scrub_geo: {latitude: null, raw: [geo]}}
          tweet_edited: rehydrate
        targets:
          - {table: shop.media, match: post_id, id: media_id, type: none, actions: {deleted: delete, bounced: delete}}
    """

  private static func function(_ name: String, _ body: String, returns row: String = "OLD")
    -> String
  {
    """
    CREATE FUNCTION shop.\(name)() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN \(body); RETURN \(row); END $$;

    """
  }

  private static func never(_ condition: String) -> String {
    function("never", "IF \(condition) THEN RAISE 'not this one: %', OLD.text; END IF")
  }

  private static func partitioned(by key: String, _ partitions: String) -> String {
    """
    ALTER TABLE shop.media DROP CONSTRAINT media_post_id_fkey;
    ALTER TABLE shop.posts RENAME TO former;
    CREATE TABLE shop.posts (
      post_id bigint, ingested_at timestamptz, text text, visibility text, latitude float8, raw jsonb,
      region text DEFAULT 'a') PARTITION BY \(key);
    CREATE INDEX ON shop.posts (post_id);
    \(partitions)
    INSERT INTO shop.posts SELECT * FROM shop.former;

    """
  }

  // MARK: Refused

  static let refused: [RehearsalCase] = [
    RehearsalCase(
      name: "a trigger that writes to a table without the INSERT privilege",
      damage: """
        CREATE TABLE shop.audit (id bigint);
        \(function("note", "INSERT INTO shop.audit VALUES (OLD.post_id)"))
        CREATE TRIGGER note AFTER DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.note()
        """,
      says: [["delete shop.posts", "permission denied for table audit", "note of shop.posts"]],
      remedy: "SECURITY DEFINER", isPlainRole: true),
    RehearsalCase(
      name: "a trigger that calls a function without the EXECUTE privilege",
      damage: """
        CREATE FUNCTION shop.inner() RETURNS void LANGUAGE sql AS 'SELECT';
        REVOKE EXECUTE ON FUNCTION shop.inner() FROM PUBLIC;
        \(function("note", "PERFORM shop.inner()"))
        CREATE TRIGGER note BEFORE DELETE ON shop.media FOR EACH ROW EXECUTE FUNCTION shop.note()
        """,
      says: [
        [
          "delete shop.media", "permission denied for function inner", "SQLSTATE 42501",
          "note of shop.media",
        ]
      ], isPlainRole: true),
    RehearsalCase(
      name: "a trigger that raises an error when a hidden row is restored",
      damage: """
        \(function("once", "IF OLD.visibility = 'hidden' THEN RAISE 'never'; END IF", returns: "NEW"))
        CREATE TRIGGER once BEFORE UPDATE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.once()
        """,
      says: [
        ["protect shop.posts", "could not be restored", "shop.once", "once of shop.posts"]
      ]),
    RehearsalCase(
      name: "a trigger that skips the restore of a hidden row",
      damage: """
        \(function("once", "IF OLD.visibility = 'hidden' THEN RETURN NULL; END IF", returns: "NEW"))
        CREATE TRIGGER once BEFORE UPDATE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.once()
        """,
      says: [["protect shop.posts", "could not be restored", "once of shop.posts"]]),
    RehearsalCase(
      name: "a history table with the time in its key",
      damage: """
        CREATE TABLE shop.history (id bigint, at timestamptz DEFAULT now(), PRIMARY KEY (id, at));
        \(function("kept", "INSERT INTO shop.history VALUES (OLD.post_id)"))
        CREATE TRIGGER kept AFTER UPDATE OF visibility ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.kept()
        """,
      says: [
        ["protect shop.posts", "history_pkey", "in one transaction, which a run never does"],
        ["kept of shop.posts", "writes rows elsewhere"],
      ], severity: .warning),
    RehearsalCase(
      name: "a trigger that hides a restored row again",
      damage: """
        \(function(
          "again",
          "IF OLD.visibility = 'hidden' THEN UPDATE shop.posts SET visibility = 'hidden' WHERE post_id = OLD.post_id; END IF"))
        CREATE TRIGGER again AFTER UPDATE ON shop.posts FOR EACH ROW
          WHEN (OLD.visibility IS DISTINCT FROM NEW.visibility) EXECUTE FUNCTION shop.again()
        """,
      says: [["protect shop.posts", "could not be restored", "again of shop.posts"]]),
    RehearsalCase(
      name: "a trigger that gives a hidden row another key",
      damage: """
        ALTER TABLE shop.media DROP CONSTRAINT media_post_id_fkey;
        \(function(
          "moved", "IF NEW.visibility = 'hidden' THEN NEW.post_id := OLD.post_id + 1000; END IF",
          returns: "NEW"))
        CREATE TRIGGER moved BEFORE UPDATE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.moved()
        """,
      says: [["protect shop.posts", "could not be restored", "moved of shop.posts"]]),
    RehearsalCase(
      name: "a trigger that restores another value",
      damage: """
        \(function(
          "other", "IF OLD.visibility = 'hidden' THEN NEW.visibility := 'limited'; END IF",
          returns: "NEW"))
        CREATE TRIGGER other BEFORE UPDATE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.other()
        """,
      says: [
        ["protect shop.posts", "could not be restored", "did not get its former values"]
      ],
      remedy: "allow Lethe's changes"),
    RehearsalCase(
      name: "a CHECK constraint on several columns",
      damage: """
        ALTER TABLE shop.posts ADD CONSTRAINT placed CHECK (visibility <> 'hidden' OR latitude IS NULL) NOT VALID
        """,
      says: [["protect shop.posts", "placed", "on another row it succeeded"]], severity: .warning,
      remedy: "values that the constraint allows"),
    RehearsalCase(
      name: "a deferred constraint trigger",
      damage: """
        \(function("last", "RAISE 'post % has to stay', OLD.text"))
        CREATE CONSTRAINT TRIGGER last AFTER DELETE ON shop.posts DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE FUNCTION shop.last()
        """,
      says: [["delete shop.posts", "shop.last raised an error", "last of shop.posts"]],
      remedy: "allow Lethe's changes"),
    RehearsalCase(
      name: "a statement-level trigger",
      damage: """
        \(function("never", "RAISE EXCEPTION 'no deletions'", returns: "NULL"))
        CREATE TRIGGER never BEFORE DELETE ON shop.media EXECUTE FUNCTION shop.never()
        """, says: [["delete shop.media", "never of shop.media"]]),
    RehearsalCase(
      name: "a trigger that skips the deletion",
      damage: """
        \(function("keep", "NULL", returns: "NULL"))
        CREATE TRIGGER keep BEFORE DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """, says: [["delete shop.posts", "the row is unchanged", "keep of shop.posts"]]),
    RehearsalCase(
      name: "a trigger that undoes the update",
      damage: """
        \(function("undo", "NEW.visibility := OLD.visibility", returns: "NEW"))
        CREATE TRIGGER undo BEFORE UPDATE OF visibility ON shop.posts
          FOR EACH ROW EXECUTE FUNCTION shop.undo()
        """, says: [["protect shop.posts", "the row is unchanged", "undo of shop.posts"]]),
    RehearsalCase(
      name: "a unique index on the updated column",
      damage: """
        CREATE UNIQUE INDEX one_hidden ON shop.posts (visibility) WHERE visibility = 'hidden';
        INSERT INTO shop.posts (post_id, visibility, text) VALUES (9, 'hidden', 'secret')
        """, says: [["protect shop.posts", "one_hidden"]]),
    RehearsalCase(
      name: "a CHECK constraint that calls a function",
      damage: """
        CREATE FUNCTION shop.is_known(word text) RETURNS boolean LANGUAGE plpgsql AS
          $$ BEGIN RETURN word <> 'hidden' OR current_setting('shop.x', true) = 'y'; END $$;
        ALTER TABLE shop.posts ADD CONSTRAINT known CHECK (shop.is_known(visibility) IS TRUE AND text <> 'x')
        """, says: [["protect shop.posts", "known"]]),
    RehearsalCase(
      name: "a trigger on one partition",
      damage: partitioned(
        by: "RANGE (post_id)",
        """
        CREATE TABLE shop.posts_1 PARTITION OF shop.posts FOR VALUES FROM (0) TO (3);
        CREATE TABLE shop.posts_2 PARTITION OF shop.posts FOR VALUES FROM (3) TO (100);
        """)
        + function("never", "RAISE EXCEPTION '%', OLD.text") + """
          CREATE TRIGGER never BEFORE DELETE ON shop.posts_2 FOR EACH ROW EXECUTE FUNCTION shop.never()
          """, says: [["delete shop.posts", "a row of shop.posts_2", "never of shop.posts_2"]]),
    RehearsalCase(
      name: "a CHECK constraint on a subpartition",
      damage: partitioned(
        by: "RANGE (post_id)",
        """
        CREATE TABLE shop.posts_1 PARTITION OF shop.posts FOR VALUES FROM (0) TO (100)
          PARTITION BY HASH (post_id);
        CREATE TABLE shop.posts_11 PARTITION OF shop.posts_1 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
        ALTER TABLE shop.posts_11 ADD CONSTRAINT placed CHECK (visibility <> 'hidden' OR latitude > 90) NOT VALID;
        """), says: [["protect shop.posts", "a row of shop.posts_11", "placed"]], severity: .warning
    ),
    RehearsalCase(
      name: "a CHECK constraint on an inheritance child",
      damage: """
        ALTER TABLE shop.media DROP CONSTRAINT media_post_id_fkey;
        CREATE TABLE shop.more (CONSTRAINT placed CHECK (visibility <> 'hidden' OR latitude > 90))
          INHERITS (shop.posts);
        CREATE INDEX ON shop.more (post_id);
        INSERT INTO shop.more (post_id, text, latitude) VALUES (21, 'secret', 5);
        ALTER TABLE shop.posts ALTER visibility DROP DEFAULT
        """, says: [["protect shop.posts", "a row of shop.more", "placed"]]),
    RehearsalCase(
      name: "no list partition for the new value",
      damage: partitioned(
        by: "LIST (visibility)",
        "CREATE TABLE shop.shown PARTITION OF shop.posts FOR VALUES IN ('shown', 'gone');"),
      says: [["no partition of shop.posts accepts", "visibility"]], remedy: "create a partition"),
    RehearsalCase(
      name: "no range partition for the new value",
      damage: partitioned(
        by: "RANGE (visibility)",
        "CREATE TABLE shop.shown PARTITION OF shop.posts FOR VALUES FROM ('n') TO ('t');"),
      says: [["no partition of shop.posts accepts", "visibility"]]),
    RehearsalCase(
      name: "no partition for the new value of a key expression",
      damage: partitioned(
        by: "LIST (upper(visibility))",
        "CREATE TABLE shop.shown PARTITION OF shop.posts FOR VALUES IN ('SHOWN');"),
      says: [["protect shop.posts", "no partition of relation"]], remedy: "create a partition"),
    RehearsalCase(
      name: "no subpartition for the new value",
      damage: partitioned(
        by: "RANGE (post_id)",
        """
        CREATE TABLE shop.posts_1 PARTITION OF shop.posts FOR VALUES FROM (0) TO (100)
          PARTITION BY LIST (visibility);
        CREATE TABLE shop.posts_11 PARTITION OF shop.posts_1 FOR VALUES IN ('shown');
        """), says: [["protect shop.posts", "no partition of relation"]],
      remedy: "create a partition"
    ),
    RehearsalCase(
      name: "a trigger on the partition that the row moves to",
      damage: partitioned(
        by: "LIST (visibility)",
        """
        CREATE TABLE shop.shown PARTITION OF shop.posts FOR VALUES IN ('shown');
        CREATE TABLE shop.hidden PARTITION OF shop.posts FOR VALUES IN ('hidden');
        """) + function("never", "RAISE EXCEPTION 'full'") + """
          CREATE TRIGGER never BEFORE INSERT ON shop.hidden FOR EACH ROW EXECUTE FUNCTION shop.never()
          """, says: [["protect shop.posts", "a row of shop.shown"]],
      notes: emptyNotes("1 of 2 parts", "shop.hidden")),
    RehearsalCase(
      name: "a trigger that refuses one of several rows",
      damage: never("OLD.post_id = 3") + """
        CREATE TRIGGER never BEFORE DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.never()
        """, says: [["delete shop.posts", "never of shop.posts", "on another row it succeeded"]],
      severity: .warning, remedy: "set aside"),
    RehearsalCase(
      name: "a row that the where condition excludes",
      damage: never("OLD.post_id = 3") + """
        CREATE TRIGGER never BEFORE DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.never()
        """, edits: [("    id: post_id\n", "    id: post_id\n    where: post_id <> 3 -- held\n")]),
    RehearsalCase(
      name: "a JSON document that cannot be read",
      damage: #"""
        ALTER TABLE shop.posts ALTER raw DROP DEFAULT, ALTER raw TYPE json USING raw::text::json;
        UPDATE shop.posts SET raw = '{"geo": "\u0000"}' WHERE post_id = 1
        """#),
    RehearsalCase(
      name: "a trigger that undoes the update of a row with a composite key",
      damage: partitioned(
        by: "RANGE (ingested_at)",
        """
        CREATE TABLE shop.posts_1 PARTITION OF shop.posts FOR VALUES FROM ('2025-01-01') TO ('2027-01-01');
        ALTER TABLE shop.posts ADD PRIMARY KEY (post_id, ingested_at);
        """) + function("undo", "NEW.visibility := OLD.visibility", returns: "NEW") + """
          CREATE TRIGGER undo BEFORE UPDATE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.undo()
          """, says: [["protect shop.posts", "the row is unchanged", "undo of shop.posts"]]),
    RehearsalCase(
      name: "a trigger that inserts rows into a target",
      damage: """
        CREATE TABLE shop.past (id bigint, post_id bigint); CREATE INDEX ON shop.past (post_id);
        \(function("keep", "INSERT INTO shop.past VALUES (1, OLD.post_id)"))
        CREATE TRIGGER keep BEFORE DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """, says: [["a trigger writes rows into shop.past", "each event would be refused"]],
      notes: [["delete shop.past was not rehearsed"]], remedy: "a dataset of its own",
      edits: [
        (
          "    targets:\n",
          "    targets:\n      - {table: shop.past, match: post_id, actions: {deleted: delete, bounced: delete}}\n"
        )
      ]),
  ]

  /// The notes about parts of a table that have no rows.
  private static func emptyNotes(_ parts: String...) -> [[String]] {
    [
      ["delete shop.posts"] + parts, ["protect shop.posts"] + parts,
      ["scrub_geo shop.posts"] + parts,
      ["redact shop.posts"] + parts,
    ]
  }

  // MARK: Copied

  private static let past = "CREATE TABLE shop.past (id bigint, text text);"

  static let copied: [RehearsalCase] = [
    RehearsalCase(
      name: "an INSERT in the text of the function",
      damage: past + function("keep", "INSERT INTO shop.past VALUES (OLD.post_id, OLD.text)") + """
        CREATE TRIGGER keep AFTER DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """, says: [["shop.past gets copies", "keep of shop.posts"]]),
    RehearsalCase(
      name: "an INSERT in dynamic SQL",
      damage: past
        + function(
          "keep",
          "EXECUTE 'INS' || 'ERT INTO shop.past VALUES ($1, $2)' USING OLD.post_id, OLD.text")
          + """
          CREATE TRIGGER keep BEFORE DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep()
          """, says: [["shop.past gets copies", "keep of shop.posts"]]),
    RehearsalCase(
      name: "an INSERT into a view, by a function that the trigger calls",
      damage: past + """
        CREATE VIEW shop.window AS SELECT * FROM shop.past;
        CREATE FUNCTION shop.put(id bigint, url text) RETURNS void LANGUAGE sql AS
          'INSERT INTO shop.window VALUES ($1, $2)';
        \(function("keep", "PERFORM shop.put(OLD.media_id, OLD.url)"))
        CREATE TRIGGER keep BEFORE DELETE ON shop.media FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """, says: [["shop.past gets copies", "keep of shop.media"]]),
    RehearsalCase(
      name: "a statement-level trigger with a transition table",
      damage: past + """
        CREATE FUNCTION shop.keep() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN EXECUTE 'INS' || 'ERT INTO shop.past SELECT media_id, url FROM gone'; RETURN NULL; END $$;
        CREATE TRIGGER keep AFTER DELETE ON shop.media REFERENCING OLD TABLE AS gone
          FOR EACH STATEMENT EXECUTE FUNCTION shop.keep()
        """, says: [["shop.past gets copies", "keep of shop.media"]]),
    RehearsalCase(
      name: "copies of former values in a partitioned table",
      damage: """
        CREATE TABLE shop.past (id bigint, text text) PARTITION BY RANGE (id);
        CREATE TABLE shop.past_1 PARTITION OF shop.past FOR VALUES FROM (0) TO (100);
        \(function(
          "keep", "EXECUTE 'INS' || 'ERT INTO shop.past VALUES ($1, $2)' USING OLD.post_id, OLD.text"))
        CREATE TRIGGER keep AFTER UPDATE OF text ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """, says: [["shop.past_1 gets copies", "redact shop.posts", "keep of shop.posts"]]),
    RehearsalCase(
      name: "a trigger on the parent of a partition",
      damage: past + """
        ALTER TABLE shop.media DROP CONSTRAINT media_post_id_fkey;
        CREATE TABLE shop.whole (LIKE shop.posts) PARTITION BY RANGE (post_id);
        ALTER TABLE shop.whole ATTACH PARTITION shop.posts FOR VALUES FROM (0) TO (100);
        \(function("keep", "INSERT INTO shop.past VALUES (OLD.post_id, OLD.text)"))
        CREATE TRIGGER keep AFTER DELETE ON shop.whole FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """, says: [["shop.past gets copies", "keep of shop.posts"]]),
    RehearsalCase(
      name: "a statement-level trigger on a partition, which never fires",
      damage: past
        + partitioned(
          by: "RANGE (post_id)",
          "CREATE TABLE shop.posts_1 PARTITION OF shop.posts FOR VALUES FROM (0) TO (100);")
        + function("keep", "INSERT INTO shop.past VALUES (1)", returns: "NULL") + """
          CREATE TRIGGER keep AFTER DELETE ON shop.posts_1 EXECUTE FUNCTION shop.keep()
          """),
    RehearsalCase(
      name: "a trigger that fires only on INSERT",
      damage: past + function("keep", "INSERT INTO shop.past VALUES (1)", returns: "NEW") + """
        CREATE TRIGGER keep AFTER INSERT ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """),
    RehearsalCase(
      name: "copies of a row that is only hidden",
      damage: past
        + function(
          "keep", "EXECUTE 'INS' || 'ERT INTO shop.past VALUES ($1)' USING OLD.post_id",
          returns: "NEW") + """
          CREATE TRIGGER keep AFTER UPDATE OF visibility ON shop.posts
            FOR EACH ROW EXECUTE FUNCTION shop.keep()
          """),
    RehearsalCase(
      name: "a trigger that counts",
      damage: "CREATE TABLE shop.counter AS SELECT 4 AS n;"
        + function("count", "UPDATE shop.counter SET n = n - 1") + """
          CREATE TRIGGER count AFTER DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.count()
          """, notes: [["delete shop.posts fires triggers that change rows of shop.counter"]]),
    RehearsalCase(
      name: "a disabled trigger",
      damage: past + function("keep", "INSERT INTO shop.past VALUES (OLD.post_id, OLD.text)") + """
        CREATE TRIGGER keep AFTER DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep();
        ALTER TABLE shop.posts DISABLE TRIGGER keep
        """),
  ].map {
    var each = $0
    each.severity = .warning
    return each
  }

  // MARK: Noted

  static let noted: [RehearsalCase] = [
    RehearsalCase(name: "nothing is wrong", damage: ""),
    RehearsalCase(
      name: "nothing is wrong for a role with only the necessary privileges", damage: "",
      isPlainRole: true),
    RehearsalCase(
      name: "no rows", damage: "TRUNCATE shop.media, shop.posts",
      notes: emptyNotes("no row") + [["delete shop.media was not rehearsed"]]),
    RehearsalCase(
      name: "some partitions are empty",
      damage: partitioned(
        by: "RANGE (post_id)",
        """
        CREATE TABLE shop.posts_1 PARTITION OF shop.posts FOR VALUES FROM (0) TO (3);
        CREATE TABLE shop.posts_2 PARTITION OF shop.posts FOR VALUES FROM (3) TO (9);
        CREATE TABLE shop.posts_3 PARTITION OF shop.posts FOR VALUES FROM (9) TO (20);
        CREATE TABLE shop.posts_4 PARTITION OF shop.posts FOR VALUES FROM (20) TO (30);
        """), notes: emptyNotes("2 of 4 parts", "shop.posts_3, shop.posts_4")),
    RehearsalCase(
      name: "a trigger that moves the row",
      damage: partitioned(
        by: "LIST (region)",
        """
        CREATE TABLE shop.posts_a PARTITION OF shop.posts FOR VALUES IN ('a');
        CREATE TABLE shop.posts_b PARTITION OF shop.posts FOR VALUES IN ('b');
        """) + function("move", "NEW.region := 'b'", returns: "NEW") + """
          CREATE TRIGGER move BEFORE UPDATE OF visibility ON shop.posts
            FOR EACH ROW EXECUTE FUNCTION shop.move()
          """, notes: emptyNotes("1 of 2 parts", "shop.posts_b")),
    RehearsalCase(
      name: "each post has media", damage: "DELETE FROM shop.posts WHERE post_id IN (3, 4)",
      notes: [["delete shop.posts was not rehearsed", "no row that nothing refers to"]]),
    RehearsalCase(
      name: "a foreign key with ON DELETE SET NULL",
      damage: """
        CREATE TABLE shop.likes (post_id bigint REFERENCES shop.posts ON DELETE SET NULL);
        CREATE INDEX ON shop.likes (post_id);
        INSERT INTO shop.likes VALUES (3)
        """, notes: [["shop.likes", "was not rehearsed", "likes_post_id_fkey"]]),
    RehearsalCase(
      name: "a foreign key with ON DELETE CASCADE from an unreadable table",
      damage: """
        CREATE TABLE shop.likes (post_id bigint REFERENCES shop.posts ON DELETE CASCADE);
        CREATE INDEX ON shop.likes (post_id);
        INSERT INTO shop.likes VALUES (3), (4)
        """,
      notes: [
        ["delete shop.posts was not rehearsed", "rows of shop.likes, which Lethe may not read"],
        ["shop.likes", "was not rehearsed", "likes_post_id_fkey"],
      ], isPlainRole: true),
    RehearsalCase(
      name: "all rows are already hidden", damage: "UPDATE shop.posts SET visibility = 'hidden'",
      notes: [["protect shop.posts was not rehearsed", "no row to change"]]),
    RehearsalCase(
      name: "an event trigger that allows the command",
      damage: """
        CREATE FUNCTION shop.list() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
        CREATE EVENT TRIGGER list ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP VIEW')
          EXECUTE FUNCTION shop.list()
        """, notes: [["the event trigger list fires on Lethe's CREATE TABLE"]]),
    RehearsalCase(
      name: "a disabled event trigger",
      damage: """
        CREATE FUNCTION shop.never() RETURNS event_trigger LANGUAGE plpgsql AS
          $$ BEGIN RAISE EXCEPTION 'no'; END $$;
        CREATE EVENT TRIGGER never ON ddl_command_start EXECUTE FUNCTION shop.never();
        ALTER EVENT TRIGGER never DISABLE
        """),
    RehearsalCase(
      name: "an event trigger on other commands",
      damage: """
        CREATE FUNCTION shop.never() RETURNS event_trigger LANGUAGE plpgsql AS
          $$ BEGIN RAISE EXCEPTION 'no'; END $$;
        CREATE EVENT TRIGGER never ON ddl_command_start WHEN TAG IN ('CREATE VIEW')
          EXECUTE FUNCTION shop.never()
        """),
  ]

  static let eventTriggers: [RehearsalCase] = [
    ("ddl_command_start", "", ["Lethe's CREATE TABLE", "shop.never raised an error", "never"]),
    ("ddl_command_end", "WHEN TAG IN ('CREATE TABLE')", ["Lethe's CREATE TABLE", "never"]),
    ("ddl_command_start", "WHEN TAG IN ('ALTER TABLE')", ["ALTER TABLE is refused", "never"]),
  ].map { event, tags, says in
    RehearsalCase(
      name: "an event trigger on \(event) \(tags)",
      damage: """
        CREATE FUNCTION shop.never() RETURNS event_trigger LANGUAGE plpgsql AS
          $$ BEGIN RAISE EXCEPTION 'not here'; END $$;
        CREATE EVENT TRIGGER never ON \(event) \(tags) EXECUTE FUNCTION shop.never()
        """, says: [says], remedy: "in the schema lethe")
  }
}
