import Foundation
import SQLText
import Synchronization
import TestSupport
import Testing

/// Tests of responses about one job that the ledger cannot store. Each response affects only its own chunk.
@Suite struct OddResponseTests {
  /// The part of a job's name that only chunk 3's jobs have. Chunks 1 to 10 have ten posts each. Chunk 3 has the
  /// IDs 21 to 30. The posts 24 and 28 must be deleted or hidden.
  private static let ofThirdChunk = "-c3-"

  private static func expectOnlyTheThirdChunkSetAside(
    _ fixture: RefusalFixture, _ result: Program.Result, messageParts: [String],
    _ location: SourceLocation = #_sourceLocation
  ) async throws {
    #expect(result.code == 5, "\(result.stderr)", sourceLocation: location)
    for part in messageParts {
      #expect(result.stderr.contains(part), "\(part): \(result.stderr)", sourceLocation: location)
    }
    for text in ["INSERT", "UPDATE", "job_api_id"] {
      #expect(!result.stderr.contains(text), "\(result.stderr)", sourceLocation: location)
    }
    #expect(try await fixture.unfinishedPosts() == [24, 28], sourceLocation: location)
    #expect(try await fixture.damagedPosts() == 0, sourceLocation: location)
    #expect(try await fixture.usersLeft() == "1008 protected", sourceLocation: location)
    let failed = try await fixture.base.value(
      "SELECT string_agg(chunk_id::text, ' ') FROM lethe.chunk WHERE state = 'failed'",
      as: String?.self)
    #expect(failed == "3", sourceLocation: location)
  }

  private static func jobs(of chunk: Int, _ fixture: RefusalFixture) async throws -> Int {
    try await fixture.base.value(
      "SELECT count(*) FROM lethe.job WHERE chunk_id = \(chunk)", as: Int.self)
  }

  @Test func aRepeatedJobIDSetsItsChunkAside() async throws {
    try await RefusalFixture.with(configure: {
      $0.responseID = { $0.contains(Self.ofThirdChunk) ? "1000" : nil }
    }) { fixture in
      let file = try fixture.file()
      let result = try await fixture.lethe("run", file)
      try await Self.expectOnlyTheThirdChunkSetAside(
        fixture, result, messageParts: ["job 1000, an ID that it has used before (for lethe-"])
      #expect(try await Self.jobs(of: 3, fixture) == 3)
      // The next run creates a job for the chunk again.
      let next = try await fixture.lethe("run", file)
      #expect(next.code == 0, "\(next.stderr)")
      #expect(try await fixture.unfinishedPosts() == [])
    }
  }

  @Test func aJobIDThatIsRepeatedOnceCostsOneAttempt() async throws {
    try await RefusalFixture.with(configure: {
      $0.responseID = { $0.contains("-c3-a1-") ? "1000" : nil }
    }) { fixture in
      let result = try await fixture.lethe("run", try fixture.file())
      #expect(result.code == 0, "\(result.stderr)")
      #expect(try await Self.jobs(of: 3, fixture) == 2)
      #expect(try await fixture.base.ledgerFaults() == [])
      #expect(try await fixture.unfinishedPosts() == [])
    }
  }

  /// A cache between Lethe and the API sends an old response. The API has created the job and lists it.
  @Test func aJobWithACachedCreationResponseIsFoundInTheListing() async throws {
    try await RefusalFixture.with(configure: {
      $0.responseID = { $0.contains(Self.ofThirdChunk) ? "1000" : nil }
      $0.listing = { $0 }
    }) { fixture in
      let result = try await fixture.lethe("run", try fixture.file())
      #expect(result.code == 0, "\(result.stderr)")
      #expect(result.stderr.contains("adopted"), "\(result.stderr)")
      #expect(try await Self.jobs(of: 3, fixture) == 1)
      #expect(try await fixture.unfinishedPosts() == [])
    }
  }

