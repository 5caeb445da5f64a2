import TestFiles
import Testing
import Warehouse

/// A change to the tables of the rehearsal tests, and the findings that the check reports.
struct RehearsalCase: Sendable, CustomTestStringConvertible {
  let name: String
  /// The SQL that changes the tables before the check.
  let setupSQL: String
  /// Parts of the message of each finding that is not a note.
  var messageParts: [[String]] = []
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

  /// The value of `restore` in the definition. `former` needs a key that all partitions and child tables have and that
  /// `protect` does not change. The partitioned and inherited tables of these tests have no such key.
  private var restore: String {
    setupSQL.contains("PARTITION BY") || setupSQL.contains("INHERITS") ? "none" : "former"
  }

  /// Replacements in the definition: the old text and the new text.
  var edits: [(String, String)] = []

  var definition: String {
    edits.reduce(Self.definition.editing("restore: former", to: "restore: \(restore)")) {
      $0.editing($1.0, to: $1.1)
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

  static func function(_ name: String, _ body: String, returns row: String = "OLD")
    -> String
  {
    """
    CREATE FUNCTION shop.\(name)() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN \(body); RETURN \(row); END $$;

    """
  }

  static func never(_ condition: String) -> String {
    function("never", "IF \(condition) THEN RAISE 'not this one: %', OLD.text; END IF")
  }

  static func partitioned(by key: String, _ partitions: String) -> String {
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
      setupSQL: """
        CREATE TABLE shop.audit (id bigint);
        \(function("note", "INSERT INTO shop.audit VALUES (OLD.post_id)"))
        CREATE TRIGGER note AFTER DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.note()
        """,
      messageParts: [
        ["delete shop.posts", "permission denied for table audit", "note of shop.posts"]
      ],
      remedy: "SECURITY DEFINER", isPlainRole: true),
    RehearsalCase(
      name: "a trigger that calls a function without the EXECUTE privilege",
      setupSQL: """
        CREATE FUNCTION shop.inner() RETURNS void LANGUAGE sql AS 'SELECT';
        REVOKE EXECUTE ON FUNCTION shop.inner() FROM PUBLIC;
        \(function("note", "PERFORM shop.inner()"))
        CREATE TRIGGER note BEFORE DELETE ON shop.media FOR EACH ROW EXECUTE FUNCTION shop.note()
        """,
      messageParts: [
        [
          "delete shop.media", "permission denied for function inner", "SQLSTATE 42501",
          "note of shop.media",
        ]
      ], isPlainRole: true),
    RehearsalCase(
      name: "a trigger that raises an error when a hidden row is restored",
      setupSQL: """
        \(function("once", "IF OLD.visibility = 'hidden' THEN RAISE 'never'; END IF", returns: "NEW"))
        CREATE TRIGGER once BEFORE UPDATE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.once()
        """,
      messageParts: [
        ["protect shop.posts", "could not be restored", "shop.once", "once of shop.posts"]
      ]),
    RehearsalCase(
      name: "a trigger that skips the restore of a hidden row",
      setupSQL: """
        \(function("once", "IF OLD.visibility = 'hidden' THEN RETURN NULL; END IF", returns: "NEW"))
        CREATE TRIGGER once BEFORE UPDATE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.once()
        """,
      messageParts: [["protect shop.posts", "could not be restored", "once of shop.posts"]]),
    RehearsalCase(
      name: "a history table with the time in its key",
      setupSQL: """
        CREATE TABLE shop.history (id bigint, at timestamptz DEFAULT now(), PRIMARY KEY (id, at));
        \(function("kept", "INSERT INTO shop.history VALUES (OLD.post_id)"))
        CREATE TRIGGER kept AFTER UPDATE OF visibility ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.kept()
        """,
      messageParts: [
        ["protect shop.posts", "history_pkey", "in one transaction, but a run uses two"],
        ["kept of shop.posts", "writes rows elsewhere"],
      ], severity: .warning),
    RehearsalCase(
      name: "a trigger that hides a restored row again",
      setupSQL: """
        \(function(
          "again",
          "IF OLD.visibility = 'hidden' THEN UPDATE shop.posts SET visibility = 'hidden' WHERE post_id = OLD.post_id; END IF"))
        CREATE TRIGGER again AFTER UPDATE ON shop.posts FOR EACH ROW
          WHEN (OLD.visibility IS DISTINCT FROM NEW.visibility) EXECUTE FUNCTION shop.again()
        """,
      messageParts: [["protect shop.posts", "could not be restored", "again of shop.posts"]]),
    RehearsalCase(
      name: "a trigger that gives a hidden row another key",
      setupSQL: """
        ALTER TABLE shop.media DROP CONSTRAINT media_post_id_fkey;
        \(function(
          "moved", "IF NEW.visibility = 'hidden' THEN NEW.post_id := OLD.post_id + 1000; END IF",
          returns: "NEW"))
        CREATE TRIGGER moved BEFORE UPDATE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.moved()
        """,
      messageParts: [["protect shop.posts", "could not be restored", "moved of shop.posts"]]),
    RehearsalCase(
      name: "a trigger that restores another value",
      setupSQL: """
        \(function(
          "other", "IF OLD.visibility = 'hidden' THEN NEW.visibility := 'limited'; END IF",
          returns: "NEW"))
        CREATE TRIGGER other BEFORE UPDATE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.other()
        """,
      messageParts: [
        ["protect shop.posts", "could not be restored", "did not get its former values"]
      ],
      remedy: "allow Lethe's changes"),
    RehearsalCase(
      name: "a CHECK constraint on several columns",
      setupSQL: """
        ALTER TABLE shop.posts ADD CONSTRAINT placed CHECK (visibility <> 'hidden' OR latitude IS NULL) NOT VALID
        """,
      messageParts: [["protect shop.posts", "placed", "on another row it succeeded"]],
      severity: .warning,
      remedy: "values that the constraint allows"),
    RehearsalCase(
      name: "a deferred constraint trigger",
      setupSQL: """
        \(function("last", "RAISE 'post % has to stay', OLD.text"))
        CREATE CONSTRAINT TRIGGER last AFTER DELETE ON shop.posts DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE FUNCTION shop.last()
        """,
      messageParts: [["delete shop.posts", "shop.last raised an error", "last of shop.posts"]],
      remedy: "allow Lethe's changes"),
    RehearsalCase(
      name: "a statement-level trigger",
      setupSQL: """
        \(function("never", "RAISE EXCEPTION 'no deletions'", returns: "NULL"))
        CREATE TRIGGER never BEFORE DELETE ON shop.media EXECUTE FUNCTION shop.never()
        """, messageParts: [["delete shop.media", "never of shop.media"]]),
    RehearsalCase(
      name: "a trigger that skips the deletion",
      setupSQL: """
        \(function("keep", "NULL", returns: "NULL"))
        CREATE TRIGGER keep BEFORE DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """, messageParts: [["delete shop.posts", "the row is unchanged", "keep of shop.posts"]]),
    RehearsalCase(
      name: "a trigger that undoes the update",
      setupSQL: """
        \(function("undo", "NEW.visibility := OLD.visibility", returns: "NEW"))
        CREATE TRIGGER undo BEFORE UPDATE OF visibility ON shop.posts
          FOR EACH ROW EXECUTE FUNCTION shop.undo()
        """, messageParts: [["protect shop.posts", "the row is unchanged", "undo of shop.posts"]]),
    RehearsalCase(
      name: "a unique index on the updated column",
      setupSQL: """
        CREATE UNIQUE INDEX one_hidden ON shop.posts (visibility) WHERE visibility = 'hidden';
        INSERT INTO shop.posts (post_id, visibility, text) VALUES (9, 'hidden', 'secret')
        """, messageParts: [["protect shop.posts", "one_hidden"]]),
    RehearsalCase(
      name: "a CHECK constraint that calls a function",
      setupSQL: """
        CREATE FUNCTION shop.is_known(word text) RETURNS boolean LANGUAGE plpgsql AS
          $$ BEGIN RETURN word <> 'hidden' OR current_setting('shop.x', true) = 'y'; END $$;
        ALTER TABLE shop.posts ADD CONSTRAINT known CHECK (shop.is_known(visibility) IS TRUE AND text <> 'x')
        """, messageParts: [["protect shop.posts", "known"]]),
    RehearsalCase(
      name: "a trigger on one partition",
      setupSQL: partitioned(
        by: "RANGE (post_id)",
        """
        CREATE TABLE shop.posts_1 PARTITION OF shop.posts FOR VALUES FROM (0) TO (3);
        CREATE TABLE shop.posts_2 PARTITION OF shop.posts FOR VALUES FROM (3) TO (100);
        """)
        + function("never", "RAISE EXCEPTION '%', OLD.text") + """
          CREATE TRIGGER never BEFORE DELETE ON shop.posts_2 FOR EACH ROW EXECUTE FUNCTION shop.never()
          """,
      messageParts: [["delete shop.posts", "a row of shop.posts_2", "never of shop.posts_2"]]),
    RehearsalCase(
      name: "a CHECK constraint on a subpartition",
      setupSQL: partitioned(
        by: "RANGE (post_id)",
        """
        CREATE TABLE shop.posts_1 PARTITION OF shop.posts FOR VALUES FROM (0) TO (100)
          PARTITION BY HASH (post_id);
        CREATE TABLE shop.posts_11 PARTITION OF shop.posts_1 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
        ALTER TABLE shop.posts_11 ADD CONSTRAINT placed CHECK (visibility <> 'hidden' OR latitude > 90) NOT VALID;
        """), messageParts: [["protect shop.posts", "a row of shop.posts_11", "placed"]],
      severity: .warning
    ),
    RehearsalCase(
      name: "a CHECK constraint on an inheritance child",
      setupSQL: """
        ALTER TABLE shop.media DROP CONSTRAINT media_post_id_fkey;
        CREATE TABLE shop.more (CONSTRAINT placed CHECK (visibility <> 'hidden' OR latitude > 90))
          INHERITS (shop.posts);
        CREATE INDEX ON shop.more (post_id);
        INSERT INTO shop.more (post_id, text, latitude) VALUES (21, 'secret', 5);
        ALTER TABLE shop.posts ALTER visibility DROP DEFAULT
        """, messageParts: [["protect shop.posts", "a row of shop.more", "placed"]]),
    RehearsalCase(
      name: "no list partition for the new value",
      setupSQL: partitioned(
        by: "LIST (visibility)",
        "CREATE TABLE shop.shown PARTITION OF shop.posts FOR VALUES IN ('shown', 'gone');"),
      messageParts: [["no partition of shop.posts accepts", "visibility"]],
      remedy: "create a partition"),
    RehearsalCase(
      name: "no range partition for the new value",
      setupSQL: partitioned(
        by: "RANGE (visibility)",
        "CREATE TABLE shop.shown PARTITION OF shop.posts FOR VALUES FROM ('n') TO ('t');"),
      messageParts: [["no partition of shop.posts accepts", "visibility"]]),
    RehearsalCase(
      name: "no partition for the new value of a key expression",
      setupSQL: partitioned(
        by: "LIST (upper(visibility))",
        "CREATE TABLE shop.shown PARTITION OF shop.posts FOR VALUES IN ('SHOWN');"),
      messageParts: [["protect shop.posts", "no partition of relation"]],
      remedy: "create a partition"),
    RehearsalCase(
      name: "no subpartition for the new value",
      setupSQL: partitioned(
        by: "RANGE (post_id)",
        """
        CREATE TABLE shop.posts_1 PARTITION OF shop.posts FOR VALUES FROM (0) TO (100)
          PARTITION BY LIST (visibility);
        CREATE TABLE shop.posts_11 PARTITION OF shop.posts_1 FOR VALUES IN ('shown');
        """), messageParts: [["protect shop.posts", "no partition of relation"]],
      remedy: "create a partition"
    ),
    RehearsalCase(
      name: "a trigger on the partition that the row moves to",
      setupSQL: partitioned(
        by: "LIST (visibility)",
        """
        CREATE TABLE shop.shown PARTITION OF shop.posts FOR VALUES IN ('shown');
        CREATE TABLE shop.hidden PARTITION OF shop.posts FOR VALUES IN ('hidden');
        """) + function("never", "RAISE EXCEPTION 'full'") + """
          CREATE TRIGGER never BEFORE INSERT ON shop.hidden FOR EACH ROW EXECUTE FUNCTION shop.never()
          """, messageParts: [["protect shop.posts", "a row of shop.shown"]],
      notes: emptyNotes("1 of 2 parts", "shop.hidden")),
    RehearsalCase(
      name: "a trigger that raises an error for one of several rows",
      setupSQL: never("OLD.post_id = 3") + """
        CREATE TRIGGER never BEFORE DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.never()
        """,
      messageParts: [["delete shop.posts", "never of shop.posts", "on another row it succeeded"]],
      severity: .warning, remedy: "set aside"),
    RehearsalCase(
      name: "a row that the where condition excludes",
      setupSQL: never("OLD.post_id = 3") + """
        CREATE TRIGGER never BEFORE DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.never()
        """, edits: [("    id: post_id\n", "    id: post_id\n    where: post_id <> 3 -- held\n")]),
    RehearsalCase(
      name: "a JSON document that cannot be read",
      setupSQL: #"""
        ALTER TABLE shop.posts ALTER raw DROP DEFAULT, ALTER raw TYPE json USING raw::text::json;
        UPDATE shop.posts SET raw = '{"geo": "\u0000"}' WHERE post_id = 1
        """#),
    RehearsalCase(
      name: "a trigger that undoes the update of a row with a composite key",
      setupSQL: partitioned(
        by: "RANGE (ingested_at)",
        """
        CREATE TABLE shop.posts_1 PARTITION OF shop.posts FOR VALUES FROM ('2025-01-01') TO ('2027-01-01');
        ALTER TABLE shop.posts ADD PRIMARY KEY (post_id, ingested_at);
        """) + function("undo", "NEW.visibility := OLD.visibility", returns: "NEW") + """
          CREATE TRIGGER undo BEFORE UPDATE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.undo()
          """, messageParts: [["protect shop.posts", "the row is unchanged", "undo of shop.posts"]]),
    RehearsalCase(
      name: "a trigger that inserts rows into a target",
      setupSQL: """
        CREATE TABLE shop.past (id bigint, post_id bigint); CREATE INDEX ON shop.past (post_id);
        \(function("keep", "INSERT INTO shop.past VALUES (1, OLD.post_id)"))
        CREATE TRIGGER keep BEFORE DELETE ON shop.posts FOR EACH ROW EXECUTE FUNCTION shop.keep()
        """,
      messageParts: [["a trigger writes rows into shop.past", "each event would be refused"]],
      notes: [["delete shop.past was not rehearsed"]], remedy: "a dataset of its own",
      edits: [
        (
          "    targets:\n",
          "    targets:\n      - {table: shop.past, match: post_id, actions: {deleted: delete, bounced: delete}}\n"
        )
      ]),
  ]
}
