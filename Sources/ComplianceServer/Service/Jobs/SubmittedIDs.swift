internal import SystemPackage

/// The IDs of one submission in ascending order. Memory use is bounded for any number and order of IDs.
///
/// A large submission that is already sorted, such as Lethe's exports, is read a second time. A large unsorted
/// submission is sorted in runs that fit in memory, and the runs are merged (an external merge sort).
struct SubmittedIDs {
  /// The number of lines.
  private(set) var lines = 0
  /// The number of lines that are IDs.
  private(set) var count = 0
  /// From the smallest to the largest ID; nil if there is none.
  private(set) var range: ClosedRange<Int64>?

  private enum Form {
    /// All IDs, sorted.
    case array([Int64])
    /// The submission itself, which is sorted.
    case file(FilePath)
    /// Files of sorted binary IDs.
    case runs([FilePath])
  }

  private var form = Form.array([])

  /// Reads a submission.
  ///
  /// - Parameters:
  ///   - runIDsMax: how many IDs may be sorted in memory at a time. Each ID uses 8 bytes.
  ///   - runPath: returns the path for the sorted run with this number.
  ///   - invalid: called with each invalid line and its line number, in order.
  ///   - read: called after each block, with its length in bytes.
  /// - Throws: errors of `invalid` and `read`, `Errno`, `CancellationError`.
  init(
    of path: FilePath, runIDsMax: Int, runPath: (Int) -> FilePath,
    invalid: (UnsafeRawBufferPointer, _ line: Int) throws -> Void, read: (Int) async throws -> Void
  ) async throws {
    var isAscending = true
    var ids: [Int64] = []
    var last: Int64 = -1
    var least = Int64.max
    var largest = Int64.min
    var fault: (any Error)?
    var scanner = SubmissionLines()
    func take(_ id: Int64) {
      if id < last { isAscending = false }
      last = id
      least = min(least, id)
      largest = max(largest, id)
      count += 1
      if ids.count < runIDsMax { ids.append(id) }
    }
    func refuse(_ line: UnsafeRawBufferPointer) {
      guard fault == nil else { return }
      lines += 1
      do { try invalid(line, lines + count) } catch { fault = error }
    }
    var reader = try BlockReader(path)
    defer { reader.close() }
    while let block = try reader.next() {
      scanner.scan(block, id: take, invalid: refuse)
      if let fault { throw fault }
      try await read(block.count)
    }
    scanner.finish(id: take, invalid: refuse)
    if let fault { throw fault }
    lines += count
    guard count > 0 else { return }
    range = least...largest
    if count <= runIDsMax {
      if !isAscending { ids.sort() }
      form = .array(ids)
    } else if isAscending {
      form = .file(path)
    } else {
      ids = []
      form = .runs(try await Self.sortedRuns(of: path, runIDsMax, runPath))
    }
  }

  /// Returns all IDs if there are at most `max`, and if they are in memory; otherwise nil.
  func all(upTo max: Int) -> [Int64]? {
    guard count <= max, case .array(let ids) = form else { return nil }
    return ids
  }

  /// Returns a stream of the IDs from the beginning.
  /// - Throws: `Errno`.
  func stream() throws -> IDStream {
    switch form {
    case .array(let ids): IDStream(ids)
    case .file(let path): IDStream(try SubmissionBlocks(path))
    case .runs(let paths): IDStream(try MergedRuns(paths))
    }
  }

  /// The files of the sorted runs. The caller must delete them.
  var runs: [FilePath] {
    if case .runs(let paths) = form { paths } else { [] }
  }

  private static func sortedRuns(
    of path: FilePath, _ idsMax: Int, _ runPath: (Int) -> FilePath
  ) async throws -> [FilePath] {
    var paths: [FilePath] = []
    var ids: [Int64] = []
    ids.reserveCapacity(idsMax)
    var blocks = try SubmissionBlocks(path)
    func writeRun() throws {
      ids.sort()
      let path = runPath(paths.count)
      paths.append(path)
      let file = try FileDescriptor.open(
        path, .writeOnly, options: [.create, .truncate], permissions: .ownerReadWrite)
      try file.closeAfter { _ = try ids.withUnsafeBytes { try file.writeAll($0) } }
      ids.removeAll(keepingCapacity: true)
    }
    while var block = try blocks.next()?[...] {
      try Task.checkCancellation()
      while !block.isEmpty {
        let part = block.prefix(idsMax - ids.count)
        ids += part
        block = block.dropFirst(part.count)
        if ids.count == idsMax { try writeRun() }
      }
    }
    if !ids.isEmpty { try writeRun() }
    return paths
  }
}

