import PostgreSQL

/// The result of a verification: whether the ledger was changed.
public struct AuditVerification: Sendable {
  /// Rows or records that were changed, removed or added.
  public struct Fault: Sendable {
    public let table: String
    /// An SQL condition for the rows.
    public let key: String
    public let problem: String
    public let remedy: String
  }

  /// The last record of the chain. Keep it in a place where users with write access to the ledger cannot
  /// change it.
  public struct Head: Sendable {
    public let number: Int64
    public let sha256: String
    public let sealedAt: String
  }

  /// The largest number of faults that are kept. Further faults are only counted. Some queries that find faults also
  /// stop at this number, so `faultCount` can be too small.
  static let faultsMax = 1_000

  /// The first faults, in the order in which they were found.
  public private(set) var faults: [Fault] = []
  public private(set) var faultCount = 0
  /// The number of records in the chain.
  public internal(set) var records = 0
  public internal(set) var head: Head?
  /// The number of batches whose event records and traces are unchanged.
  public internal(set) var batchesProven = 0
  /// The number of events in these batches.
  public internal(set) var eventsProven = 0
  /// The number of batches whose event records were pruned. The chain still covers the batches themselves.
  public internal(set) var batchesPruned = 0
  /// The number of batches of chunks without a record in the chain. Such chunks are not completely applied.
  public internal(set) var batchesUnsealed = 0
  /// The number of event records from before the chain began. No hash covers them.
  public internal(set) var eventsBeforeChain = 0

  public var isIntact: Bool { faultCount == 0 }

  mutating func add(_ fault: Fault) {
    faultCount += 1
    if faults.count < Self.faultsMax { faults.append(fault) }
  }

  /// Adds a fault.
  /// - Parameter writtenAt: the time when the row was written. Older backups do not contain the row.
  mutating func addFault(_ table: String, _ key: String, _ problem: String, writtenAt: String?) {
    let since =
      writtenAt.map { ", preferably the oldest backup made after \($0)," }
      ?? ", preferably the oldest backup that contains these rows,"
    add(
      Fault(
        table: table, key: key, problem: problem,
        remedy: """
          restore a backup from before the change\(since) into a separate database, \
          and compare \(table) where \(key)
          """))
  }
}

extension AuditLedger {
  /// Checks the chain of evidence. Compares the sealed records with the current ledger, and the event records with the
  /// hashes of their batches. Changes nothing. Memory use does not grow with the ledger.
  ///
  /// - Parameter expected: the hash of a record that must be in the chain, 64 hexadecimal digits from an earlier call's
  ///   `head`. Without it, a deletion is not detected if the chain's last records are deleted together with the rows
  ///   that they are about.
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
