import PostgreSQL
import TestSupport
import Testing

/// Tests that the ledger's constraints accept valid rows and refuse invalid rows.
@Suite struct LedgerChecksTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let sql: String
    let constraint: String?

    init(_ what: String, _ sql: String, _ constraint: String? = nil) {
      testDescription = what
      self.sql = sql
      self.constraint = constraint
    }
  }

  private static let run = """
    INSERT INTO lethe.run (key, pipeline, definition, work_directory, lease)
    VALUES ('0123456789ab', 'p', '{}', '/w', gen_random_uuid());
    """

  private static func chunk(
    _ columns: String = "", _ values: String = "", first: String = "1", last: String = "5",
    ids: String = "5", bytes: String = "10", sha: String = "sha256('')"
  ) -> String {
    """
    INSERT INTO lethe.chunk (run_id, dataset, type, number, first_id, last_id, ids, bytes, sha256,
                             path, lease\(columns.isEmpty ? "" : ", " + columns))
    SELECT run_id, 'd', 'tweets', 1, \(first), \(last), \(ids), \(bytes), \(sha), '/p', lease
           \(values.isEmpty ? "" : ", " + values)
    FROM lethe.run;
    """
  }

  private static func job(_ columns: String = "", _ values: String = "", attempt: Int = 1) -> String
  {
    """
    INSERT INTO lethe.job (chunk_id, attempt, name\(columns.isEmpty ? "" : ", " + columns))
    SELECT chunk_id, \(attempt), 'job-' || gen_random_uuid()\(values.isEmpty ? "" : ", " + values) FROM lethe.chunk;
    """
  }

  private static let all = "created_at, uploaded_at, completed_at, collected_at"

  private static let valid: [Case] = [
    Case("a plain run", run),
    Case("a finished run", run + "UPDATE lethe.run SET status = 'done', finished_at = now();"),
    Case("a plain chunk", run + chunk()),
    Case("a created chunk", run + chunk("state, created_at", "'created', now()")),
    Case(
      "a collected chunk",
      run
        + chunk(
          "state, \(all), events, quarantined, applied_through",
          "'collected', now(), now(), now(), now(), 0, 0, 0")
    ),
    Case(
      "a chunk that failed early",
      run + chunk("state, failed_at, failure, is_retryable", "'failed', now(), 'no', true")
    ),
    Case("a job", run + chunk() + job()),
    Case(
      "a second job after the first has ended",
      run + chunk() + job("ended_at, failure", "now(), 'dead'") + job(attempt: 2)
    ),
  ]

  @Test(arguments: valid)
  func aValidRowIsAccepted(row: Case) async throws {
    try await withTestDatabase(.ledger) { database in
      try await database.withConnection { try await $0.runScript(SQL(trusted: row.sql)) }
    }
  }

  private static let invalid: [Case] = [
    Case(
      "a run's key with capital letters", run.replacing("0123456789ab", with: "0123456789AB"),
      "run_key_check"),
    Case(
      "a done run without a finish time", run + "UPDATE lethe.run SET status = 'done';", "run_check"
    ),
    Case(
      "a running run with a finish time", run + "UPDATE lethe.run SET finished_at = now();",
      "run_check"
    ),
    Case(
      "a failed run without a failure",
      run + "UPDATE lethe.run SET status = 'failed', finished_at = now();", "run_check1"
    ),
    Case("a created chunk without its time", run + chunk("state", "'created'"), "chunk_check2"),
    Case(
      "an exported chunk with a creation time", run + chunk("created_at", "now()"), "chunk_check2"),
    Case(
      "an uploaded chunk without its time", run + chunk("state, created_at", "'uploaded', now()"),
      "chunk_check3"
    ),
    Case(
      "a complete chunk without its time",
      run + chunk("state, created_at, uploaded_at", "'complete', now(), now()"), "chunk_check4"
    ),
    Case(
      "a collected chunk without its time",
      run
        + chunk("state, created_at, uploaded_at, completed_at", "'collected', now(), now(), now()"),
      "chunk_check5"
    ),
    Case(
      "a collected chunk without counts",
      run + chunk("state, \(all)", "'collected', now(), now(), now(), now()"), "chunk_check10"
    ),
    Case(
      "an applied chunk without its time",
      run
        + chunk(
          "state, \(all), events, quarantined, applied_through",
          "'applied', now(), now(), now(), now(), 0, 0, 0"), "chunk_check6"
    ),
    Case(
      "a failed chunk without its time",
      run + chunk("state, failure, is_retryable", "'failed', 'no', true"),
      "chunk_check7"
    ),
    Case(
      "a failed chunk without a failure",
      run + chunk("state, failed_at, is_retryable", "'failed', now(), true"),
      "chunk_check8"
    ),
    Case(
      "a failed chunk without is_retryable",
      run + chunk("state, failed_at, failure", "'failed', now(), 'no'"), "chunk_check9"
    ),
    Case(
      "a failure of a chunk that has not failed", run + chunk("failure", "'no'"), "chunk_check8"),
    Case("a last ID before the first ID", run + chunk(first: "6", ids: "1"), "chunk_check"),
    Case("more IDs than the range has", run + chunk(ids: "6"), "chunk_check1"),
    Case("an ID below one", run + chunk(first: "0"), "chunk_first_id_check"),
    Case("a chunk without IDs", run + chunk(ids: "0"), "chunk_ids_check"),
    Case("an incomplete checksum", run + chunk(sha: "'\\x00'"), "chunk_sha256_check"),
    Case("an attempt with the number 0", run + chunk() + job(attempt: 0), "job_attempt_check"),
    Case("an API ID without a creation time", run + chunk() + job("api_id", "'12'"), "job_check"),
    Case(
      "a creation time without an API ID", run + chunk() + job("created_at", "now()"), "job_check"),
    Case("a failure of a live job", run + chunk() + job("failure", "'no'"), "job_check1"),
    Case(
      "an API ID that is not a number", run + chunk() + job("api_id, created_at", "'1a', now()"),
      "job_api_id_check"
    ),
    Case("two live jobs of a chunk", run + chunk() + job() + job(attempt: 2), "job_alive"),
    Case(
      "the same attempt twice", run + chunk() + job("ended_at", "now()") + job(),
      "job_chunk_id_attempt_key"
    ),
  ]

  @Test(arguments: invalid)
  func anInvalidRowIsRefused(row: Case) async throws {
    try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection throws in
        do {
          try await connection.runScript(SQL(trusted: row.sql))
          Issue.record("the database accepted \(row.testDescription)")
        } catch let error as PostgreSQLError {
          let isViolation = error.state == .checkViolation || error.state == .uniqueViolation
          #expect(isViolation, "\(error)")
          #expect(error.table?.hasPrefix("lethe.") == true)
          #expect(error.constraint == row.constraint, "\(error)")
        }
      }
    }
  }
}
