internal import Synchronization

/// The rows of a `COPY … TO STDOUT` as blocks of whole rows, pulled by whoever iterates: the server
/// waits, through the socket, until the next block is asked for.
///
/// The sequence ends when the server has said that the COPY is complete. If it fails on the way, the
/// iteration throws and what came before is not to be believed.
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

  /// How much to gather before a block is handed over.
  static let blockBytesMin = 256 * 1024

  /// Reads one block ahead, on the connection's own queue, while its user works on the last.
  public struct AsyncIterator: AsyncIteratorProtocol {
    let stream: CopyOut
    private var isComplete = false

    init(stream: CopyOut) {
      self.stream = stream
    }

    public mutating func next() async throws -> [UInt8]? {
      guard !isComplete else { return nil }
      // The block that was read ahead would hide it.
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

  /// A read that is still under way is cancelled on the server: nobody waits for it.
  func end() async {
    ahead.take()?.cancel()
    await connection.endCopy(copy, restoring: transaction)
  }
}

/// Whole rows, and whether the server has said that they were the last.
typealias CopyBlock = (bytes: [UInt8], isComplete: Bool)

/// The block that is being read while the one before it is worked on.
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
