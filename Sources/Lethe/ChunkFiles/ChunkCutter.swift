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
  /// An error after which `append` has returned the chunks that were complete before.
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

  /// Appends complete rows. Each row is the digits of an ID and LF. A repeated ID is dropped.
  ///
  /// If an error follows complete chunks, these chunks are returned, and the next call throws the error. Otherwise their
  /// files would stay on a full disk, and nobody would use them.
  ///
  /// - Returns: the chunks that these rows completed. Their files are synced.
  /// - Throws: `ChunkFileError` `.input` if rows are not IDs in ascending order; `WorkFileError` if a file cannot be
  ///   written.
  public mutating func append(rows: [UInt8]) throws -> [ChunkFile] {
    if let failure { throw failure }
    var finished: [ChunkFile] = []
    do {
      try append(rows, finishing: &finished)
    } catch {
      guard !finished.isEmpty else { throw error }
      failure = error
    }
    return finished
  }

  private mutating func append(_ rows: [UInt8], finishing finished: inout [ChunkFile]) throws {
    var index = 0
    while index < rows.count {
      let start = index
      var id: UInt64 = 0
      while index < rows.count, case let digit = rows[index] &- 0x30, digit < 10 {
        id = id &* 10 &+ UInt64(digit)
        index += 1
      }
      let digits = index - start
      guard index < rows.count, rows[index] == 0x0A, (1...19).contains(digits),
        id > 0, id <= UInt64(Int64.max)
      else {
        let row = String(decoding: rows[start...].prefix { $0 != 0x0A }, as: UTF8.self)
        throw ChunkFileError(code: .input, path: directory, message: "not an ID: \"\(row)\"")
      }
      index += 1
      let value = Int64(id)
      if value == previousID { continue }
      guard value > previousID else {
        throw ChunkFileError(
          code: .input, path: directory,
          message: "the IDs do not ascend: \(value) comes after \(previousID)")
      }
      previousID = value
      if let full = try completeIfFull(before: digits + 1) { finished.append(full) }
      if open == nil { try begin(with: value) }
      try open?.append(value, rows[start..<index])
    }
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

  /// Completes the open chunk if it would exceed its limits with another row of this length.
  private mutating func completeIfFull(before bytes: Int) throws -> ChunkFile? {
    guard let chunk = open, chunk.ids >= limits.ids || chunk.bytes + bytes > limits.bytes else {
      return nil
    }
    let file = try chunk.complete()
    open = nil
    return file
  }

  private mutating func begin(with id: Int64) throws {
    // Another process may have removed it while it was empty.
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
  private var buffer: [UInt8] = []
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
    buffer.reserveCapacity(Self.bufferBytes + 64)
  }

  func append(_ id: Int64, _ row: ArraySlice<UInt8>) throws {
    lastID = id
    ids += 1
    bytes += row.count
    buffer.append(contentsOf: row)
    if buffer.count >= Self.bufferBytes { try flush() }
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
      // The file cannot be used any more. It is removed here, because the caller might not call `abandon`.
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
    hash.update(buffer)
    _ = try WorkFileError.explaining(.write, path) { try file.writeAll(buffer) }
    buffer.removeAll(keepingCapacity: true)
  }

  private static func sync(_ descriptor: FileDescriptor) throws {
    guard fsync(descriptor.rawValue) == 0 else { throw Errno(rawValue: errno) }
  }
}
