internal import Checksums
internal import PostgreSQL
internal import Synchronization

/// A resumable upload.
struct UploadSession: Sendable {
  enum State: String, ColumnDecodable {
    case open
    case complete
    case cancelled
    case expired

    static func decode(columnText text: String?) -> State? { text.flatMap(State.init) }
  }

  let jobID: Int64
  let file: String
  /// How many bytes are stored. Bytes of the file after these do not count.
  let storedBytes: Int64
  let state: State
}

/// The resumable uploads in the database. A session's ID is a secret, so only its hash is stored.
final class UploadSessions: Sendable {
  private let pool: ConnectionPool
  private let lifetimeSeconds: Int64
  /// The sessions that are receiving a part. A session receives one part at a time.
  private let receiving = Mutex<Set<String>>([])

  init(pool: ConnectionPool, lifetimeSeconds: Int64) {
    self.pool = pool
    self.lifetimeSeconds = lifetimeSeconds
  }

  func isReceiving(_ id: String) -> Bool { receiving.withLock { $0.contains(id) } }

  /// Runs `body` while the session receives no other part.
  /// - Returns: nil if the session is already receiving a part.
  func withExclusiveUse<R>(of id: String, _ body: () async throws -> R) async throws -> R? {
    guard receiving.withLock({ $0.insert(id).inserted }) else { return nil }
    defer { receiving.withLock { _ = $0.remove(id) } }
    return try await body()
  }

  /// Updates `used_at` of the sessions that are receiving a part. Otherwise a session could count as abandoned while it
  /// receives a part that takes long.
  func markReceivingAsUsed() async throws {
    let ids = receiving.withLock { $0 }.map { SHA256.hash($0).hexString }
    guard !ids.isEmpty else { return }
    _ = try await pool.withConnection {
      try await $0.run(
        """
        UPDATE compliance.upload_sessions SET used_at = clock_timestamp()
        WHERE encode(id_sha256, 'hex') = ANY (\(ids)::text[])
        """)
    }
  }

  /// Begins a session.
  /// - Returns: the session's ID.
  func begin(_ jobID: Int64, file: String) async throws -> String {
    var generator = SystemRandomNumberGenerator()
    let id = (0..<32).map { _ in UInt8.random(in: 0...255, using: &generator) }.hexString
    try await pool.withConnection {
      try await $0.executeOne(
        """
        INSERT INTO compliance.upload_sessions (id_sha256, job_id, file, expires_at)
        VALUES (\(SHA256.hash(id)), \(jobID), \(file),
          clock_timestamp() + \(lifetimeSeconds) * interval '1 second')
        """)
    }
    return id
  }

  /// Reads a session.
  /// - Returns: nil if the job has no session with this ID.
  func session(_ id: String, of jobID: Int64) async throws -> UploadSession? {
    try await pool.withConnection {
      try await $0.query(
        """
        SELECT job_id, file, stored_bytes,
               CASE WHEN completed_at IS NOT NULL THEN 'complete'
                    WHEN cancelled_at IS NOT NULL THEN 'cancelled'
                    WHEN expires_at <= clock_timestamp() THEN 'expired' ELSE 'open' END
        FROM compliance.upload_sessions WHERE id_sha256 = \(SHA256.hash(id)) AND job_id = \(jobID)
        """)
    }
    .firstRow(as: Int64.self, String.self, Int64.self, UploadSession.State.self)
    .map { UploadSession(jobID: $0.0, file: $0.1, storedBytes: $0.2, state: $0.3) }
  }

  /// Records how many bytes of the file are on disk.
  func stored(_ bytes: Int64, in id: String) async throws {
    try await change(id, "stored_bytes = \(bytes), used_at = clock_timestamp()")
  }

  func completed(_ id: String) async throws {
    try await change(id, "completed_at = clock_timestamp()")
  }

  func cancelled(_ id: String) async throws {
    try await change(id, "cancelled_at = clock_timestamp()")
  }

  /// Returns the files of the sessions that can still receive parts.
  func openFiles() async throws -> Set<String> {
    Set(
      try await pool.withConnection {
        try await $0.query(
          """
          SELECT file FROM compliance.upload_sessions JOIN compliance.jobs ON id = job_id
          WHERE status = 'created' AND completed_at IS NULL AND cancelled_at IS NULL
            AND expires_at > clock_timestamp()
          """)
      }
      .rows(as: String.self))
  }

  private func change(_ id: String, _ assignment: SQL) async throws {
    try await pool.withConnection {
      guard
        try await $0.run(
          "UPDATE compliance.upload_sessions SET \(assignment) WHERE id_sha256 = \(SHA256.hash(id))"
        ).rowsAffected == 1
      else { throw StorageProblem(.noSuchUpload, "The upload session no longer exists.") }
    }
  }
}
