import Definitions
import Evidence
import Foundation
import Ledger
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// An event that the warehouse refuses is set aside, and everything else is applied.
@Suite struct RefusalTests {
  /// Returns a script that creates a table with a foreign key to the posts. The definition does not declare the table.
  private static func bookmarking(_ posts: Int64...) -> String {
    """
    CREATE TABLE public.bookmarks (post_id bigint CONSTRAINT bookmarked REFERENCES warehouse.posts);
    INSERT INTO public.bookmarks SELECT unnest('{\(posts.map(String.init).joined(separator: ","))}'::bigint[]);
    """
  }

  @Test func aRefusedPostIsSetAsideInEachRunAndEverythingElseIsApplied() async throws {
    try await RefusalFixture.with { fixture in
      try await fixture.base.execute(SQL(trusted: Self.bookmarking(4)))
      let file = try fixture.file()
      for run in 1...3 {
        let result = try await fixture.lethe("run", file, "--output", "json")
        #expect(result.code == 5, "\(result.stderr)")
        #expect(result.json["run_id"] as? Int == run)
        let refused = try #require(result.json["refused"] as? [[String: Any]])
        #expect(refused.compactMap { $0["id"] as? String } == ["4"])
        #expect((refused.first?["why"] as? String)?.contains("bookmarked") == true)
        #expect((refused.first?["command"] as? String) == "lethe retry \(file) --id 4")
        let error = try #require(result.json["error"] as? [String: Any])
        #expect(error["code"] as? String == "set_aside")
        #expect(try await fixture.unfinishedPosts() == [4])
        #expect(try await fixture.usersLeft() == "1008 protected")
        #expect(try await fixture.damagedPosts() == 0)
      }
      // Each run's refusal replaces the refusal of the run before it.
      let open: SQL = "SELECT count(*) FROM lethe.refusal WHERE resolved_at IS NULL"
      #expect(try await fixture.base.value(open, as: Int.self) == 1)
      let status = try await fixture.lethe("status")
      #expect(status.stdout.contains("lethe retry \(file) --id 4"), "\(status.stdout)")
      #expect(status.stdout.contains("bookmarked"))
      #expect(!status.stdout.contains("as intended"))

      let refusedAgain = try await fixture.lethe("retry", file, "--id", "4", "--output", "json")
      #expect(refusedAgain.code == 5, "\(refusedAgain.stderr)")
      #expect(try await fixture.base.value(open, as: Int.self) == 1)
      try await fixture.base.execute("DELETE FROM public.bookmarks")
      let retried = try await fixture.lethe("retry", file, "--id", "4", "--output", "json")
      #expect(retried.code == 0, "\(retried.stderr)")
      #expect(try await fixture.unfinishedPosts() == [])
      #expect(try await fixture.base.ledgerFaults() == [])
      #expect(try await fixture.lethe("audit", "verify").code == 0)
      let history = try await fixture.lethe("audit", "show", "4")
      #expect(history.stdout.contains("refused") && history.stdout.contains("bookmarked"))
      #expect(try await fixture.lethe("retry", file, "--id", "4").code == 1)
    }
  }

  /// A trigger can refuse thousands of events. The log has one line for the cause, with a few of the events' IDs.
  @Test func refusalsWithTheSameCauseAreOneLogLine() async throws {
    try await RefusalFixture.with { fixture in
      try await fixture.base.execute(
        """
        CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN RAISE 'none of them'; END $$;
        \(Self.beforeDelete)
        """)
      let result = try await fixture.lethe("run", try fixture.file(batch: "batch: 100", ids: 100))
      #expect(result.code == 5, "\(result.stderr)")
      let lines = result.stderr.split(separator: "\n").filter {
        $0.contains("refused and set aside")
      }
      #expect(lines.count == 1, "\(result.stderr)")
      let line = String(lines.first ?? "")
      #expect(line.contains(/IDs (\d+, ){4}\d+ and 7 more \(see lethe status\) are/), "\(line)")
      let status = try await fixture.lethe("status", "--output", "json")
      #expect((status.json["refused"] as? [Any])?.count == 12)
    }
  }

