import Checksums
import Foundation
import Ledger
import PostgreSQL
import Vocabulary

/// Reads the chain from its first record to its last. It checks the numbers, the links and the hashes, and compares the
/// records with the ledger.
struct ChainVerifier {
  let session: Transaction
  var result = AuditVerification()
  /// The `chunk_id_max` of the chain's first record. Chunks up to this ID existed when the chain began and might have
  /// been applied before, so they need no record.
  private(set) var chunkIDMax: Int64 = 0
  /// The time before which event records were pruned. Nil if none were.
  private(set) var prunedThrough: String?
  private var last: (number: Int64, sha256: [UInt8]) = (0, [])

  private static let recordsPerStatement: Int64 = 500

  init(session: Transaction) {
    self.session = session
  }

  mutating func walk() async throws {
    // The first record links to the hash of the empty text.
    last.sha256 = try await session.query("SELECT sha256('')").onlyRow(as: [UInt8].self)
    while case let page = try await records(after: last.number), !page.isEmpty {
      for record in page { try await verify(record) }
    }
    if result.records == 0, try await hasEvidence() {
      result.addFault(
        "lethe.seal", "number = 1", "the chain is empty: its first record is missing",
        writtenAt: nil)
    }
    try await requireSealOfEachAppliedChunk()
    try await requireSealOfEachRepair()
    try await requireSealOfEachApproval()
    try await requireSealOfEachAdoption()
  }

  /// Whether the ledger contains rows that cannot exist before the chain has begun. If the ledger's schema was loaded
  /// from a dump, the chain begins with the first run, and is empty until then.
  private func hasEvidence() async throws -> Bool {
    try await session.query(
      """
      SELECT EXISTS (SELECT FROM lethe.batch) OR EXISTS (SELECT FROM lethe.event)
          OR EXISTS (SELECT FROM lethe.tombstone) OR EXISTS (SELECT FROM lethe.approval)
          OR EXISTS (SELECT FROM lethe.withdrawn_tombstone) OR EXISTS (SELECT FROM lethe.run)
      """
    ).onlyRow(as: Bool.self)
  }

  mutating func require(_ expected: String) async throws {
    let exists = try await session.query(
      "SELECT EXISTS (SELECT FROM lethe.seal WHERE sha256 = decode(\(expected), 'hex'))"
    ).onlyRow(as: Bool.self)
    guard !exists else { return }
    result.addFault(
      "lethe.seal", "encode(sha256, 'hex') = '\(expected)'",
      "no record has the expected hash: the chain's last records were deleted, or records were rewritten",
      writtenAt: nil)
  }

  // MARK: One record

  struct Record {
    let number: Int64
    let kind: String
    let jobID: Int64?
    let chunkID: Int64?
    let content: String
    let previous: [UInt8]
    let sha256: [UInt8]
    let sealedAt: String
    /// Whether the hash matches the link and the content.
    let isHashValid: Bool
    /// The content that a job's record would have if it were created now. Nil for other records, or if the job, its
    /// chunk or its run is missing.
    let contentNow: String?
    /// Whether the record's chunk is the chunk of its job. True if the record has no job, or if the job is missing.
    let isChunkOfJob: Bool
    /// Whether the chunk is applied and has no later record.
    let isCurrent: Bool

    var key: String { "number = \(number)" }
  }

  private func records(after number: Int64) async throws -> [Record] {
    // Computes the hash with PostgreSQL's own functions, because the owner of the ledger could replace
    // lethe.seal_hash.
    try await session.query(
      """
      SELECT s.number, s.kind, s.job_id, s.chunk_id, s.content, s.previous, s.sha256,
             \(AuditLedger.utc("s.sealed_at")) AS sealed_at,
             s.sha256 = sha256(s.previous || convert_to(s.content, 'UTF8')) AS is_hash_valid,
             lethe.job_content(s.job_id) AS content_now, j.chunk_id IS NULL
               OR j.chunk_id = s.chunk_id AS is_chunk_of_job,
             coalesce(c.state = \(state: .applied) AND s.number = (
               SELECT max(n.number) FROM lethe.seal AS n WHERE n.chunk_id = s.chunk_id),
                 false) AS is_current
      FROM (SELECT * FROM lethe.seal WHERE number > \(number) ORDER BY number
        LIMIT \(Self.recordsPerStatement)) AS s
      LEFT JOIN lethe.job AS j ON j.job_id = s.job_id
      LEFT JOIN lethe.chunk AS c ON c.chunk_id = s.chunk_id
      ORDER BY s.number
      """
    ).rows.map { row in
      try Record(
        number: row["number"], kind: row["kind"], jobID: row["job_id"], chunkID: row["chunk_id"],
        content: row["content"], previous: row["previous"],
        sha256: row["sha256"], sealedAt: row["sealed_at"], isHashValid: row["is_hash_valid"],
        contentNow: row["content_now"],
        isChunkOfJob: row["is_chunk_of_job"], isCurrent: row["is_current"])
    }
  }

