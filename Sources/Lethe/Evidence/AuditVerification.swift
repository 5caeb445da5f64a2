import PostgreSQL

/// Whether the ledger still says what was written.
public struct AuditVerification: Sendable {
  /// Something is not as it was sealed.
  public struct Fault: Sendable {
    public let table: String
    /// Which rows, as a condition in SQL.
    public let key: String
    public let problem: String
    public let remedy: String
  }

  /// A record of the chain, to be kept where nobody who can write to the ledger can.
  public struct Head: Sendable {
    public let number: Int64
    public let sha256: String
    public let sealedAt: String
  }

  /// More are counted and not kept.
  static let faultsMax = 1_000

  /// The first of them, in the order in which they were found.
  public private(set) var faults: [Fault] = []
  public private(set) var faultCount = 0
  /// Records of the chain.
  public internal(set) var records = 0
  public internal(set) var head: Head?
  /// Batches whose event records and traces are what they were.
  public internal(set) var batchesProven = 0
  /// The events that they are of.
  public internal(set) var eventsProven = 0
  /// Batches whose event records were pruned: the chain alone vouches for them.
  public internal(set) var batchesPruned = 0
  /// Batches of chunks that no record of the chain is about: not applied to the end, or given up.
  public internal(set) var batchesUnsealed = 0
  /// Event records from before the chain began. Nothing vouches for them.
  public internal(set) var eventsBeforeChain = 0

  public var isWhole: Bool { faultCount == 0 }

  mutating func found(_ fault: Fault) {
    faultCount += 1
    if faults.count < Self.faultsMax { faults.append(fault) }
  }

  /// - Parameter writtenAt: when the row was written; a backup from before knows nothing of it.
  mutating func found(_ table: String, _ key: String, _ problem: String, writtenAt: String?) {
    let since =
      writtenAt.map { ", the oldest one made after \($0)," } ?? ", the oldest that has them,"
    found(
      Fault(
        table: table, key: key, problem: problem,
        remedy: """
          restore the ledger from a backup of before it was changed\(since) into a database of its \
          own, and compare \(table) where \(key)
          """))
  }
}

extension AuditLedger {
  /// Walks the chain of evidence, holds what it sealed against the ledger of now, and the event records
  /// against the hashes of their batches. Changes nothing; memory stays flat.
  ///
  /// - Parameter expected: the hash of a record that has to be in the chain, as an earlier call's
  ///   `head` gave it, 64 hexadecimal digits. Without it nobody can tell that records are missing from
  ///   the chain's end together with all that they were about.
  public func verify(expecting expected: String? = nil) async throws -> AuditVerification {
    try await connection.withTransaction(isolationLevel: .repeatableRead, readOnly: true) {
      var chain = ChainVerifier(session: $0)
      try await chain.walk()
      if let expected { try await chain.require(expected) }
      var events = EventVerifier(
        session: $0, chunkIDMax: chain.chunkIDMax, prunedThrough: chain.prunedThrough,
        result: chain.result)
      try await events.verify()
      return events.result
    }
  }
}
