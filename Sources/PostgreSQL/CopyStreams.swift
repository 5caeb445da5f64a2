/// The rows of a `COPY … TO STDOUT` as blocks of whole rows, pulled by whoever iterates: the server
/// waits, through the socket, until the next block is asked for.
///
/// The sequence ends when the server has said that the COPY is complete. If it fails on the way, the
/// iteration throws and what came before is not to be believed.
public struct CopyOut: AsyncSequence, Sendable {
  let connection: Connection
  let copy: Int
  let transaction: Int?

  /// How much to gather before a block is handed over.
  static let blockBytesMin = 256 * 1024

  public struct AsyncIterator: AsyncIteratorProtocol {
    let stream: CopyOut
    var isComplete = false

    public mutating func next() async throws -> [UInt8]? {
      guard !isComplete else { return nil }
      let block = try await stream.connection.nextCopyBlock(
        stream.copy, bytesMin: CopyOut.blockBytesMin)
      isComplete = block.isComplete
      return block.bytes.isEmpty ? nil : block.bytes
    }
  }

  public func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(stream: self)
  }

  func end() async {
    await connection.endCopy(copy, restoring: transaction)
  }
}

/// The writing end of a `COPY … FROM STDIN`.
public struct CopyIn: Sendable {
  let connection: Connection
  let copy: Int
  let transaction: Int?

  /// Sends bytes of the COPY's format, cut wherever it suits; 8 to 64 KiB at a time is fastest.
  /// Returns when the socket has taken them.
  public func write(_ bytes: [UInt8]) async throws {
    try await connection.putCopyData(copy, bytes)
  }

  /// Ends the COPY: the server has taken every row.
  /// - Returns: the number of rows.
  @discardableResult
  public func finish() async throws -> Int {
    let rows = try await connection.finishCopyIn(copy)
    await end()
    return rows
  }

  /// Gives the COPY up: none of its rows remain.
  public func abandon() async {
    await end()
  }

  private func end() async {
    await connection.endCopy(copy, restoring: transaction)
  }
}