/// A stream of ascending IDs.
struct IDStream {
  private var block: [Int64]
  private var position = 0
  private var more: (() throws -> [Int64]?)?

  init(_ ids: [Int64]) {
    block = ids
  }

  init(_ blocks: SubmissionBlocks) {
    var blocks = blocks
    block = []
    more = { try blocks.next() }
  }

  init(_ runs: MergedRuns) {
    var runs = runs
    block = []
    more = { try runs.next() }
  }

  /// Skips the IDs below `id`.
  /// - Returns: whether the next ID is `id`; nil at the end of the stream.
  mutating func skip(to id: Int64) throws -> Bool? {
    while true {
      while position < block.count {
        let next = block[position]
        if next >= id { return next == id }
        position += 1
      }
      guard let block = try more?() else { return nil }
      self.block = block
      position = 0
    }
  }
}

/// The IDs of a submission, block by block, without invalid lines.
struct SubmissionBlocks {
  private var reader: BlockReader
  private var scanner = SubmissionLines()
  private var isComplete = false

  init(_ path: FilePath) throws {
    reader = try BlockReader(path)
  }

  mutating func next() throws -> [Int64]? {
    guard !isComplete else { return nil }
    var ids: [Int64] = []
    if let block = try reader.next() {
      ids.reserveCapacity(block.count / 16)
      scanner.scan(block, id: { ids.append($0) }, invalid: { _ in })
    } else {
      isComplete = true
      scanner.finish(id: { ids.append($0) }, invalid: { _ in })
      reader.close()
    }
    return ids
  }
}

/// Merges sorted runs.
struct MergedRuns {
  private struct Run {
    var reader: BlockReader
    var ids: [Int64] = []
    var position = 0

    var head: Int64? { position < ids.count ? ids[position] : nil }

    mutating func fill() throws {
      guard let bytes = try reader.next() else { return reader.close() }
      ids = Array(bytes.bindMemory(to: Int64.self))
      position = 0
    }
  }

  private var runs: [Run]
  private static let idsPerBlock = 65_536

  init(_ paths: [FilePath]) throws {
    runs = try paths.map { Run(reader: try BlockReader($0, blockBytes: 256 * 1024)) }
    for index in runs.indices { try runs[index].fill() }
  }

  mutating func next() throws -> [Int64]? {
    var merged: [Int64] = []
    merged.reserveCapacity(Self.idsPerBlock)
    while merged.count < Self.idsPerBlock {
      // A linear search is enough, because there are few runs.
      var least: (index: Int, id: Int64)?
      for index in runs.indices {
        if let head = runs[index].head, head < least?.id ?? .max || least == nil {
          least = (index, head)
        }
      }
      guard let (index, id) = least else { break }
      merged.append(id)
      runs[index].position += 1
      if runs[index].head == nil { try runs[index].fill() }
    }
    return merged.isEmpty ? nil : merged
  }
}

/// Reads a file in blocks, into one buffer.
struct BlockReader {
  private let file: FileDescriptor
  private let buffer: Buffer
  private var isOpen = true

  private final class Buffer {
    let bytes: UnsafeMutableRawBufferPointer

    init(bytes count: Int) {
      bytes = .allocate(byteCount: count, alignment: 16)
    }

    deinit { bytes.deallocate() }
  }

  init(_ path: FilePath, blockBytes: Int = 1024 * 1024) throws {
    file = try FileDescriptor.open(path, .readOnly)
    buffer = Buffer(bytes: blockBytes)
  }

  /// Returns the next block; nil at the end. A block is valid until the next call. Only the last block may be shorter
  /// than the buffer.
  mutating func next() throws -> UnsafeRawBufferPointer? {
    guard isOpen else { return nil }
    var filled = 0
    while filled < buffer.bytes.count {
      let count = try file.read(into: .init(rebasing: buffer.bytes[filled...]))
      if count == 0 { break }
      filled += count
    }
    return filled == 0 ? nil : .init(rebasing: buffer.bytes[..<filled])
  }

  mutating func close() {
    if isOpen { try? file.close() }
    isOpen = false
  }
}
