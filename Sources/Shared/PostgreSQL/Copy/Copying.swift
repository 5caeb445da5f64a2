internal import CLibPQ
internal import SQLText

/// The COPY operations for `CopyOut` and `CopyIn`.
extension Connection {
  /// Begins a COPY, which then occupies the connection.
  /// - Parameter token: the token of the `Transaction` that begins the COPY; nil if the connection begins it.
  func beginCopy(_ sql: SQL, _ direction: CopyDirection, as token: Int?) async throws -> Int {
    try require(token)
    let text = try sql.textWithoutValues()
    let result = try await cancellable { try self.execute(text, []) }
    guard result.status == direction.expectedStatus else {
      abortCopy()
      throw PostgreSQLError(
        code: .misuse, message: "the statement is not a COPY … \(direction.rawValue)",
        statement: text)
    }
    lastOccupant += 1
    occupant = lastOccupant
    return lastOccupant
  }

  /// Ends the COPY if it is still open, and returns the connection to its previous occupant.
  func endCopy(_ copy: Int, restoring token: Int?) {
    guard occupant == copy else { return }
    abortCopy()
    occupant = token
  }

  /// Aborts an open COPY, so that the connection can be used again. An aborted COPY IN keeps no rows.
  func abortCopy() {
    guard PQtransactionStatus(handle) == PQTRANS_ACTIVE else { return }
    if PQputCopyEnd(handle, "the client aborted the COPY") != 1 {
      // This is a COPY TO STDOUT, or the connection is broken. Cancel the COPY on the server, and then read the rows
      // that the server has already sent.
      let statement = canceller.begin()
      canceller.cancelAndWait(statement: statement)
      canceller.end()
      var row: UnsafeMutablePointer<CChar>?
      while PQgetCopyData(handle, &row, 0) > 0 { PQfreemem(row) }
    }
    while let result = PQgetResult(handle) { PQclear(result) }
  }

  /// The next whole rows of a COPY TO STDOUT, and whether the server has reported the end.
  func nextCopyBlock(_ copy: Int, bytesMin: Int) async throws -> CopyBlock {
    try require(copy)
    return try await cancellable {
      var block: [UInt8] = []
      block.reserveCapacity(bytesMin + 4096)
      while block.count < bytesMin {
        var row: UnsafeMutablePointer<CChar>?
        let count = PQgetCopyData(self.handle, &row, 0)
        guard count > 0, let row else {
          try self.finishCopy()
          return (block, true)
        }
        block.append(
          contentsOf: UnsafeRawBufferPointer(start: UnsafeRawPointer(row), count: Int(count)))
        PQfreemem(row)
      }
      return (block, false)
    }
  }

  func putCopyData(_ copy: Int, _ bytes: [UInt8]) async throws {
    try require(copy)
    try await cancellable {
      let sent = bytes.withUnsafeBytes { buffer in
        PQputCopyData(
          self.handle, buffer.baseAddress?.assumingMemoryBound(to: CChar.self),
          Int32(buffer.count))
      }
      guard sent == 1 else { throw self.brokenConnection(statement: nil) }
    }
  }

  /// - Returns: the number of rows copied in.
  func finishCopyIn(_ copy: Int) async throws -> Int {
    try require(copy)
    return try await cancellable {
      guard PQputCopyEnd(self.handle, nil) == 1 else {
        throw self.brokenConnection(statement: nil)
      }
      return try self.finishCopy()
    }
  }

  @discardableResult
  func finishCopy() throws -> Int {
    var rows = 0
    var failure: PostgreSQLError?
    while let result = PQgetResult(handle) {
      do {
        rows += try checked(result, statement: "COPY").rowsAffected
      } catch let error as PostgreSQLError {
        failure = failure ?? error
      }
    }
    if let failure { throw settled(failure) }
    return rows
  }
}

enum CopyDirection: String {
  case out = "TO STDOUT"
  case `in` = "FROM STDIN"

  var expectedStatus: ExecStatusType {
    switch self {
    case .out: PGRES_COPY_OUT
    case .in: PGRES_COPY_IN
    }
  }
}