  /// The post's own row is deleted, so the second run's job does not ask about the post. The refusal to delete the
  /// post's media stays open, and can be retried.
  @Test func aJobThatDidNotAskAboutAnIDEndsNoRefusal() async throws {
    try await RefusalFixture.with { fixture in
      try await fixture.base.execute(
        """
        ALTER TABLE warehouse.post_media DROP CONSTRAINT post_media_post_id_fkey;
        INSERT INTO warehouse.post_media VALUES (4, 'key', 'url');
        CREATE TABLE public.albums (post_id bigint, media_key text, FOREIGN KEY (post_id, media_key)
          REFERENCES warehouse.post_media);
        INSERT INTO public.albums VALUES (4, 'key')
        """)
      let file = try fixture.file(ids: 1000)
      #expect(try await fixture.lethe("run", file).code == 5)
      try await fixture.base.execute("DELETE FROM warehouse.posts WHERE post_id = 4")
      #expect(try await fixture.lethe("run", file).code == 0)
      let open: SQL = "SELECT count(*) FROM lethe.refusal WHERE resolved_at IS NULL AND id = 4"
      #expect(try await fixture.base.value(open, as: Int.self) == 1)
      try await fixture.base.execute("DELETE FROM public.albums")
      let retried = try await fixture.lethe("retry", file, "--id", "4")
      #expect(retried.code == 0, "\(retried.stderr)")
      let left: SQL = "SELECT count(*) FROM warehouse.post_media WHERE post_id = 4"
      #expect(try await fixture.base.value(left, as: Int.self) == 0)
    }
  }

