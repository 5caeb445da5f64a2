import Evidence
import Foundation
import Ledger
import PostgreSQL
import Runtime
import TestSupport
import Testing
import Vocabulary

/// The ledger's history of one ID, and the export of the event records of a time range.
@Suite struct AuditTests {
  private func lethe(_ fixture: PipelineFixture, _ arguments: String...) async throws
    -> Program.Result
  {
    try await Program.run("lethe", ["audit"] + arguments, environment: fixture.environment)
  }

  private func trail(of id: Int64, _ fixture: PipelineFixture) async throws -> AuditTrail {
    try await fixture.database.withConnection {
      try await AuditLedger(connection: $0).trail(of: id, type: nil)
    }
  }

  // MARK: Show

  /// The history of an ID is limited, because a user can hold any number of posts.
  @Test func theNewestEndedHoldsAreShownAndAHoldThatLetheEndedNamesNoOperator() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO lethe.closed_hold (hold_id, table_name, row_key, row_type, row_id, held_at, closed_at, outcome)
        SELECT n, 'shop.posts', '{}', 'tweets', 5, now(), timestamptz '2026-01-01Z' + n * interval '1 minute', 'gone'
        FROM generate_series(1, 1003) AS n
        """)
      let times = try await trail(of: 5, fixture).holds.map(\.at)
      #expect(times.count == 1000 && times == times.sorted())
      #expect(times.first?.hasPrefix("2026-01-01T00:04") == true, "\(times.first ?? "")")
      #expect(times.last?.hasPrefix("2026-01-01T16:43") == true, "\(times.last ?? "")")
      let shown = try await lethe(fixture, "show", "5")
      #expect(shown.stdout.contains("the row did not exist any more"), "\(shown)")
      #expect(!shown.stdout.contains("operator"))
    }
  }

  @Test func aPostThatWasDeletedWithItsAuthorNamesTheAuthorsEvent() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      try await fixture.execute(
        "UPDATE platform.accounts SET state = 'suspended' WHERE account_id = 11")
      let pipeline = try fixture.pipeline()
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      let (id, author) = try await fixture.database.withConnection {
        try await $0.query(
          """
          SELECT post_id, author_id FROM before.posts AS p
          -- The platform does not have these posts. Only the event about the author reaches their rows.
          WHERE post_id % 10000 = 1 AND EXISTS (
            SELECT FROM lethe.event AS e WHERE e.id = p.post_id AND e.cause_id = p.author_id
                          AND e.action = 'delete')
          ORDER BY post_id LIMIT 1
          """
        ).onlyRow(as: Int64.self, Int64.self)
      }
      let shown = try await lethe(fixture, "show", "\(id)")
      #expect(shown.code == 0, "\(shown.stderr)")
      #expect(
        shown.stdout.contains("tweets row reached by the event of users ID \(author)"),
        "\(shown.stdout)")
      #expect(shown.stdout.contains("changed: delete warehouse.posts: 1 row"))
      #expect(shown.stdout.contains("tombstone  tweets:"))
      #expect(shown.stdout.contains("no event about the ID: clean, or not asked about"))

      let json = try await lethe(fixture, "show", "\(id)", "--output", "json").json
      #expect(json["id"] as? String == "\(id)")
      let events = try #require(json["events"] as? [[String: Any]])
      #expect(events.compactMap { $0["cause_id"] as? String } == ["\(author)"])
      #expect(events.first?["cause_type"] as? String == "users")
      #expect(events.first?["changed"] as? [String: Int] == ["delete warehouse.posts": 1])
      let checks = try #require(json["checks"] as? [[String: Any]])
      #expect(checks.map { $0["answer"] as? String } == ["clean or not asked about"])
      #expect((json["tombstones"] as? [Any])?.count == 1)
      // A user and a post can have the same ID. The history of the user does not contain the post.
      let authors = try await lethe(
        fixture, "show", "\(author)", "--type", "users", "--output", "json"
      ).json
      #expect((authors["events"] as? [[String: Any]])?.first?["cause_id"] == nil)
      let asPost = try await lethe(fixture, "show", "\(author)", "--type", "tweets")
      #expect(
        asPost.stdout.contains("the ledger has no record of ID \(author)"), "\(asPost.stdout)")
      #expect(asPost.code == 0)
    }
  }

  @Test func anEventThatIsAppliedDuringTheReadIsShownOnce() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      try await fixture.withRuntime(fixture.pipeline()) { runtime in
        _ = try await runtime.export()
        while try await runtime.submit().chunks > 0 { _ = try await runtime.awaitJobs() }
        _ = try await runtime.collect()
      }
      let id = try await fixture.value(
        "SELECT min(id) FROM lethe.collected WHERE reason = 'deleted'", as: Int64.self)
      try await fixture.database.withConnection { applier in
        // `applier` does what the last transaction of apply does, while another session reads the history.
        try await applier.runScript("BEGIN; LOCK TABLE lethe.collected IN ACCESS EXCLUSIVE MODE")
        let reading = Task { try await trail(of: id, fixture) }
        try await fixture.database.withConnection { watcher in
          while try await watcher.query(
            """
            SELECT count(*) FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND datname = current_database()
            """
          ).onlyRow(as: Int.self) == 0 { try await pollingPause() }
        }
        try await applier.runScript(
          """
          SELECT lethe.ensure_event_partitions(now());
          INSERT INTO lethe.event (id, type, reason, action, chunk_id, job_id, applied_at, batch)
          SELECT s.id, c.type, s.reason, 'delete', s.chunk_id, j.job_id, now(), 1
          FROM lethe.collected AS s JOIN lethe.chunk AS c USING (chunk_id)
          JOIN lethe.job AS j USING (chunk_id) WHERE s.id = \(literal: id);
          TRUNCATE lethe.collected;
          COMMIT
          """)
        let history = try await reading.value
        #expect(history.events.count + history.waiting.count == 1)
      }
    }
  }

  @Test func anIDThatWasProtectedAndRestoredHasBothAnswers() async throws {
    let lines = TextSequence([CollectTests.event(1, "delete", "protected"), ""])
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at)
        VALUES (1, 1, 'text', now()), (2, 1, 'text', now())
        """
      )
      try await ScriptedAPI(.init(result: { _ in lines.next() })).serving { url in
        let pipeline = try fixture.pipeline(api: url) { CollectTests.postsOnly($0) }
        _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
        let hidden = try await trail(of: 1, fixture)
        let held = try #require(hidden.holds.first)
        #expect(hidden.holds.count == 1)
        #expect(held.table == "warehouse.posts")
        if case .held(let columns, let type, let id, _) = held.what {
          #expect(columns == ["visibility"])
          #expect(type == .tweets && id == 1)
        } else {
          Issue.record("the row is not held")
        }
        #expect(hidden.events.map(\.action) == ["protect"])
        _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      }
      let shown = try await trail(of: 1, fixture)
      #expect(shown.protections.isEmpty)
      if case .closed(let outcome, _, _, _)? = shown.holds.first?.what {
        #expect(outcome == "restored")
      } else {
        Issue.record("the hold has not ended")
      }
      #expect(shown.events.map(\.action) == ["protect", "restore"])
      #expect(shown.events.map(\.reason) == ["protected", "clean"])
      #expect(shown.events.last?.changed == ["restore warehouse.posts": 1])
      #expect(shown.checks.map(\.answer) == [.event, .event])
      #expect(shown.checks.allSatisfy { $0.seal != nil && $0.resultSHA256?.count == 64 })
      let text = try await lethe(fixture, "show", "1").stdout
      #expect(text.contains("clean again"), "\(text)")
      #expect(try await trail(of: 2, fixture).checks.map(\.answer) == [.noEvent, .noEvent])
    }
  }

  /// A limit stops the chunk with the old answer. A newer answer arrives before the chunk is approved.
  @Test func aSupersededAnswerIsMarkedBeforeAndAfterItIsProcessed() async throws {
    let lines = TextSequence(["", (3...10).map { CollectTests.event($0) }.joined(), ""])
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at) SELECT p, 1, 'text', now()
        FROM generate_series(1, 10) AS p
        """
      )
      try await ScriptedAPI(.init(result: { _ in lines.next() })).serving { url in
        let pipeline = try fixture.pipeline(api: url) { CollectTests.postsOnly($0) }
        _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
        let stopped = try await fixture.withRuntime(pipeline) { try await $0.run() }
        #expect(try await trail(of: 5, fixture).waiting.map(\.reason) == ["deleted"])
        _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
        let waiting = try #require(try await trail(of: 5, fixture).waiting.first)
        let text = try await lethe(fixture, "show", "5").stdout
        #expect(text.contains("will not be applied: superseded by the newer answer of"), "\(text)")
        let chunk = try #require(stopped.last?.stopped.first?.chunkID)
        _ = try await fixture.withRuntime(pipeline) { try await $0.apply(approving: chunk) }
        let after = try await trail(of: 5, fixture)
        #expect(after.waiting.isEmpty)
        #expect(after.events.map(\.action) == ["ignore"])
        #expect(after.events.first?.supersededBy?.id == waiting.supersededBy?.id)
        #expect(after.events.first?.changed == [:])
        #expect(after.checks.map(\.answer) == [.noEvent, .event, .noEvent])
        #expect(after.tombstones.isEmpty)
      }
    }
  }

  @Test func aResultThatWasGivenUpIsReportedAsNotApplied() async throws {
    let answers = TextSequence([
      (3...10).map { CollectTests.event($0) }.joined()
        + CollectTests.event(2, "delete", "withheld"), "",
    ])
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        INSERT INTO warehouse.posts (post_id, author_id, text, created_at) SELECT p, 1, 'text', now()
        FROM generate_series(1, 10) AS p
        """
      )
      try await ScriptedAPI(.init(result: { _ in answers.next() })).serving { url in
        let pipeline = try fixture.pipeline(api: url) { CollectTests.postsOnly($0) }
        let stopped = try await fixture.withRuntime(pipeline) { try await $0.run() }
        #expect(stopped.map(\.status) == [.stopped])
        #expect(try await trail(of: 2, fixture).checks.map(\.answer) == [.unclear])
        _ = try await fixture.withRuntime(pipeline) { try await $0.giveUp() }
        let given = try await trail(of: 5, fixture)
        #expect(given.checks.map(\.answer) == [.notApplied])
        #expect(given.waiting.map(\.reason) == ["deleted"])
        let text = try await lethe(fixture, "show", "5").stdout
        #expect(text.contains("not applied: the chunk has failed"), "\(text)")
        let json = try await lethe(fixture, "show", "5", "--output", "json").json
        let waiting = try #require(json["waiting"] as? [[String: Any]])
        #expect(waiting.map { $0["state"] as? String } == ["failed"])
        #expect(try await trail(of: 1, fixture).checks.map(\.answer) == [.noEvent])
        #expect(try await trail(of: 2, fixture).checks.map(\.answer) == [.unclear])
        #expect(try await lethe(fixture, "show", "2").stdout.contains("not told: the result has"))
        _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      }
      // In the newer result, both IDs are clean.
      for id in [1, 5] as [Int64] {
        let after = try await trail(of: id, fixture)
        #expect(after.waiting.isEmpty && after.events.isEmpty)
        #expect(after.checks.map(\.answer) == [.superseded, .noEvent])
      }
      #expect(
        try await lethe(fixture, "show", "5").stdout.contains("newer answers have superseded"))
      #expect(try await fixture.value("SELECT count(*) FROM warehouse.posts", as: Int.self) == 10)
    }
  }

  @Test func aQuarantinedLineAndAnUnknownIDAreReported() async throws {
    let script = ScriptedAPI.Script(result: { _ in
      CollectTests.event(3, "delete", "with\\u001bheld")
    })
    try await CollectTests.collecting(script) { fixture, _ in
      let quarantined = try #require(try await trail(of: 3, fixture).quarantined.first)
      #expect(quarantined.line == 1)
      #expect(quarantined.raw.contains("withheld") || quarantined.raw.contains("u001b"))
      let text = try await lethe(fixture, "show", "3").stdout
      #expect(text.contains("unknown reason \"with"), "\(text)")
      #expect(text.contains("not applied, and not resolved"))
      #expect(!text.contains("\u{1b}"))
      let nobody = try await lethe(fixture, "show", "4000", "--output", "json")
      #expect(nobody.code == 0)
      #expect(nobody.json["is_known"] as? Bool == false)
      #expect(try await lethe(fixture, "show", "0").code == 2)
      #expect(try await lethe(fixture, "show", "12x").code == 2)
    }
  }

  // MARK: Export

  @Test func bothFormatsContainEveryRecordOfTheTimeRange() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 500)
      let pipeline = try fixture.pipeline()
      _ = try await fixture.withRuntime(pipeline) { try await $0.run() }
      let (all, start, digest) = try await fixture.database.withConnection {
        try await $0.query(
          """
          SELECT count(*), to_char(min(applied_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                 string_agg(concat_ws('|', id, reason, changed->>'delete warehouse.posts', cause_id), ',' ORDER BY id, cause_id, reason)
          FROM lethe.event
          """
        ).onlyRow(as: Int.self, String.self, String.self)
      }
      let range = ["--from", start, "--to", "2999-01-01"]

      let csv = try await lethe(fixture, "export", range[0], range[1], range[2], range[3])
      #expect(csv.code == 0, "\(csv.stderr)")
      #expect(csv.stderr.contains("\(all) event records exported"), "\(csv.stderr)")
      let rows = Self.records(ofCSV: csv.stdout)
      #expect(rows.count == all)

      let path = fixture.directory + "/events.ndjson"
      let written = try await lethe(
        fixture, "export", range[0], range[1], range[2], range[3], "--format", "ndjson", "--file",
        path, "--output", "json")
      #expect(written.json["events"] as? Int == all, "\(written.stderr)")
      let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
      #expect(lines.count == all)
      #expect(!FileManager.default.fileExists(atPath: path + ".partial"))

      let parsed = try lines.map {
        try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
      }
      #expect(Self.digest(rows.map { row in { row[$0] } }) == digest)
      #expect(
        Self.digest(
          parsed.map { object in
            { key in
              guard key == "changed" else { return object[key] as? String }
              guard let changed = object[key] as? [String: Int] else { return nil }
              return try? String(
                decoding: JSONSerialization.data(withJSONObject: changed), as: UTF8.self)
            }
          }) == digest)
      #expect(parsed.allSatisfy { ($0["applied_at"] as? String)?.hasSuffix("Z") == true })
      #expect(parsed.allSatisfy { ($0["result_sha256"] as? String)?.count == 64 })

      // The range does not include its end.
      let before = try await lethe(fixture, "export", "--from", "2000-01-01", "--to", start)
      #expect(before.stderr.contains(" 0 event records exported"), "\(before.stderr)")
      #expect(Self.records(ofCSV: before.stdout).isEmpty)
    }
  }

  @Test func anInterruptedExportKeepsTheExistingFile() async throws {
    try await PipelineFixture.with { fixture in
      try FileManager.default.createDirectory(
        atPath: fixture.directory, withIntermediateDirectories: true)
      let path = fixture.directory + "/events.csv"
      try "what was there".write(toFile: path, atomically: true, encoding: .utf8)
      try await fixture.database.withConnection { holder in
        try await holder.runScript("BEGIN; LOCK TABLE lethe.event IN ACCESS EXCLUSIVE MODE")
        let program = try Program(
          "lethe",
          ["audit", "export", "--from", "2000-01-01", "--to", "2999-01-01", "--file", path],
          environment: fixture.environment)
        try await fixture.database.withConnection { watcher in
          while try await watcher.query(
            """
            SELECT count(*) FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND datname = current_database()
            """
          ).onlyRow(as: Int.self) == 0 { try await pollingPause() }
        }
        program.send(signal: SIGTERM)
        #expect(await program.ended().code == 75)
        try await holder.runScript("ROLLBACK")
      }
      #expect(try String(contentsOfFile: path, encoding: .utf8) == "what was there")
      #expect(!FileManager.default.fileExists(atPath: path + ".partial"))
      let nowhere = try await lethe(
        fixture, "export", "--from", "2000-01-01", "--to", "2999-01-01", "--file",
        fixture.directory + "/none/events.csv")
      #expect(nowhere.code == 1)
      #expect(nowhere.stderr.contains("remedy:"))
      #expect(
        try await lethe(fixture, "export", "--from", "2999-01-01", "--to", "2000-01-01").code == 2)
      #expect(
        try await lethe(fixture, "export", "--from", "yesterday", "--to", "2000-01-01").code == 2)
      try await fixture.execute("DROP SCHEMA lethe CASCADE")
      #expect(try await lethe(fixture, "show", "1").stderr.contains("lethe migrate up"))
    }
  }

  /// Returns the records of a CSV text. Reads RFC 4180 strictly: each row ends with CR LF, a quote is doubled, and the
  /// first row contains the names of the columns. Leaves out empty fields.
  private static func records(ofCSV text: String) -> [[String: String]] {
    var rows: [[String]] = []
    var row: [String] = []
    var field = ""
    var isQuoted = false
    var scalars = Array(text.unicodeScalars)[...]
    while let scalar = scalars.popFirst() {
      switch scalar {
      case "\"":
        if isQuoted, scalars.first == "\"" {
          field.unicodeScalars.append(scalar)
          scalars.removeFirst()
        } else {
          isQuoted.toggle()
        }
      case "," where !isQuoted:
        row.append(field)
        field = ""
      case "\r" where !isQuoted && scalars.first == "\n":
        scalars.removeFirst()
        rows.append(row + [field])
        (row, field) = ([], "")
      default: field.unicodeScalars.append(scalar)
      }
    }
    guard field.isEmpty, row.isEmpty, let header = rows.first else { return [] }
    return rows.dropFirst().map { row in
      Dictionary(uniqueKeysWithValues: zip(header, row).filter { !$1.isEmpty })
    }
  }

  /// Returns the records as one text, in the form of the SQL query in `bothFormatsContainEveryRecordOfTheTimeRange`.
  private static func digest(_ records: [(String) -> String?]) -> String {
    records.map { record in
      let changed = record("changed").flatMap {
        try? JSONDecoder().decode([String: Int].self, from: Data($0.utf8))
      }
      let deleted = changed?["delete warehouse.posts"].map(String.init)
      let id = Int64(record("id") ?? "") ?? 0
      let cause = record("cause_id").flatMap(Int64.init)
      let reason = record("reason") ?? ""
      let text = [record("id"), reason, deleted, record("cause_id")].compactMap { $0 }
        .joined(separator: "|")
      return (id: id, cause: cause ?? .max, reason: reason, text: text)
    }
    .sorted { ($0.id, $0.cause, $0.text) < ($1.id, $1.cause, $1.text) }
    .map(\.text).joined(separator: ",")
  }
}