  private mutating func verify(_ record: Record) async throws {
    result.records += 1
    verifyLink(record)
    if !record.isHashValid {
      result.addFault(
        "lethe.seal", record.key, "its hash does not match its content", writtenAt: record.sealedAt)
    }
    switch record.kind {
    case "begin": verifyBegin(record)
    case "prune": verifyPrune(record)
    // The ledger has nothing to compare with an operator's release, so only the link and the hash are checked.
    case "release": break
    case "approval": try await verifyApproval(record)
    case "adoption": try await verifyAdoption(record)
    case "repair": try await verifyRepair(record)
    default: try await verifyJob(record)
    }
    last = (record.number, record.sha256)
    result.head = .init(
      number: record.number, sha256: record.sha256.hexString, sealedAt: record.sealedAt)
  }

  private mutating func verifyLink(_ record: Record) {
    if record.number != last.number + 1 {
      let (first, end) = (last.number + 1, record.number - 1)
      result.addFault(
        "lethe.seal", first == end ? "number = \(first)" : "number BETWEEN \(first) AND \(end)",
        first == end ? "the record is missing" : "\(end - first + 1) records are missing",
        writtenAt: result.head?.sealedAt)
    } else if record.previous != last.sha256 {
      result.addFault(
        "lethe.seal", "number IN (\(last.number), \(record.number))",
        record.number == 1
          ? "it is not the first record of a chain"
          : "record \(record.number) does not match the current hash of record \(last.number)",
        writtenAt: record.sealedAt)
    }
  }

  private mutating func verifyBegin(_ record: Record) {
    guard record.number == 1, case .number(let id) = Self.values(record.content)?["chunk_id_max"]
    else {
      result.addFault(
        "lethe.seal", record.key, "it is not a chain's first record", writtenAt: record.sealedAt)
      return
    }
    chunkIDMax = NSDecimalNumber(decimal: id).int64Value
  }

  private mutating func verifyPrune(_ record: Record) {
    // The ledger has nothing to compare with pruned lines of the quarantine.
    if case .number = Self.values(record.content)?["quarantine_lines"] { return }
    guard case .text(let through) = Self.values(record.content)?["through"],
      Timestamp(through) != nil
    else {
      result.addFault(
        "lethe.seal", record.key, "its content is not the content of a prune",
        writtenAt: record.sealedAt)
      return
    }
    // If the record was changed after it was sealed, it does not explain missing events.
    guard record.isHashValid else { return }
    prunedThrough = max(prunedThrough ?? through, through)
  }

  private mutating func requireSealOfEachAppliedChunk() async throws {
    let chunks = try await session.query(
      """
      SELECT c.chunk_id, \(AuditLedger.utc("c.applied_at")) FROM lethe.chunk AS c
      WHERE c.state = \(state: .applied) AND c.chunk_id > \(chunkIDMax)
        AND NOT EXISTS (SELECT FROM lethe.seal AS s WHERE s.chunk_id = c.chunk_id)
      ORDER BY c.chunk_id LIMIT \(AuditVerification.faultsMax)
      """
    ).rows(as: Int64.self, String.self)
    for (id, appliedAt) in chunks {
      result.addFault(
        "lethe.seal", "chunk_id = \(id)",
        "chunk \(id) is applied, but the chain has no record of it",
        writtenAt: appliedAt)
    }
  }
}
