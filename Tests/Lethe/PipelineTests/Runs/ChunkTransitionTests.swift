import ChunkFiles
import Foundation
import Ledger
import PostgreSQL
import SystemPackage
import TestSupport
import Testing
import Vocabulary

/// The ledger moves a chunk only by the transitions in `ChunkTransition.all`. It refuses all others.
@Suite struct ChunkTransitionTests {
  /// A call that records something about a chunk, and the transitions that the call may make.
  struct Record: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let makes: [ChunkTransition]
    /// The states in which the call succeeds and the chunk's state does not change.
    var stays: [ChunkState] = []
    /// Whether the chunk's job has ended with a result.
    let hasResult: Bool
    let run: @Sendable (ChunkFixture) async throws -> Void
  }

  /// A chunk with one job. The chunk is the only one of its run.
  struct ChunkFixture: Sendable {
    let connection: Connection
    let ledger: ChunkLedger
    let lease: Lease
    let chunk: Chunk
    let jobID: Int64

    func attempt() async throws -> Attempt {
      try #require(try await ledger.liveAttempt(at: chunk))
    }

    func part(_ ids: ClosedRange<Int64>) -> ChunkFile {
      ChunkFile(
        path: "/p", number: 1, firstID: ids.lowerBound, lastID: ids.upperBound, ids: ids.count,
        bytes: 10, sha256: [UInt8](repeating: 0, count: 32))
    }
  }

  static let records: [Record] = [
    Record(testDescription: "jobCreated", makes: [.jobCreated], hasResult: false) { fixture in
      _ = try await fixture.ledger.jobCreated(
        fixture.attempt(), of: fixture.chunk, apiID: "\(fixture.jobID)", at: nil)
    },
    Record(testDescription: "fileUploaded", makes: [.fileUploaded], hasResult: false) { fixture in
      try await fixture.ledger.fileUploaded(fixture.attempt(), of: fixture.chunk)
    },
    Record(testDescription: "jobCompleted", makes: [.jobCompleted], hasResult: false) { fixture in
      try await fixture.ledger.jobCompleted(fixture.attempt(), of: fixture.chunk)
    },
    Record(testDescription: "resultCollected", makes: [.resultCollected], hasResult: false) {
      fixture in
      let attempt = try await fixture.attempt()
      _ = try await fixture.connection.withTransaction { transaction in
        try await fixture.ledger.resultCollected(
          attempt, of: fixture.chunk,
          .init(bytes: 0, lines: 0, quarantined: 0, sha256: [UInt8](repeating: 0, count: 32)),
          on: transaction)
      }
    },
    Record(testDescription: "chunkApplied", makes: [.applied], hasResult: true) { fixture in
      try await fixture.connection.withTransaction { transaction in
        try await fixture.ledger.chunkApplied(
          fixture.chunk, after: 0, jobID: fixture.jobID, on: transaction)
      }
    },
    Record(testDescription: "jobFailed", makes: [.jobFailed], stays: [.exported], hasResult: false)
    {
      fixture in
      _ = try await fixture.ledger.jobFailed(
        fixture.attempt(), of: fixture.chunk, why: "test", attemptsMax: 2)
    },
    Record(testDescription: "the last jobFailed", makes: [.failed], hasResult: false) { fixture in
      _ = try await fixture.ledger.jobFailed(
        fixture.attempt(), of: fixture.chunk, why: "test", attemptsMax: 1)
    },
    Record(testDescription: "chunkCut", makes: [.cut], stays: [.exported], hasResult: false) {
      fixture in
      try await fixture.ledger.chunkCut(
        fixture.chunk, after: fixture.attempt(), why: "test",
        into: (fixture.part(1...5), fixture.part(6...10)))
    },
    Record(testDescription: "chunkFailed", makes: [.failed], hasResult: false) { fixture in
      try await fixture.ledger.chunkFailed(fixture.chunk, why: "test", isRetryable: true)
    },
    Record(testDescription: "chunkSetAside", makes: [.failed], hasResult: true) { fixture in
      try await fixture.ledger.chunkSetAside(
        fixture.chunk, why: "test", remedy: "test", isRetryable: true)
    },
    Record(
      testDescription: "runGivenUp", makes: [.failed], stays: [.applied, .failed], hasResult: true
    ) { fixture in
      try await RunLedger(connection: fixture.connection)
        .runGivenUp(fixture.chunk.runID, lease: fixture.lease)
    },
    Record(testDescription: "retried", makes: [.retried], hasResult: true) { fixture in
      try await fixture.ledger.retried(fixture.chunk, ids: nil) { ids, _ in ids }
    },
    Record(testDescription: "chunkReopened", makes: [.quarantineRead], hasResult: true) { fixture in
      _ = try await fixture.connection.withTransaction { transaction in
        try await fixture.ledger.chunkReopened(
          fixture.chunk, jobID: fixture.jobID, events: 0, stored: { ids, _ in ids }, on: transaction
        )
      }
    },
  ]

  @Test(arguments: records)
  func onlyDefinedTransitionsAreMade(record: Record) async throws {
    try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection in
        for state in ChunkState.allCases {
          let fixture = try await Self.fixture(in: state, hasResult: record.hasResult, connection)
          let before = try await Self.row(fixture)
          let error = await Self.failure { try await record.run(fixture) }
          let after = try await fixture.ledger.chunk(fixture.chunk.id).state
          if let transition = record.makes.first(where: { $0.from.contains(state) }) {
            #expect(error == nil && after == transition.to, "from \(state): \(error as Any)")
          } else if record.stays.contains(state) {
            #expect(error == nil && after == state, "from \(state): \(error as Any)")
          } else {
            #expect((error as? LedgerError)?.code == .leaseLost, "from \(state): \(error as Any)")
            #expect(try await Self.row(fixture) == before, "from \(state)")
          }
        }
      }
    }
  }

  private static func failure(of body: () async throws -> Void) async -> (any Error)? {
    do {
      try await body()
      return nil
    } catch { return error }
  }

  private static func row(_ fixture: ChunkFixture) async throws -> String {
    try await fixture.connection.query(
      "SELECT c::text FROM lethe.chunk AS c WHERE chunk_id = \(fixture.chunk.id)"
    ).onlyRow(as: String.self)
  }

  /// Creates a chunk in the given state, with a job.
  /// - Parameter hasResult: whether the job has ended with a result.
  private static func fixture(
    in state: ChunkState, hasResult: Bool, _ connection: Connection
  ) async throws -> ChunkFixture {
    let lease = Lease()
    let statesSoFar = ChunkState.allCases.prefix { $0 != state } + [state]
    let times = ["created_at", "uploaded_at", "completed_at", "collected_at", "applied_at"]
    // A chunk that failed with a result had reached `collected`.
    let reached = state == .failed ? (hasResult ? 4 : 0) : statesSoFar.count - 1
    let isCollected = reached >= 4
    let columns: [SQL] = times.prefix(reached).map { ", \(identifier: $0)" }
    let values: [SQL] = columns.map { _ in ", now()" }
    let runID = try await connection.query(
      """
      INSERT INTO lethe.run (key, pipeline, definition, work_directory, lease)
      VALUES (substr(md5(\(lease.token)), 1, 12), 'p', '{}', '/w', \(lease.token)::uuid)
      RETURNING run_id /* keeps holds and traces */
      """
    ).onlyRow(as: Int64.self)
    try await connection.execute(
      """
      INSERT INTO lethe.export (run_id, dataset, type, chunks) VALUES (\(runID), 'd', 'tweets', 1)
      """)
    let chunkID = try await connection.query(
      """
      INSERT INTO lethe.chunk
        (run_id, dataset, type, number, first_id, last_id, ids, bytes, sha256, path, lease, state,
         events, quarantined, applied_through, failed_at, failure, is_retryable
         \(columns.joined()))
      SELECT \(runID), 'd', 'tweets', 1, 1, 10, 10, 10, sha256(''), '/p', \(lease.token)::uuid,
             \(state.rawValue)::lethe.chunk_state, n, n, n,
             CASE WHEN failed THEN now() END, CASE WHEN failed THEN 'why' END,
             CASE WHEN failed THEN true END \(values.joined())
      FROM (SELECT CASE WHEN \(isCollected)::boolean THEN 0 END AS n, \(state == .failed)::boolean AS failed) AS it
      RETURNING chunk_id
      """
    ).onlyRow(as: Int64.self)
    let jobID = try await connection.query(
      """
      INSERT INTO lethe.job
        (chunk_id, attempt, name, api_id, created_at, asked_at, ended_at, result_sha256, silence)
      SELECT \(chunkID), 1, 'job-' || \(chunkID), CASE WHEN there THEN \(chunkID)::text END,
             CASE WHEN there THEN now() END, CASE WHEN there THEN now() END,
             CASE WHEN there THEN now() END, CASE WHEN there THEN sha256('') END,
             CASE WHEN there THEN 'none'::lethe.silence END
      FROM (SELECT \(hasResult)::boolean AS there) AS result RETURNING job_id
      """
    ).onlyRow(as: Int64.self)
    let ledger = ChunkLedger(connection: connection, lease: lease)
    return ChunkFixture(
      connection: connection, ledger: ledger, lease: lease,
      chunk: try await ledger.chunk(chunkID), jobID: jobID)
  }

  /// A restored backup can be on another cluster than the export. Both halves have to know the cluster of the export.
  @Test func bothHalvesOfAChunkHaveItsExportAndAllTheirAttempts() async throws {
    try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection in
        let fixture = try await Self.fixture(in: .exported, hasResult: false, connection)
        try await connection.execute(
          "UPDATE lethe.chunk SET exported_cluster = 7, exported_snapshot = '5:5:'")
        _ = try await fixture.ledger.jobFailed(
          fixture.attempt(), of: fixture.chunk, why: "test", attemptsMax: 3)
        try await fixture.ledger.chunkCut(
          try await fixture.ledger.chunk(fixture.chunk.id), after: nil, why: "test",
          into: (fixture.part(1...5), fixture.part(6...10)))
        let halves = try await connection.query(
          """
          SELECT concat_ws(' ', number, exported_cluster, exported_snapshot, attempts_before)
          FROM lethe.chunk ORDER BY number
          """
        ).rows(as: String.self)
        #expect(halves == ["1 7 5:5: 1", "2 7 5:5: 0"])
      }
    }
  }

  /// A process that resumes a run leaves the chunks of the team's other processes to them.
  @Test func aTakeOverLeavesTheChunksOfTeammates() async throws {
    try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection in
        let fixture = try await Self.fixture(in: .exported, hasResult: false, connection)
        try await WorkerLedger(lease: fixture.lease, seconds: 60)
          .begin(
            "test",
            ProcessIdentity(
              host: "elsewhere", processID: 812, bootID: "other", pidNamespace: "other", start: 1),
            on: connection)
        let other = Lease()
        let runs = RunLedger(connection: connection)
        func chunkLease() async throws -> String {
          try await connection.query("SELECT lease::text FROM lethe.chunk").onlyRow(as: String.self)
        }
        try await runs.takeOver(fixture.chunk.runID, lease: other)
        #expect(try await chunkLease() == fixture.lease.token)
        try await connection.execute("DELETE FROM lethe.worker")
        try await runs.takeOver(fixture.chunk.runID, lease: other)
        #expect(try await chunkLease() == other.token)
      }
    }
  }

  /// Events that changed nothing have only a trace. Their reason was applied, too.
  @Test func theReasonOfATraceWasApplied() async throws {
    try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection in
        let fixture = try await Self.fixture(in: .applied, hasResult: true, connection)
        try await connection.execute(
          """
          INSERT INTO lethe.trace
            (chunk_id, batch, type, reason, action, job_id, applied_at, events, first_id, last_id, distances)
          VALUES (\(fixture.chunk.id), 1, 'tweets', 'suspended', 'ignore', \(fixture.jobID), now(), 1, 5, 5, '\\x00')
          """)
        let applied = try await RunLedger(connection: connection)
          .appliedReasons(of: fixture.chunk.runID)
        #expect(applied == [.init(dataset: "d", reason: "suspended")])
      }
    }
  }

  /// Each transition of `ChunkTransition.all` occurs in `records`, and each state has a transition that leaves it.
  @Test func eachTransitionIsTestedAndEachStateCanBeLeft() {
    for transition in ChunkTransition.all {
      #expect(Self.records.contains { $0.makes.contains(transition) }, "\(transition)")
    }
    for state in ChunkState.allCases {
      #expect(ChunkTransition.all.contains { $0.from.contains(state) }, "from \(state)")
    }
  }
}
