import PostgreSQL

/// Whether the ledger still says what was written.
public struct AuditVerification: Sendable {
  /// Something that is not as it was sealed.
  public struct Fault: Sendable {
    public let table: String
    /// The rows, as a condition in SQL.
    public let key: String
    public let problem: String
    public let remedy: String
  }

  /// The last record of the chain. Keep it where nobody who can write to the ledger can change it.
  public struct Head: Sendable {
    public let number: Int64
    public let sha256: String
    public let sealedAt: String
  }

  /// Further faults are counted but not kept.
  static let faultsMax = 1_000

  /// The first faults, in the order in which they were found.
  public private(set) var faults: [Fault] = []
  public private(set) var faultCount = 0
  /// The number of records in the chain.
  public internal(set) var records = 0
  public internal(set) var head: Head?
  /// Batches whose event records and traces are as they were written.
  public internal(set) var batchesProven = 0
  /// The number of events in these batches.
  public internal(set) var eventsProven = 0
  /// Batches whose event records were pruned: only the chain proves them.
  public internal(set) var batchesPruned = 0
  /// Batches of chunks without a record in the chain: not completely applied, or given up.
  public internal(set) var batchesUnsealed = 0
  /// Event records from before the chain began. Nothing proves them.
  public internal(set) var eventsBeforeChain = 0

  public var isWhole: Bool { faultCount == 0 }

  mutating func found(_ fault: Fault) {
    faultCount += 1
    if faults.count < Self.faultsMax { faults.append(fault) }
  }

  /// - Parameter writtenAt: when the row was written. An older backup does not have the row.
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
  /// Checks the chain of evidence, compares what it sealed with the ledger of now, and the event records with
  /// the hashes of their batches. Changes nothing. Memory use does not grow with the ledger.
  ///
  /// - Parameter expected: the hash of a record that must be in the chain, 64 hexadecimal digits from an
  ///   earlier call's `head`. Without it, nobody can detect that the last records were deleted from the chain
  ///   together with everything that they prove.
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
