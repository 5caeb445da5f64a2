import Checksums
import Foundation
public import SystemPackage

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

  /// - Parameters:
  ///   - directory: created if it is missing.
  ///   - prefix: the beginning of the files' names.
  ///   - firstNumber: the number of the first chunk.
  public init(
    directory: FilePath, prefix: String, limits: ChunkLimits, firstNumber: Int = 1
  ) throws {
    do {
      try FileManager.default.createDirectory(
        atPath: directory.string, withIntermediateDirectories: true)
    } catch {
      throw ChunkFileError(
        code: .notWritten, path: directory,
        message: "cannot create the directory: \(error.localizedDescription)")
    }
    self.directory = directory
    self.prefix = prefix
    self.limits = limits
    nextNumber = firstNumber
  }

  /// Appends complete rows. Each row is the digits of an ID and LF. A repeated ID is dropped.
  ///
  /// - Returns: the chunks that these rows completed. Their files are synced.
  /// - Throws: `ChunkFileError` `.input` if rows are not IDs in ascending order; `.notWritten` if a file cannot be
  ///   written.
  public mutating func append(rows: [UInt8]) throws -> [ChunkFile] {
    var finished: [ChunkFile] = []
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
        throw ChunkFileError(code: .input, path: directory, message: "not an ID: \(row)")
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
    return finished
  }

  /// Completes the last chunk, if one is open.
  public mutating func finish() throws -> ChunkFile? {
    guard let chunk = open else { return nil }
    let file = try chunk.complete()
    open = nil
    return file
  }

  /// Removes the file of an unfinished chunk.
  public mutating func abandon() {
    open?.remove()
    open = nil
  }

  /// Completes the open chunk if a row of this length exceeds its limits.
  private mutating func completeIfFull(before bytes: Int) throws -> ChunkFile? {
    guard let chunk = open, chunk.ids >= limits.ids || chunk.bytes + bytes > limits.bytes else {
      return nil
    }
    let file = try chunk.complete()
    open = nil
    return file
  }

  private mutating func begin(with id: Int64) throws {
    let name = "\(prefix)-\(String(format: "%06d", nextNumber)).ids"
    open = try OpenChunk(path: directory.appending(name), number: nextNumber, firstID: id)
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
    file = try Self.writing(path) {
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
      try Self.writing(path) {
        try Self.sync(file)
        try close()
        guard rename(partialPath.string, path.string) == 0 else { throw Errno(rawValue: errno) }
        let directory = try FileDescriptor.open(path.removingLastComponent(), .readOnly)
        try directory.closeAfter { try Self.sync(directory) }
      }
    } catch {
      remove()  // The caller drops this chunk, so nothing else removes its file.
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

  /// Closes the file, but only once. After that, the descriptor's number may belong to another file.
  private func close() throws {
    guard !isClosed else { return }
    isClosed = true
    try file.close()
  }

  private func flush() throws {
    hash.update(buffer)
    _ = try Self.writing(path) { try file.writeAll(buffer) }
    buffer.removeAll(keepingCapacity: true)
  }

  private static func sync(_ descriptor: FileDescriptor) throws {
    guard fsync(descriptor.rawValue) == 0 else { throw Errno(rawValue: errno) }
  }

  private static func writing<R>(_ path: FilePath, _ body: () throws -> R) throws -> R {
    do {
      return try body()
    } catch {
      throw ChunkFileError(
        code: .notWritten, path: path, message: "cannot write the file: \(error)")
    }
  }
}