  @Test func refusalsThatARetryDidNotIncludeAreCounted() async throws {
    try await RefusalFixture.with { fixture in
      try await fixture.base.execute(SQL(trusted: Self.bookmarking(4, 20, 28)))
      let file = try fixture.file()
      #expect(try await fixture.lethe("run", file).code == 5)
      try await fixture.base.execute("DELETE FROM public.bookmarks WHERE post_id = 4")
      let result = try await fixture.lethe("retry", file, "--id", "4", "--output", "json")
      #expect(result.code == 0, "\(result.stderr)")
      let run = try #require((result.json["runs"] as? [[String: Any]])?.last)
      #expect(run["others_left"] as? Int == 2, "\(result.stdout)")
      try await fixture.base.execute("DELETE FROM public.bookmarks WHERE post_id = 20")
      let text = try await fixture.lethe("retry", file, "--id", "20").stdout
      #expect(text.contains("1 other chunks or events of the run still wait"), "\(text)")
      try await fixture.base.execute("DELETE FROM public.bookmarks")
      #expect(
        try await !fixture.lethe("retry", file, "--id", "28").stdout.contains("still wait"))
    }
  }

  @Test func aChunkThatIsAppliedAsAWholeIsSetAsideAsAWhole() async throws {
    try await RefusalFixture.with { fixture in
      try await fixture.base.execute(SQL(trusted: Self.bookmarking(4)))
      let file = try fixture.file(batch: "atomic: chunk")
      for _ in 1...2 {
        let result = try await fixture.lethe("run", file, "--output", "json")
        #expect(result.code == 5, "\(result.stderr)")
        let setAside = try #require(result.json["set_aside"] as? [[String: Any]])
        #expect(setAside.count == 1)
        #expect((setAside[0]["reason"] as? String)?.contains("bookmarked") == true)
        #expect(setAside[0]["is_retryable"] as? Bool == true)
        #expect((setAside[0]["remedy"] as? String)?.contains("public.bookmarks") == true)
        #expect(try await fixture.unfinishedPosts() == [4, 8])
        #expect(try await fixture.usersLeft() == "1008 protected")
      }
      let status = try await fixture.lethe("status", "--output", "json")
      let named = try #require(status.json["set_aside"] as? [[String: Any]])
      #expect(named.count == 1, "\(named)")
      let chunk = try #require(named.first?["chunk_id"] as? Int)
      #expect(named.first?["command"] as? String == "lethe retry \(file) \(chunk)")
      #expect(try await fixture.lethe("retry", file, "\(chunk)").code == 5)
      try await fixture.base.execute("DELETE FROM public.bookmarks")
      let retried = try await fixture.lethe("retry", file, "\(chunk)")
      #expect(retried.code == 0, "\(retried.stderr)")
      #expect(try await fixture.unfinishedPosts() == [])
      #expect(try await fixture.lethe("audit", "verify").code == 0)
    }
  }

  /// A cause for which the warehouse refuses one event: the script that creates it, and the script that removes it.
  struct Kind: Sendable, CustomTestStringConvertible {
    let name: String
    let id: Int64
    let cause: SQL
    let fix: SQL
    let message: String
    var testDescription: String { name }
  }

  private static func trigger(_ id: Int64, _ body: String, _ end: String = "RETURN OLD") -> SQL {
    """
    CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN IF OLD.post_id = \(literal: id) THEN \(trusted: body); END IF; \(trusted: end); END $$;
    """
  }

  private static let beforeDelete: SQL = """
    CREATE TRIGGER stop BEFORE DELETE ON warehouse.posts FOR EACH ROW EXECUTE FUNCTION public.stop();
    """
  private static let beforeUpdate: SQL = """
    CREATE TRIGGER stop BEFORE UPDATE ON warehouse.posts FOR EACH ROW EXECUTE FUNCTION public.stop();
    """
  private static let noTrigger: SQL = "DROP TRIGGER stop ON warehouse.posts"

  static let kinds = [
    Kind(
      name: "a foreign key", id: 4, cause: SQL(trusted: bookmarking(4)),
      fix: "DROP TABLE public.bookmarks",
      message: "bookmarked"),
    Kind(
      name: "a CHECK", id: 8,
      cause: """
        ALTER TABLE warehouse.posts
          ADD CONSTRAINT shown CHECK (post_id <> 8 OR visibility <> 'protected')
        """, fix: "ALTER TABLE warehouse.posts DROP CONSTRAINT shown", message: "shown"),
    Kind(
      name: "a CHECK that requires a value", id: 12,
      cause: "ALTER TABLE warehouse.posts ADD CONSTRAINT located CHECK (latitude IS NOT NULL)",
      fix: "ALTER TABLE warehouse.posts DROP CONSTRAINT located", message: "located"),
    Kind(
      name: "an exclusion constraint", id: 8,
      cause: """
        UPDATE warehouse.posts SET visibility = 'protected' WHERE post_id = 4;
        ALTER TABLE warehouse.posts
          ADD CONSTRAINT alone EXCLUDE (visibility WITH =) WHERE (post_id IN (8, 1001));
        INSERT INTO warehouse.posts (post_id, author_id, text, visibility, created_at)
          VALUES (1001, 1, 'text', 'protected', now())
        """, fix: "ALTER TABLE warehouse.posts DROP CONSTRAINT alone", message: "alone"),
    Kind(
      name: "a trigger that raises an error", id: 4,
      cause: trigger(4, "RAISE 'legal hold'") + beforeDelete, fix: noTrigger,
      message: "the function stop raised an error (SQLSTATE P0001)"),
    Kind(
      name: "a trigger that skips a deletion", id: 4,
      cause: trigger(4, "RETURN NULL") + beforeDelete, fix: noTrigger, message: "rows are unchanged"
    ),
    Kind(
      name: "a trigger that keeps the old value", id: 8,
      cause: trigger(8, "NEW.visibility := OLD.visibility", "RETURN NEW") + beforeUpdate,
      fix: noTrigger, message: "rows are unchanged"),
    Kind(
      name: "a value that does not fit", id: 8,
      cause: trigger(8, "PERFORM OLD.text::integer", "RETURN NEW") + beforeUpdate,
      fix: noTrigger, message: "22P02"),
    Kind(
      name: "a deferred trigger", id: 4,
      cause: trigger(4, "RAISE 'not this one'", "RETURN NULL") + """
        CREATE CONSTRAINT TRIGGER stop AFTER DELETE ON warehouse.posts DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE FUNCTION public.stop();
        """, fix: noTrigger,
      message: "the function stop raised an error (SQLSTATE P0001)"),
    Kind(
      name: "a missing privilege", id: 4,
      cause: trigger(
        4, "SET LOCAL ROLE pg_read_all_stats; DELETE FROM warehouse.users", "RETURN OLD")
        + beforeDelete, fix: noTrigger, message: "42501"),
    Kind(
      name: "a trigger that uses a missing table", id: 4,
      cause: trigger(4, "DELETE FROM public.nowhere") + beforeDelete, fix: noTrigger,
      message: "the function stop raised an error (SQLSTATE 42P01)"),
  ]

  private static let obstacles: [(references: Bool, refused: Bool)] = [
    (false, false), (false, true), (true, false), (true, true),
  ]

  /// A trigger writes the time of the transaction, and the time must be unique. So no transaction can delete two posts.
  /// - Parameter obstacles: whether a foreign key of the table refers to the table itself, and whether another trigger
  ///   refuses the deletion of post 4.
  @Test(arguments: sampled(["batch: 2", "batch: 3", "batch: 20"], obstacles, 5))
  func eventsThatAreRefusedOnlyTogetherAreAllApplied(
    batch: String, obstacles: (references: Bool, refused: Bool)
  ) async throws {
    try await RefusalFixture.with { fixture in
      try await fixture.base.execute(
        """
        CREATE TABLE public.deleted (at timestamptz PRIMARY KEY DEFAULT now());
        CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN INSERT INTO public.deleted DEFAULT VALUES; RETURN NULL; END';
        CREATE TRIGGER note AFTER DELETE ON warehouse.posts FOR EACH ROW EXECUTE FUNCTION public.note()
        """)
      if obstacles.references {
        try await fixture.base.execute(
          """
          ALTER TABLE warehouse.posts ADD reply_to bigint REFERENCES warehouse.posts;
          CREATE INDEX ON warehouse.posts (reply_to)
          """)
      }
      if obstacles.refused {
        try await fixture.base.execute(Self.trigger(4, "RAISE 'legal hold'") + Self.beforeDelete)
      }
      let report = try await fixture.run(try fixture.pipeline(batch: batch, ids: 50)).last
      #expect(report?.setAside == [])
      #expect(report?.refused.map(\.id) == (obstacles.refused ? ["4"] : []), "\(report as Any)")
      #expect(try await fixture.unfinishedPosts() == (obstacles.refused ? [4] : []))
      #expect(try await fixture.damagedPosts() == 0)
      #expect(try await fixture.base.ledgerFaults() == [])
    }
  }

  /// Post 92 replies to post 60, so both must be deleted in one transaction. The trigger refuses that.
  @Test(arguments: ["batch: 2", "batch: 20"])
  func eventsThatMustBeInOneTransactionAndAreRefusedTogetherStopNoOthers(batch: String)
    async throws
  {
    try await RefusalFixture.with { fixture in
      try await fixture.base.execute(
        """
        CREATE TABLE public.deleted (at timestamptz PRIMARY KEY DEFAULT now());
        CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN INSERT INTO public.deleted DEFAULT VALUES; RETURN NULL; END';
        CREATE TRIGGER note AFTER DELETE ON warehouse.posts FOR EACH ROW EXECUTE FUNCTION public.note();
        ALTER TABLE warehouse.posts ADD reply_to bigint REFERENCES warehouse.posts;
        CREATE INDEX ON warehouse.posts (reply_to);
        UPDATE warehouse.posts SET reply_to = 60 WHERE post_id = 92
        """)
      let report = try #require(
        try await fixture.run(try fixture.pipeline(batch: batch, ids: 50)).last)
      #expect(report.setAside == [])
      let refused = report.refused.compactMap { Int64($0.id) }.sorted()
      #expect(try await fixture.unfinishedPosts() == refused)
      // Only events between the two posts are in the same transaction.
      #expect(refused.contains(60) && refused.allSatisfy { (60...92).contains($0) }, "\(refused)")
      #expect(try await fixture.damagedPosts() == 0)
      #expect(try await fixture.base.ledgerFaults() == [])
    }
  }

  @Test(arguments: sampled(kinds, ["batch: 1", "batch: 3", "batch: 20"], 11))
  func onlyTheRefusedEventIsSetAsideForEachCause(kind: Kind, batch: String) async throws {
    try await RefusalFixture.with { fixture in
      try await fixture.base.execute(kind.cause)
      let pipeline = try fixture.pipeline(batch: batch, ids: 30)
      let report = try #require(try await fixture.run(pipeline).last)
      #expect(report.status == .failed)
      #expect(report.setAside == [])
      #expect(report.refused.map(\.id) == ["\(kind.id)"])
      #expect(report.refused.first?.why.contains(kind.message) == true, "\(report.refused)")
      #expect(report.refused.first?.remedy.isEmpty == false)
      #expect(try await fixture.unfinishedPosts() == [kind.id])
      #expect(try await fixture.damagedPosts() == 0)
      #expect(try await fixture.usersLeft() == "1008 protected")
      // Neither the report nor the ledger contains content of the rows.
      #expect(!"\(report)".contains("text of"))
      #expect(try await !fixture.ledgerText().contains("text of"))
      #expect(try await fixture.base.ledgerFaults() == [])
      let again = try await fixture.retry(pipeline, ids: [kind.id])
      #expect(again?.refused.map(\.id) == ["\(kind.id)"])
      #expect(try await fixture.base.ledgerFaults() == [])
      try await fixture.base.execute(kind.fix)
      let chunk = try #require(report.refused.first?.chunkID)
      let fixed = try await fixture.retry(pipeline, chunk)
      #expect(fixed?.status == .done)
      #expect(try await fixture.unfinishedPosts() == [])
      #expect(try await fixture.damagedPosts() == 0)
      #expect(try await fixture.base.ledgerFaults() == [])
    }
  }

  @Test(arguments: [true, false])
  func tooManyRefusedEventsSetTheirChunkAside(isForeignKey: Bool) async throws {
    let posts = 400
    try await RefusalFixture.with(
      { ids in ids.filter { $0 <= 1000 }.map { CollectTests.event($0) }.joined() }, posts: posts
    ) {
      fixture in
      // In the first of two chunks, 150 of 200 posts are refused.
      try await fixture.base.execute(
        isForeignKey
          ? """
          CREATE TABLE public.bookmarks AS SELECT post_id FROM warehouse.posts WHERE post_id <= 150;
          ALTER TABLE public.bookmarks ADD FOREIGN KEY (post_id) REFERENCES warehouse.posts
          """
          : """
          CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF OLD.post_id > 50 AND OLD.post_id <= 200 THEN RAISE 'no'; END IF; RETURN OLD; END $$;
          \(Self.beforeDelete)
          """)
      let pipeline = try pipelineWithLargeChunks(fixture)
      let report = try #require(try await fixture.run(pipeline).last)
      #expect(report.status == .failed)
      #expect(report.setAside.count == 1)
      #expect(report.setAside.first?.reason.contains("more than 100") == true)
      #expect(report.setAside.first?.isRetryable == true)
      let left: SQL = "SELECT count(*) FROM warehouse.posts"
      // The second chunk is applied. In the first chunk, only the batches before the refusals are applied.
      #expect(try await fixture.base.value(left, as: Int.self) == (isForeignKey ? 200 : 150))
      #expect(try await EvidenceChain(of: fixture).isIntact())
      try await fixture.base.execute(
        isForeignKey ? "DROP TABLE public.bookmarks" : "DROP TRIGGER stop ON warehouse.posts")
      let chunk = try #require(report.setAside.first?.chunkID)
      #expect(try await fixture.retry(pipeline, chunk)?.status == .done)
      #expect(try await fixture.base.value(left, as: Int.self) == 0)
      #expect(try await fixture.base.ledgerFaults() == [])
      #expect(try await EvidenceChain(of: fixture).isIntact())
    }
  }

  private func pipelineWithLargeChunks(_ fixture: RefusalFixture) throws -> Pipeline {
    try fixture.base.pipeline(api: fixture.url) {
      RefusalFixture.definition("batch: 20", ids: 200)($0)
        .editing("max_redacted_rows", to: "allow_whole_chunks: true, max_redacted_rows")
    }
  }

  /// A refused reply still refers to a post, so the deletion of that post is refused, too. No other post is affected.
  @Test func aRowReferencedByARefusedRowIsSetAsideToo() async throws {
    try await RefusalFixture.with { fixture in
      try await fixture.base.execute(
        """
        ALTER TABLE warehouse.posts ADD reply_to bigint REFERENCES warehouse.posts;
        CREATE INDEX ON warehouse.posts (reply_to);
        UPDATE warehouse.posts SET reply_to = 4 WHERE post_id = 20;
        UPDATE warehouse.posts SET reply_to = 28 WHERE post_id = 44;
        UPDATE warehouse.posts SET reply_to = 52 WHERE post_id = 36;
        """ + Self.trigger(20, "RAISE 'no'") + Self.beforeDelete)
      let pipeline = try fixture.pipeline(batch: "batch: 2", ids: 100)
      let report = try #require(try await fixture.run(pipeline).last)
      #expect(report.refused.map(\.id).sorted() == ["20", "4"])
      #expect(try await fixture.unfinishedPosts() == [4, 20])
      #expect(try await fixture.base.ledgerFaults() == [])
      try await fixture.base.execute(Self.noTrigger)
      let chunk = try #require(report.refused.first?.chunkID)
      #expect(try await fixture.retry(pipeline, chunk)?.status == .done)
      #expect(try await fixture.unfinishedPosts() == [])
      #expect(try await fixture.base.ledgerFaults() == [])
    }
  }

  /// For any set of refused events and any batch size, all other events are applied exactly once.
  @Test(arguments: 1...6)
  func allOtherEventsAreAppliedForAnySetOfRefusedEvents(seed: UInt64) async throws {
    try await RefusalFixture.with { fixture in
      var random = SeededGenerator(seed: seed)
      let gone = (1...100).filter { $0 % 4 == 0 && $0 % 8 != 0 && $0 != 12 }
      let refused = gone.filter { _ in Int.random(in: 0..<3, using: &random) == 0 }.map(Int64.init)
      let batch = Int.random(in: 1...100, using: &random)
      let ids = Int.random(in: 5...100, using: &random)
      try await fixture.base.execute(
        """
        CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN
               IF OLD.post_id = ANY ('{\(trusted: refused.map(String.init).joined(separator: ","))}') THEN RAISE 'no'; END IF;
               RETURN OLD;
             END $$;
        CREATE TABLE public.changes (post_id bigint);
        CREATE FUNCTION public.record_change() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN INSERT INTO public.changes VALUES (OLD.post_id); RETURN NULL; END $$;
        CREATE TRIGGER note AFTER DELETE OR UPDATE ON warehouse.posts
          FOR EACH ROW EXECUTE FUNCTION public.record_change();
        \(Self.beforeDelete)
        """)
      let pipeline = try fixture.pipeline(batch: "batch: \(batch)", ids: ids)
      let report = try #require(try await fixture.run(pipeline).last)
      #expect(report.refused.map(\.id) == refused.map(String.init), "batch \(batch), ids \(ids)")
      #expect(try await fixture.unfinishedPosts() == refused)
      #expect(try await fixture.damagedPosts() == 0)
      #expect(try await fixture.base.ledgerFaults() == [])
      try await fixture.base.execute(Self.noTrigger)
      for chunk in Set(report.refused.map(\.chunkID)) {
        _ = try await fixture.retry(pipeline, chunk)
      }
      #expect(try await fixture.unfinishedPosts() == [])
      #expect(try await fixture.base.ledgerFaults() == [])
      let twice: SQL = "SELECT count(*) - count(DISTINCT post_id) FROM public.changes"
      #expect(try await fixture.base.value(twice, as: Int.self) == 0)
    }
  }
}

/// The chain of evidence in the ledger of a fixture.
struct EvidenceChain {
  let fixture: RefusalFixture

  init(of fixture: RefusalFixture) { self.fixture = fixture }

  func isIntact() async throws -> Bool {
    try await fixture.base.database.withConnection {
      try await AuditLedger(connection: $0).verify().isIntact
    }
  }
}
