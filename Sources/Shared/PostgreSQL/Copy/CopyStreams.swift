internal import Synchronization

/// The rows of a `COPY … TO STDOUT`, in blocks of whole rows. The server waits (by the socket's flow control) until
/// the consumer reads the next block.
///
/// The sequence ends when the server reports that the COPY is complete. If the COPY fails, the iteration throws, and
/// earlier blocks must be discarded.
public struct CopyOut: AsyncSequence, Sendable {
  let connection: Connection
  let copy: Int
  let transaction: Int?
  private let ahead = ReadAhead()

  init(connection: Connection, copy: Int, transaction: Int?) {
    self.connection = connection
    self.copy = copy
    self.transaction = transaction
  }

  /// The smallest size of a block, except the last.
  static let blockBytesMin = 256 * 1024

  /// Reads one block ahead, on the connection's queue, while the consumer processes the previous one.
  public struct AsyncIterator: AsyncIteratorProtocol {
    let stream: CopyOut
    private var isComplete = false

    init(stream: CopyOut) {
      self.stream = stream
    }

    public mutating func next() async throws -> [UInt8]? {
      guard !isComplete else { return nil }
      // Cancellation is checked here, because a block that is already read would be returned also in a cancelled task.
      try Task.checkCancellation()
      let reading = stream.ahead.take() ?? stream.read()
      let block = try await withTaskCancellationHandler {
        try await reading.value
      } onCancel: {
        reading.cancel()
      }
      isComplete = block.isComplete
      if !isComplete { stream.ahead.put(stream.read()) }
      return block.bytes.isEmpty ? nil : block.bytes
    }
  }

  public func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(stream: self)
  }

  private func read() -> Task<CopyBlock, any Error> {
    Task { try await connection.nextCopyBlock(copy, bytesMin: Self.blockBytesMin) }
  }

  /// Ends the COPY, and cancels a read that is still running.
  func end() async {
    ahead.take()?.cancel()
    await connection.endCopy(copy, restoring: transaction)
  }
}

/// The bytes of whole rows, and whether they are the last rows.
typealias CopyBlock = (bytes: [UInt8], isComplete: Bool)

/// The block that is being read ahead.
private final class ReadAhead: Sendable {
  private let task = Mutex<Task<CopyBlock, any Error>?>(nil)

  func put(_ reading: Task<CopyBlock, any Error>) {
    task.withLock { $0 = reading }
  }

  func take() -> Task<CopyBlock, any Error>? {
    task.withLock { task in
      defer { task = nil }
      return task
    }
  }
}

/// The writing end of a `COPY … FROM STDIN`.
public struct CopyIn: Sendable {
  let connection: Connection
  let copy: Int
  let transaction: Int?

  /// Sends bytes in the COPY's format. The bytes may be split anywhere. Blocks of 8 to 64 KiB are fastest. Returns
  /// when the socket has accepted the bytes, except for a small rest that libpq keeps until the next call.
  public func write(_ bytes: [UInt8]) async throws {
    try await connection.putCopyData(copy, bytes)
  }

  /// Completes the COPY.
  /// - Returns: the number of rows.
  @discardableResult
  public func finish() async throws -> Int {
    let rows = try await connection.finishCopyIn(copy)
    await end()
    return rows
  }

  /// Aborts the COPY. The server keeps none of its rows.
  public func abandon() async {
    await end()
  }

  private func end() async {
    await connection.endCopy(copy, restoring: transaction)
  }
}
