public import PostgreSQL

/// The lines of a result that must not be applied, in a temporary table until the transaction ends. The statements of
/// `ChunkLedger` that collect a result read this table.
public struct RefusedLines: Sendable {
  private let transaction: Transaction

  /// Creates the empty table.
  public init(on transaction: Transaction) async throws {
    self.transaction = transaction
    try await transaction.runScript(
      """
      CREATE TEMP TABLE lethe_scanned (
          line bigint NOT NULL, id bigint, raw bytea NOT NULL, why text NOT NULL, in_chunk boolean
      ) ON COMMIT DROP
      """)
  }

  /// Starts a COPY that accepts `Rows`.
  public func beginCopy() async throws -> CopyIn {
    try await transaction.beginCopyIn(
      "COPY lethe_scanned (line, id, raw, why, in_chunk) FROM STDIN (FORMAT binary)")
  }

  /// Lines in the format of the COPY.
  public struct Rows {
    private var rows = BinaryRows()

    public init() {}

    public var isFull: Bool { rows.isFull }
    public mutating func take() -> [UInt8] { rows.take() }
    public mutating func takeLast() -> [UInt8] { rows.takeLast() }

    /// - Parameters:
    ///   - id: the line's ID. Nil if it has no readable ID.
    ///   - isInChunk: whether the ID is in the chunk. Nil if there is no ID.
    ///   - why: the reason, as ASCII text without control characters.
    public mutating func append(
      line: Int, raw: some Collection<UInt8>, id: Int64?, isInChunk: Bool?, why: String
    ) {
      rows.beginRow(columns: 5)
      rows.append(Int64(line))
      rows.append(id)
      rows.append(bytes: raw)
      rows.append(text: why)
      if let isInChunk { rows.append(bool: isInChunk) } else { rows.appendNull() }
    }
  }
}
