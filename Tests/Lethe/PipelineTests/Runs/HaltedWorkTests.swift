import Foundation
import PostgreSQL
import TestSupport
import Testing

/// Tests of chunks that wait for an approval: they do not stop other chunks. Also tests of the API's error texts: Lethe
/// reports them without secrets.
@Suite struct HaltedWorkTests {
  /// A script runs the stages one by one every night. It must work while stopped chunks wait for an approval.
  @Test func aStoppedChunkDoesNotStopTheStagesOfTheNextNight() async throws {
    try await RefusalFixture.with { fixture in
      let file = try fixture.base.definitionFile {
        RefusalFixture.definition("batch: 20", ids: 10)($0)
          .editing("max_redacted_percent: 100", to: "max_redacted_percent: 24.5")
      }
      for run in 1...3 {
        let export = try await fixture.lethe("export", file, "--output", "json")
        #expect(export.code == 0, "\(export.stderr)")
        let runs = try await fixture.base.value("SELECT max(run_id) FROM lethe.run", as: Int.self)
        #expect(runs == run)
        while true {
          let submit = try await fixture.lethe("submit", file, "--skip-if-idle")
          guard submit.code != 99 else { break }
          #expect(submit.code == 0, "\(submit.stdout) \(submit.stderr)")
          #expect(try await fixture.lethe("await", file).code == 0)
          if submit.code != 0 { return }
        }
        let collect = try await fixture.lethe("collect", file)
        #expect(collect.code == 0, "\(collect.stdout)")
        // Only the apply stage reports the stopped chunks.
        let apply = try await fixture.lethe("apply", file)
        #expect(try await fixture.usersLeft() == "1008 protected")
        let status = try await fixture.lethe("status")
        let stopped = try await fixture.base.database.withConnection {
          try await $0.query(
            "SELECT chunk_id FROM lethe.chunk WHERE stopped_reason IS NOT NULL"
          ).rows(as: Int64.self)
        }
        #expect(run > 1 || stopped.count == 5)
        #expect(apply.code == (stopped.isEmpty ? 0 : 3), "\(apply.stdout)")
        for chunk in stopped {
          #expect(status.stdout.contains("lethe apply \(file) --approve \(chunk)"))
        }
      }
    }
  }

  /// A refused event and quarantined lines wait for an operator. Only the apply stage reports them, so that a script
  /// continues with the other chunks.
  @Test func anEarlierStageReportsOnlyWhatItHasCaused() async throws {
    try await RefusalFixture.with({ RefusalFixture.answers($0) + "garbage\n" }) { fixture in
      try await fixture.base.execute(
        """
        CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN IF OLD.post_id = 4 THEN RAISE ''legal hold''; END IF; RETURN OLD; END';
        CREATE TRIGGER stop BEFORE DELETE ON warehouse.posts FOR EACH ROW EXECUTE FUNCTION public.stop()
        """)
      let file = try fixture.file(ids: 50)
      #expect(try await fixture.lethe("export", file).code == 0)
      for _ in 1...2 {
        for stage in ["submit", "await", "collect"] {
          let result = try await fixture.lethe(stage, file, "--output", "json")
          #expect(result.code == 0, "\(stage): \(result.stdout)")
        }
        let apply = try await fixture.lethe("apply", file, "--output", "json")
        #expect(apply.code == 5, "\(apply.stdout)")
      }
      #expect(try await fixture.lethe("export", file).code == 0)
      #expect(try await fixture.unfinishedPosts() == [4])
      // A retry reports only the retried part, and the lines of the quarantine are no part of it.
      try await fixture.base.execute("DROP TRIGGER stop ON warehouse.posts")
      let retried = try await fixture.lethe("retry", file, "--id", "4")
      #expect(retried.code == 0, "\(retried.stdout)")
      #expect(try await fixture.unfinishedPosts() == [])
      let apply = try await fixture.lethe("apply", file, "--output", "json")
      #expect(apply.code == 4, "\(apply.stdout)")
      #expect(!apply.stdout.contains("0 lines of the quarantine"))
    }
  }

  // MARK: Error texts of the API

  private static let signed =
    "https://storage.googleapis.com/b/1?X-Goog-Credential=svc&X-Goog-Signature=c2lnbmF0dXJlLW9mLWEtVVJM"

  private static let errorTexts: [String] = [
    "cannot write to \(signed)", "Bearer \(PipelineFixture.token) may not",
    "\u{1B}[2J\u{7}header Authorization: Bearer \(PipelineFixture.token) and \(signed)",
    #"{"access_token": "\#(PipelineFixture.token)", "url": "\#(signed)"}"#,
    "<html><a href=\"\(signed)\">\(PipelineFixture.token)</a></html>",
    String(repeating: "long ", count: 5_000) + PipelineFixture.token,
  ]

  private func expectNoSecret(_ texts: [String], _ location: SourceLocation = #_sourceLocation) {
    for text in texts {
      for secret in [
        PipelineFixture.token, "c2lnbmF0dXJl", "X-Goog-Signature=c", "\u{1B}", "\u{7}",
      ] {
        #expect(!text.contains(secret), sourceLocation: location)
      }
      #expect(!text.contains(String(repeating: "long ", count: 200)), sourceLocation: location)
    }
  }

  @Test(arguments: errorTexts)
  func theErrorOfAFailedJobIsReportedWithoutSecrets(text: String) async throws {
    try await RefusalFixture.with(configure: {
      $0.status = "failed"
      $0.error = text
    }) { fixture in
      for format in ["text", "json"] {
        let result = try await fixture.lethe(
          "run", try fixture.file(ids: 100), "--log-format", format, "--output", "json")
        #expect(result.code == 5, "\(result.stderr)")
        let shown = try await fixture.lethe("jobs", "show", try fixture.file(ids: 100), "1000")
        let status = try await fixture.lethe("status")
        expectNoSecret([
          result.stdout, result.stderr, shown.stdout, status.stdout, try await fixture.ledgerText(),
        ])
      }
    }
  }

  @Test(arguments: sampled(errorTexts, [400, 403, 413], 6))
  func anErrorResponseIsReportedWithoutSecrets(text: String, status: Int) async throws {
    let title = (try? JSONEncoder().encode(["title": "refused", "detail": text])) ?? Data()
    for body in [text, String(decoding: title, as: UTF8.self)] {
      try await RefusalFixture.with(configure: {
        $0.problem = { $0.contains("-c1-") ? status : nil }
        $0.problemBody = body
      }) { fixture in
        let result = try await fixture.lethe(
          "run", try fixture.file(ids: 100), "--log-level", "debug", "--output", "json")
        #expect(result.code != 0)
        let after = try await fixture.lethe("status", "--output", "json")
        expectNoSecret([result.stdout, result.stderr, after.stdout, try await fixture.ledgerText()])
      }
    }
  }
}
