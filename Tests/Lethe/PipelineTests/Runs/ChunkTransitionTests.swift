import ChunkFiles
import Foundation
import Ledger
import PostgreSQL
import SystemPackage
import TestSupport
import Testing
import Vocabulary

/// The ledger moves a chunk only along the transitions of its table. It refuses all others.
@Suite struct ChunkTransitionTests {
  /// One thing that the ledger records about a chunk, and the transitions that it may make.
  struct Record: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let makes: [ChunkTransition]
    /// The states in which it is recorded and the chunk does not move.
    var stays: [ChunkState] = []
    /// Whether the chunk's job has ended with a result.
    let hasResult: Bool
    let run: @Sendable (Desk) async throws -> Void
  }

  /// A chunk with one job, alone in its run.
  struct Desk: Sendable {
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
    Record(testDescription: "jobCreated", makes: [.jobCreated], hasResult: false) { desk in
      _ = try await desk.ledger.jobCreated(
        desk.attempt(), of: desk.chunk, apiID: "\(desk.jobID)", at: nil)
    },
    Record(testDescription: "uploadRecorded", makes: [.fileUploaded], hasResult: false) { desk in
      try await desk.ledger.uploadRecorded(desk.attempt(), of: desk.chunk)
    },
    Record(testDescription: "jobCompleted", makes: [.jobCompleted], hasResult: false) { desk in
      try await desk.ledger.jobCompleted(desk.attempt(), of: desk.chunk)
    },
    Record(testDescription: "resultCollected", makes: [.resultCollected], hasResult: false) {
      desk in
      let attempt = try await desk.attempt()
      _ = try await desk.connection.withTransaction { transaction in
        try await desk.ledger.resultCollected(
          attempt, of: desk.chunk,
          .init(bytes: 0, lines: 0, kept: 0, sha256: [UInt8](repeating: 0, count: 32)),
          on: transaction)
      }
    },
    Record(testDescription: "chunkApplied", makes: [.applied], hasResult: true) { desk in
      try await desk.connection.withTransaction { transaction in
        try await desk.ledger.chunkApplied(
          desk.chunk, after: 0, jobID: desk.jobID, on: transaction)
      }
    },
    Record(testDescription: "jobFailed", makes: [.jobFailed], stays: [.exported], hasResult: false)
    {
      desk in
      _ = try await desk.ledger.jobFailed(
        desk.attempt(), of: desk.chunk, why: "test", attemptsMax: 2)
    },
    Record(testDescription: "the last jobFailed", makes: [.failed], hasResult: false) { desk in
      _ = try await desk.ledger.jobFailed(
        desk.attempt(), of: desk.chunk, why: "test", attemptsMax: 1)
    },
    Record(testDescription: "chunkCut", makes: [.cut], stays: [.exported], hasResult: false) {
      desk in
      try await desk.ledger.chunkCut(
        desk.chunk, after: desk.attempt(), why: "test", into: (desk.part(1...5), desk.part(6...10)))
    },
    Record(testDescription: "chunkFailed", makes: [.failed], hasResult: false) { desk in
      try await desk.ledger.chunkFailed(desk.chunk, why: "test", isRetryable: true)
    },
    Record(testDescription: "chunkSetAside", makes: [.failed], hasResult: true) { desk in
      try await desk.ledger.chunkSetAside(
        desk.chunk, why: "test", remedy: "test", isRetryable: true)
    },
    Record(
      testDescription: "runGivenUp", makes: [.failed], stays: [.applied, .failed], hasResult: true
    ) { desk in
      try await RunLedger(connection: desk.connection)
        .runGivenUp(desk.chunk.runID, lease: desk.lease)
    },
    Record(testDescription: "retried", makes: [.retried], hasResult: true) { desk in
      try await desk.ledger.retried(desk.chunk, ids: nil) { ids, _ in ids }
    },
    Record(testDescription: "chunkReopened", makes: [.quarantineRead], hasResult: true) { desk in
      _ = try await desk.connection.withTransaction { transaction in
        try await desk.ledger.chunkReopened(
          desk.chunk, jobID: desk.jobID, events: 0, stored: { ids, _ in ids }, on: transaction)
      }
    },
  ]

  @Test(arguments: records)
  func aTransitionThatIsNotInTheTableIsRefused(record: Record) async throws {
    try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection in
        for state in ChunkState.allCases {
          let desk = try await Self.desk(in: state, hasResult: record.hasResult, connection)
          let before = try await Self.row(desk)
          let error = await Self.failure { try await record.run(desk) }
          let after = try await desk.ledger.chunk(desk.chunk.id).state
          if let transition = record.makes.first(where: { $0.from.contains(state) }) {
            #expect(error == nil && after == transition.to, "from \(state): \(error as Any)")
          } else if record.stays.contains(state) {
            #expect(error == nil && after == state, "from \(state): \(error as Any)")
          } else {
            #expect((error as? LedgerError)?.code == .leaseLost, "from \(state): \(error as Any)")
            #expect(try await Self.row(desk) == before, "from \(state)")
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

  private static func row(_ desk: Desk) async throws -> String {
    try await desk.connection.query(
      "SELECT c::text FROM lethe.chunk AS c WHERE chunk_id = \(desk.chunk.id)"
    ).onlyRow(as: String.self)
  }

  /// A chunk in the given state. Its job fits the thing to record.
  private static func desk(
    in state: ChunkState, hasResult: Bool, _ connection: Connection
  ) async throws -> Desk {
    let lease = Lease()
    let wasThere = ChunkState.allCases.prefix { $0 != state } + [state]
    let times = ["created_at", "uploaded_at", "completed_at", "collected_at", "applied_at"]
    // A chunk that failed with a result had reached `collected`.
    let reached = state == .failed ? (hasResult ? 4 : 0) : wasThere.count - 1
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
    return Desk(
      connection: connection, ledger: ledger, lease: lease,
      chunk: try await ledger.chunk(chunkID), jobID: jobID)
  }

  /// Each transition of the table is made by a record above, and the records make no other transition.
  @Test func theTableHasExactlyTheRecordedTransitions() {
    for transition in ChunkTransition.all {
      #expect(Self.records.contains { $0.makes.contains(transition) }, "\(transition)")
    }
    for state in ChunkState.allCases {
      #expect(ChunkTransition.all.contains { $0.from.contains(state) }, "from \(state)")
    }
  }
}
