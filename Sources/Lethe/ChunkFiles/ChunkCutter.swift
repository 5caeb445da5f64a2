import Checksums
import CrashPoints
import Foundation
public import SystemPackage
import WorkFiles

/// Cuts a stream of ascending IDs into chunk files.
///
/// A chunk file is written under a temporary name, synced, and then renamed. So a file with its final name is complete.
public struct ChunkCutter: ~Copyable {
  private let directory: FilePath
  private let prefix: String
  private let limits: ChunkLimits
  private var nextNumber: Int
  private var open: OpenChunk?
  private var previousID: Int64 = 0
  /// The line of `previousID`.
  private var line = IDLine()
  /// The error that the next call throws, because `append` returned the chunks that were complete before the error.
  private var failure: (any Error)?

  /// - Parameters:
  ///   - directory: created if it is missing.
  ///   - prefix: the beginning of the files' names.
  ///   - firstNumber: the number of the first chunk.
  public init(
    directory: FilePath, prefix: String, limits: ChunkLimits, firstNumber: Int = 1
  ) throws {
    try Self.create(directory)
    self.directory = directory
    self.prefix = prefix
    self.limits = limits
    nextNumber = firstNumber
  }

  /// Appends IDs in ascending order. A repeated ID is dropped.
  ///
  /// If an error follows complete chunks, these chunks are returned, and the next call throws the error. Otherwise
  /// their files would stay on a full disk, and nobody would use them.
  ///
  /// - Returns: the chunks that these IDs completed. Their files are synced.
  /// - Throws: `ChunkFileError` `.input` if the IDs are not positive or do not ascend; `WorkFileError` if a file cannot
  ///   be written.
  public mutating func append(_ ids: [Int64]) throws -> [ChunkFile] {
    if let failure { throw failure }
    var finished: [ChunkFile] = []
    do {
      for id in ids { try append(id, finishing: &finished) }
    } catch {
      guard !finished.isEmpty else { throw error }
      failure = error
    }
    return finished
  }

  private mutating func append(_ id: Int64, finishing finished: inout [ChunkFile]) throws {
    guard id > previousID else {
      if id == previousID, id > 0 { return }
      throw ChunkFileError(
        code: .input, path: directory,
        message: id <= 0
          ? "not an ID: \(id)" : "the IDs do not ascend: \(id) comes after \(previousID)")
    }
    previousID = id
    line.set(id)
    if let full = try completeIfFull(before: line.count) { finished.append(full) }
    if open == nil { try begin(with: id) }
    try open?.append(id, line)
  }

  /// Completes the last chunk, if one is open.
  public mutating func finish() throws -> ChunkFile? {
    if let failure { throw failure }
    guard let chunk = open else { return nil }
    let file = try chunk.complete()
    open = nil
    return file
  }

  /// Removes the file of an unfinished chunk. Also removes the directory if it is empty: if this process has lost its
  /// lease and the run has already finished, this process may have created the directory again.
  public mutating func abandon() {
    open?.remove()
    open = nil
    rmdir(directory.string)
  }

  private static func create(_ directory: FilePath) throws {
    try CrashStep.runFolderCreated.around { try WorkFolder.create(directory) }
  }

  /// Completes the open chunk if it would exceed its limits with another line of this length.
  private mutating func completeIfFull(before bytes: Int) throws -> ChunkFile? {
    guard let chunk = open, chunk.ids >= limits.ids || chunk.bytes + bytes > limits.bytes else {
      return nil
    }
    let file = try chunk.complete()
    open = nil
    return file
  }

  private mutating func begin(with id: Int64) throws {
    // Another process may have removed the directory while it was empty.
    try Self.create(directory)
    let name = "\(prefix)-\(String(format: "%06d", nextNumber)).ids"
    open = try CrashStep.chunkFileCreated.around {
      try OpenChunk(path: directory.appending(name), number: nextNumber, firstID: id)
    }
    nextNumber += 1
  }
}

/// A chunk with a file that is being written.
private final class OpenChunk {
  private static let bufferBytes = 1 << 20

  private let path: FilePath
  private let partialPath: FilePath
  private let number: Int
  private let firstID: Int64
  private var lastID: Int64
  private let file: FileDescriptor
  private var isClosed = false
  private let buffer: UnsafeMutableRawBufferPointer
  private var buffered = 0
  private var hash = SHA256()
  private(set) var ids = 0
  private(set) var bytes = 0

  init(path: FilePath, number: Int, firstID: Int64) throws {
    self.path = path
    self.number = number
    self.firstID = firstID
    lastID = firstID
    let partialPath = FilePath(path.string + ".partial")
    self.partialPath = partialPath
    file = try WorkFileError.explaining(.write, path) {
      try FileDescriptor.open(
        partialPath, .writeOnly, options: [.create, .truncate], permissions: [.ownerReadWrite])
    }
    buffer = .allocate(byteCount: Self.bufferBytes, alignment: 16)
  }

  deinit { buffer.deallocate() }

  func append(_ id: Int64, _ line: IDLine) throws {
    if buffered + IDLine.bytesMax > Self.bufferBytes { try flush() }
    line.write(to: buffer, at: buffered)
    buffered += line.count
    lastID = id
    ids += 1
    bytes += line.count
  }

  func complete() throws -> ChunkFile {
    do {
      try flush()
      try WorkFileError.explaining(.write, path) {
        try Self.sync(file)
        try close()
        try CrashStep.chunkFileRenamed.around {
          guard rename(partialPath.string, path.string) == 0 else { throw Errno(rawValue: errno) }
        }
        let directory = try FileDescriptor.open(path.removingLastComponent(), .readOnly)
        try directory.closeAfter { try Self.sync(directory) }
      }
    } catch {
      // The chunk cannot be used any more. Its temporary file is removed here, because the caller might not call
      // `abandon`.
      remove()
      throw error
    }
    return ChunkFile(
      path: path, number: number, firstID: firstID, lastID: lastID, ids: ids, bytes: bytes,
      sha256: hash.finalize())
  }

  func remove() {
    try? close()
    unlink(partialPath.string)
  }

  /// Closes the file, but only once. After that, the descriptor's number might belong to another file.
  private func close() throws {
    guard !isClosed else { return }
    isClosed = true
    try file.close()
  }

  private func flush() throws {
    let filled = UnsafeRawBufferPointer(rebasing: buffer[..<buffered])
    hash.update(filled)
    _ = try WorkFileError.explaining(.write, path) { try file.writeAll(filled) }
    buffered = 0
  }

  private static func sync(_ descriptor: FileDescriptor) throws {
    guard fsync(descriptor.rawValue) == 0 else { throw Errno(rawValue: errno) }
  }
}
