import Foundation
import Results
import SystemPackage
import Vocabulary
import WorkFiles

/// Sorts the events of a result by ID, in bounded memory. The API returns lines in any order.
///
/// Events are collected in memory. When there are `runLength` of them, they are sorted and written to a file as one
/// sorted run, and `sorted()` merges the runs.
struct EventSorter: ~Copyable {
  /// An event with its line, in 32 bytes.
  struct Event: Sendable, Comparable {
    let id: Int64
    /// Microseconds since 2000. `Int64.min` if the line has no time. The same applies to `redacted`.
    private let created: Int64
    private let redacted: Int64
    private let lineNumber: UInt32
    let reason: Reason

    init(_ event: Results.Event, line: Int) {
      id = event.id
      created = event.createdAt?.microsecondsSince2000 ?? .min
      redacted = event.redactedAt?.microsecondsSince2000 ?? .min
      lineNumber = UInt32(truncatingIfNeeded: line)
      reason = event.reason
    }

    var line: Int { Int(lineNumber) }
    var createdAt: Int64? { created == .min ? nil : created }
    var redactedAt: Int64? { redacted == .min ? nil : redacted }

    /// By ID, and then by line.
    static func < (left: Event, right: Event) -> Bool {
      left.id != right.id ? left.id < right.id : left.lineNumber < right.lineNumber
    }
  }

  /// The largest line number that an event can have.
  static let lineMax = Int(UInt32.max)

  private let path: FilePath
  private let runLength: Int
  private var events: [Event] = []
  private var isSorted = true
  private var file: FileDescriptor?
  /// The number of events of each run in the file.
  private var runs: [Int] = []

  /// - Parameter path: where a file is created if there are more than `runLength` events. It is removed at once, so
  ///   that it disappears with the process.
  init(path: FilePath, runLength: Int = 500_000) {
    self.path = path
    self.runLength = runLength
  }

  deinit {
    try? file?.close()
  }

  /// - Throws: `WorkFileError` if the file cannot be written.
  mutating func append(_ event: Event) throws {
    if events.count == runLength { try writeRun() }
    if let last = events.last, event < last { isSorted = false }
    events.append(event)
  }

  private mutating func writeRun() throws {
    sort()
    try WorkFileError.explaining(.write, path) {
      // The file is closed with the sorter, also after an error.
      let file = try openFile()
      self.file = file
      try events.withUnsafeBytes { bytes in _ = try file.writeAll(bytes) }
    }
    runs.append(events.count)
    events.removeAll(keepingCapacity: true)
    isSorted = true
  }

  private func openFile() throws -> FileDescriptor {
    if let file { return file }
    let new = try FileDescriptor.open(
      path, .readWrite, options: [.create, .exclusiveCreate, .closeOnExec],
      permissions: .ownerReadWrite)
    try path.withPlatformString { name in
      guard unlink(name) == 0 else { throw Errno(rawValue: errno) }
    }
    return new
  }

  private mutating func sort() {
    if !isSorted { events.sort() }
    isSorted = true
  }

  /// The events in the order of their IDs. Events with the same ID are in the order of their lines.
  mutating func sorted() -> Merge {
    sort()
    var sources: [Source] = []
    var position: Int64 = 0
    for count in runs {
      sources.append(Source(file: file, path, position: position, count: count))
      position += Int64(count * MemoryLayout<Event>.stride)
    }
    sources.append(Source(events))
    return Merge(sources)
  }

  /// One sorted run.
  struct Source {
    private var block: [Event]
    private var index = 0
    private let file: FileDescriptor?
    private let path: FilePath
    private var position: Int64
    /// The number of the run's events in the file after the block.
    private var rest: Int

    private static let blockLength = 2048

    fileprivate init(_ events: [Event]) {
      (block, file, path, position, rest) = (events, nil, "", 0, 0)
    }

    fileprivate init(file: FileDescriptor?, _ path: FilePath, position: Int64, count: Int) {
      (block, self.file, self.path, self.position, rest) = ([], file, path, position, count)
    }

    /// - Throws: `WorkFileError` if the file cannot be read. `CancellationError`.
    mutating func next() throws -> Event? {
      if index == block.count {
        guard try readBlock() else { return nil }
      }
      defer { index += 1 }
      return block[index]
    }

    private mutating func readBlock() throws -> Bool {
      try Task.checkCancellation()
      guard rest > 0, let file else { return false }
      let count = min(rest, Self.blockLength)
      let start = position
      block = try [Event](unsafeUninitializedCapacity: count) { buffer, initialized in
        let bytes = UnsafeMutableRawBufferPointer(buffer)
        var filled = 0
        while filled < count * MemoryLayout<Event>.stride {
          let got = try WorkFileError.explaining(.read, path) {
            try file.read(
              fromAbsoluteOffset: start + Int64(filled),
              into: UnsafeMutableRawBufferPointer(rebasing: bytes[filled...]))
          }
          guard got > 0 else { throw WorkFileError(.read, path, nil) }
          filled += got
        }
        initialized = count
      }
      position += Int64(count * MemoryLayout<Event>.stride)
      rest -= count
      index = 0
      return true
    }
  }

  /// Merges sorted runs.
  struct Merge {
    private var sources: [Source]
    /// The next event of each source that has one.
    private var heads: [Event?] = []
    private var hasStarted = false

    fileprivate init(_ sources: [Source]) {
      self.sources = sources
    }

    /// - Throws: `WorkFileError` if the file cannot be read. `CancellationError`.
    mutating func next() throws -> Event? {
      if sources.count == 1 { return try sources[0].next() }
      if !hasStarted {
        for index in sources.indices { heads.append(try sources[index].next()) }
        hasStarted = true
      }
      var first: Int?
      for (index, head) in heads.enumerated() {
        if let head, first.flatMap({ heads[$0] }).map({ head < $0 }) ?? true { first = index }
      }
      guard let first else { return nil }
      let event = heads[first]
      heads[first] = try sources[first].next()
      return event
    }
  }
}