  /// The response to a creation describes a job that already received an upload, or a job of another type.
  @Test(arguments: [
    (#""status": "in_progress""#, "nothing was uploaded to it"),
    (#""status": "complete""#, "nothing was uploaded to it"),
    (#""type": "users", "status": "created""#, "was requested"),
  ])
  func aJobThatCannotBelongToTheChunkCostsOneAttempt(fields: String, messagePart: String)
    async throws
  {
    try await RefusalFixture.with(configure: {
      $0.created = {
        $0 == 1 ? .init(status: 200, json: "{\"data\": {\"id\": \"999\", \(fields)}}") : nil
      }
      $0.intercept = { call in
        // If Lethe accepted job 999, its result would name no ID.
        call.kind == .get && call.name == nil
          ? .init(status: 200, json: "{\"data\": {\"id\": \"999\", \"status\": \"complete\"}}")
          : nil
      }
    }) { fixture in
      let result = try await fixture.lethe("run", try fixture.file())
      #expect(result.code == 0, "\(result.stderr)")
      #expect(result.stderr.contains(messagePart), "\(result.stderr)")
      #expect(try await fixture.unfinishedPosts() == [])
      #expect(try await fixture.usersLeft() == "1008 protected")
    }
  }

  static let unusableIDs = [
    "", "abc", "12345678901234567890", "-1", "1.5", "1000/../1001", "10\u{0}00", "\u{0663}\u{0664}",
    String(repeating: "9", count: 100_000),
  ]

  @Test(arguments: sampled(unusableIDs, 4))
  func anInvalidJobIDSetsItsChunkAside(id: String) async throws {
    try await RefusalFixture.with(configure: {
      $0.responseID = { $0.contains(Self.ofThirdChunk) ? id : nil }
    }) { fixture in
      let result = try await fixture.lethe("run", try fixture.file())
      try await Self.expectOnlyTheThirdChunkSetAside(
        fixture, result, messageParts: ["no usable ID"])
      #expect(try await Self.jobs(of: 3, fixture) == 3)
    }
  }

  /// The response to the creation is lost. The listing contains the job's name with an ID that is invalid or belongs to
  /// another job.
  @Test(arguments: sampled(unusableIDs + ["1000"], 4))
  func aListedJobWithAnUnusableIDIsNotUsed(id: String) async throws {
    try await RefusalFixture.with(configure: {
      $0.created = { $0 == 3 ? .init(status: 500, json: "{}") : nil }
      $0.listing = { entries in
        entries.map { entry in
          guard
            var job = try? JSONSerialization.jsonObject(with: Data(entry.utf8)) as? [String: Any]
          else { return entry }
          job["id"] = id
          let odd = (try? JSONSerialization.data(withJSONObject: job)) ?? Data()
          return String(decoding: odd, as: UTF8.self)
        }
      }
    }) { fixture in
      let result = try await fixture.lethe("run", try fixture.file())
      #expect(result.code == 0, "\(result.stderr)")
      #expect(try await fixture.unfinishedPosts() == [])
      #expect(try await fixture.usersLeft() == "1008 protected")
    }
  }

  /// The operator has added a constraint to the ledger. It refuses the job ID from a response.
  @Test func aResponseThatTheLedgerRefusesSetsItsChunkAside() async throws {
    try await RefusalFixture.with { fixture in
      try await fixture.base.execute(
        """
        ALTER TABLE lethe.job
          ADD CONSTRAINT odd CHECK (name NOT LIKE '%\(trusted: Self.ofThirdChunk)%' OR api_id IS NULL)
        """)
      let result = try await fixture.lethe("run", try fixture.file())
      try await Self.expectOnlyTheThirdChunkSetAside(
        fixture, result, messageParts: ["odd", "23514"])
    }
  }

  /// In run 1, all posts are clean, and the jobs have an impossible creation time. In run 2, the answers are correct.
  @Test(arguments: [
    "9999-12-31T23:59:59.999Z", "2999-01-01T00:00:00+00:00", "0000-01-01T00:00:00Z",
    "1970-01-01T00:00:00.000Z", "yesterday",
  ])
  func anImpossibleCreationTimeDoesNotDecideWhichAnswerIsNewest(time: String) async throws {
    let run = Mutex(1)
    try await RefusalFixture.with(
      { ids in run.withLock { $0 } == 1 ? "" : RefusalFixture.answers(ids) },
      configure: {
        $0.fields = { _ in run.withLock { $0 } == 1 ? ["created_at": time] : [:] }
      }
    ) { fixture in
      let file = try fixture.file()
      let first = try await fixture.lethe("run", file)
      #expect(first.code == 0, "\(first.stderr)")
      #expect(
        first.stderr.contains("which is impossible") == (time != "yesterday"), "\(first.stderr)")
      run.withLock { $0 = 2 }
      let second = try await fixture.lethe("run", file)
      #expect(second.code == 0, "\(second.stderr)")
      #expect(try await fixture.unfinishedPosts() == [])
      #expect(try await fixture.usersLeft() == "1008 protected")
      #expect(try await fixture.lethe("audit", "show", "4").code == 0)
    }
  }
}
