public import Failures
public import SystemPackage

/// A chunk's file. It contains the chunk's IDs in ascending order, each once, one per line. Each line ends with LF.
public struct ChunkFile: Sendable, Equatable {
  public let path: FilePath
  /// The chunk's number in its dataset and run. The first chunk has the number 1.
  public let number: Int
  public let firstID: Int64
  public let lastID: Int64
  public let ids: Int
  public let bytes: Int
  public let sha256: [UInt8]

  public init(
    path: FilePath, number: Int, firstID: Int64, lastID: Int64, ids: Int, bytes: Int,
    sha256: [UInt8]
  ) {
    self.path = path
    self.number = number
    self.firstID = firstID
    self.lastID = lastID
    self.ids = ids
    self.bytes = bytes
    self.sha256 = sha256
  }
}

extension ChunkFile {
  /// Writes two files in the same directory, each with half of the IDs, in the same order. If the number of IDs is odd,
  /// the first file has one more.
  ///
  /// - Parameter prefix: the beginning of the new files' names. Existing files are replaced.
  /// - Throws: `ChunkFileError` `.lost` if the file is missing or differs from the recorded checksum;
  ///   `WorkFileError` if a file cannot be read or written.
  public func halves(named prefix: String) throws -> (ChunkFile, ChunkFile) {
    precondition(ids > 1)
    var cutter = try ChunkCutter(
      directory: path.removingLastComponent(), prefix: prefix,
      limits: ChunkLimits(ids: (ids + 1) / 2, bytes: .max))
    do {
      let index = try ChunkIndex(verifying: self)
      var files: [ChunkFile] = []
      try index.forEachBlock { files += try cutter.append($0) }
      if let last = try cutter.finish() { files.append(last) }
      guard files.count == 2 else {
        throw ChunkFileError(
          code: .lost, path: path, message: "the chunk's file differs from the exported file")
      }
      return (files[0], files[1])
    } catch {
      cutter.abandon()
      throw error
    }
  }
}

/// The largest size of a chunk.
public struct ChunkLimits: Sendable, Equatable {
  public let ids: Int
  public let bytes: Int

  public init(ids: Int, bytes: Int) {
    self.ids = ids
    self.bytes = bytes
  }
}

/// A chunk's file is missing or differs from what the ledger recorded, or the IDs for a file are not positive or do not
/// ascend.
public struct ChunkFileError: ExplainedError, Sendable {
  public enum Code: Sendable, Equatable {
    /// The file is missing or has other content. The key range must be exported again.
    case lost
    /// The IDs for the file are not positive or do not ascend.
    case input
  }

  public let code: Code
  public let path: FilePath
  public let message: String

  public var remedy: String {
    switch code {
    case .lost: "run again; the run then exports the IDs of this chunk again"
    case .input: "check the type and the collation of the dataset's id column"
    }
  }

  public var context: ErrorContext { ErrorContext(file: path.string) }
  public var disposition: Disposition { .failed }
}
