import Checksums
import SystemPackage
import WorkFiles

/// Finds out whether a chunk contains an ID, with the chunk's file and little memory.
///
/// The index keeps every 256th ID with its offset: 0.4 MB for a chunk of the default size. A look-up reads the few
/// kilobytes between two of these IDs. Look-ups in ascending order use the block that was read last.
public final class ChunkIndex {
  private static let idsPerBlock = 256

  private let file: FileDescriptor
  private let path: FilePath
  private var firstIDs: [Int64] = []
  private var offsets: [Int64] = []
  private var cachedBlock = -1
  private var cachedIDs: [Int64] = []

  /// Reads the file once, to compare it with the recorded checksum and to build the index.
  /// - Throws: `ChunkFileError` `.lost` if the file is missing or differs from the recorded checksum; `WorkFileError`
  ///   if it cannot be read for another reason, such as its permissions or too many open files.
  public init(verifying chunk: ChunkFile) throws {
    path = chunk.path
    // Without nonBlocking, the opening of a named pipe would wait for a writer.
    file = try Self.reading(chunk.path) {
      try FileDescriptor.open(chunk.path, .readOnly, options: [.closeOnExec, .nonBlocking])
    }
    var hash = SHA256()
    var ids = 0
    var offset: Int64 = 0
    // One read can end within a line, so both values are kept for the next read.
    var value: Int64 = 0
    var lineOffset: Int64 = 0
    try Self.reading(chunk.path) {
      try Self.forEachBlock(of: file) { block in
        hash.update(block)
        for byte in block {
          offset += 1
          if byte == 0x0A {
            if ids.isMultiple(of: Self.idsPerBlock) {
              firstIDs.append(value)
              offsets.append(lineOffset)
            }
            ids += 1
            value = 0
            lineOffset = offset
          } else {
            value = value &* 10 &+ Int64(byte &- 0x30)
          }
        }
      }
    }
    offsets.append(offset)
    guard hash.finalize() == chunk.sha256, ids == chunk.ids else {
      throw ChunkFileError(
        code: .lost, path: chunk.path, message: "the chunk's file differs from the exported file")
    }
  }

  deinit { try? file.close() }

  /// Runs `body`, and throws what its `Errno` means. A missing permission or a disk error does not mean that the
  /// file is lost.
  private static func reading<R>(_ path: FilePath, _ body: () throws -> R) throws -> R {
    do {
      return try body()
    } catch let error as Errno {
      switch error {
      case .noSuchFileOrDirectory, .notDirectory, .isDirectory, .tooManySymbolicLinkLevels,
        .noSuchAddressOrDevice:
        throw ChunkFileError(
          code: .lost, path: path, message: "cannot read the chunk's file: \(error)")
      default: throw WorkFileError(.read, path, error)
      }
    }
  }

  public func contains(_ id: Int64) throws -> Bool {
    guard let block = blockIndex(for: id) else { return false }
    let position = try position(of: id, in: block)
    return position < cachedIDs.count && cachedIDs[position] == id
  }

  /// Returns how many of the chunk's IDs are smaller than `id`.
  public func idsBelow(_ id: Int64) throws -> Int {
    guard let block = blockIndex(for: id) else { return 0 }
    return try block * Self.idsPerBlock + position(of: id, in: block)
  }

  /// Returns how many of the block's IDs are smaller than `id`. Keeps the block for the next call.
  private func position(of id: Int64, in block: Int) throws -> Int {
    if block != cachedBlock {
      cachedIDs = try readBlock(block)
      cachedBlock = block
    }
    return Self.partitionPoint(cachedIDs) { $0 < id }
  }

  /// Calls `body` with all IDs, a block at a time.
  /// - Throws: `ChunkFileError` `.lost` or `WorkFileError` if the file cannot be read; the errors of `body`.
  func forEachBlock(_ body: ([Int64]) throws -> Void) throws {
    for block in firstIDs.indices { try body(readBlock(block)) }
  }

  private func blockIndex(for id: Int64) -> Int? {
    let following = Self.partitionPoint(firstIDs) { $0 <= id }
    return following == 0 ? nil : following - 1
  }

  private func readBlock(_ block: Int) throws -> [Int64] {
    let start = offsets[block]
    let count = Int(offsets[block + 1] - start)
    let bytes = try Self.reading(path) {
      try [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        while filled < count {
          let rest = UnsafeMutableRawBufferPointer(buffer)[filled...]
          let read = try file.read(
            fromAbsoluteOffset: start + Int64(filled),
            into: UnsafeMutableRawBufferPointer(rebasing: rest))
          if read == 0 { break }
          filled += read
        }
      }
    }
    return bytes.split(separator: 0x0A).map { line in
      line.reduce(Int64(0)) { $0 &* 10 &+ Int64($1 &- 0x30) }
    }
  }

  private static func partitionPoint(_ values: [Int64], _ isBefore: (Int64) -> Bool) -> Int {
    var low = 0
    var high = values.count
    while low < high {
      let middle = (low + high) / 2
      if isBefore(values[middle]) { low = middle + 1 } else { high = middle }
    }
    return low
  }

  private static func forEachBlock(
    of file: FileDescriptor, _ body: (UnsafeRawBufferPointer) -> Void
  ) throws {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 16)
    defer { buffer.deallocate() }
    while case let count = try file.read(into: buffer), count > 0 {
      body(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
    }
  }
}
