internal import Foundation
internal import NIOCore
internal import PostgreSQL
internal import SystemPackage
internal import _NIOFileSystem

/// Makes the result of one submission. It holds no more of either than a block at a time.
struct Processing: Sendable {
  let database: ConnectionString
  let spool: Spool

  /// Half a block is what COPY takes best in one go, and an ID's row is smaller than its line.
  private static let readBytes: ByteCount = .kibibytes(64)

  /// Writes the job's result to the spool.
  /// - Returns: its length in bytes.
  /// - Throws: `CancellationError`; `SubmissionMissing`; what PostgreSQL or the file system says.
  func writeResult(of job: Job, as name: String) async throws -> Int64 {
    try Task.checkCancellation()
    guard let submission = job.submissionFile,
      FileManager.default.fileExists(atPath: spool.path(submission).string)
    else { throw SubmissionMissing() }
    return try await Connection.withConnection(
      database, applicationName: "compliance-server processing"
    ) { connection in
      try await connection.withTransaction { transaction in
        try await spool.writeResult(name) { result in
          try await transaction.execute(
            "CREATE TEMPORARY TABLE submitted (id bigint NOT NULL) ON COMMIT DROP")
          try await stage(submission, transaction, &result)
          try await transaction.execute("ANALYZE submitted")
          try await answer(job.type, transaction, &result)
        }
      }
    }
  }

  /// Fills `submitted`; lines that are no ID go into the result at once.
  private func stage(
    _ submission: String, _ transaction: Transaction,
    _ result: inout BufferedWriter<WriteFileHandle>
  ) async throws {
    try await FileSystem.shared.withFileHandle(forReadingAt: spool.path(submission)) { file in
      var lines = SubmissionLines()
      var rows = BinaryRows()
      var answers: [UInt8] = []
      func take(_ line: SubmissionLines.Line) {
        switch line {
        case .id(let id):
          rows.beginRow(columns: 1)
          rows.append(id)
        case .invalid(let line):
          answers += invalidLineAnswer(line)
        }
      }
      try await transaction.withCopyIn("COPY submitted FROM STDIN (FORMAT binary)") { copy in
        for try await block in file.readChunks(chunkLength: Self.readBytes) {
          block.withUnsafeReadableBytes { lines.scan($0, take) }
          if rows.isFull { try await copy.write(rows.take()) }
          if !answers.isEmpty {
            try await result.write(contentsOf: answers)
            answers.removeAll(keepingCapacity: true)
          }
        }
        lines.finish(take)
        try await copy.write(rows.takeLast())
        try await result.write(contentsOf: answers)
      }
    }
  }

  private func answer(
    _ type: JobType, _ transaction: Transaction, _ result: inout BufferedWriter<WriteFileHandle>
  ) async throws {
    try await transaction.withCopyOut("COPY (\(type.answersSQL)) TO STDOUT") { answers in
      for try await block in answers { try await result.write(contentsOf: block) }
    }
  }
}

/// A job is in progress and its upload is not in the spool directory.
struct SubmissionMissing: Error {}
