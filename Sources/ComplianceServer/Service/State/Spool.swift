internal import Foundation
internal import HTTPTypes
internal import NIOCore
internal import Synchronization
internal import SystemPackage
internal import _NIOFileSystem

/// The files of jobs: submissions and results.
///
/// The name of a job's file begins with the job's ID. A job's file is valid only if the database contains its name.
/// Otherwise, it is still being written, or remained after an interrupted upload or a crash. `spool.id` is not a job's
/// file.
final class Spool: Sendable {
  enum Kind: String, CaseIterable {
    case submission = "ids"
    case result = "ndjson"
  }

  let directory: FilePath
  /// The names of files that are being written, or that are complete but not yet recorded in the database.
  private let openNames = Mutex<Set<String>>([])

  /// - Throws: `StartError` if the directory cannot be created or written.
  init(directory: FilePath) throws {
    self.directory = directory
    try? FileManager.default.createDirectory(
      atPath: directory.string, withIntermediateDirectories: true,
      attributes: [.posixPermissions: 0o700])
    var isDirectory = ObjCBool(false)
    guard
      FileManager.default.fileExists(atPath: directory.string, isDirectory: &isDirectory),
      isDirectory.boolValue, FileManager.default.isWritableFile(atPath: directory.string)
    else {
      throw StartError(
        message: "cannot write to the spool directory \(directory)",
        remedy: "set --spool to a directory that the server can create or write to")
    }
  }

  func path(_ name: String) -> FilePath { directory.appending(name) }

  /// Stores an upload. All of it is on disk when this returns.
  ///
  /// - Parameters:
  ///   - bytesExpected: the Content-Length, if the request has one.
  ///   - exchange: counts the received bytes. A fault plan can limit how many of them are stored.
  /// - Returns: the number of stored bytes.
  /// - Throws: a 413 problem as soon as more than `bytesMax` bytes arrive; a 400 problem if the upload ends too early;
  ///   a 408 problem if it arrives too slowly; errors of the file system. After any error the file is removed.
  func storeUpload<Body: AsyncSequence>(
    _ bytes: Body, as name: String, bytesExpected: Int?, bytesMax: Int,
    exchange: Exchange
  ) async throws -> Int64 where Body.Element == ByteBuffer {
    do {
      try await receive(bytes, into: path(name), bytesExpected, bytesMax, exchange)
      let received = Int64(exchange.facts.bytesReceived)
      let stored = exchange.stored(received)
      if stored < received { try await truncate(name, to: stored) }
      return stored
    } catch {
      await remove(name)
      throw error
    }
  }

  private func receive<Body: AsyncSequence>(
    _ bytes: Body, into path: FilePath, _ bytesExpected: Int?, _ bytesMax: Int,
    _ exchange: Exchange
  ) async throws where Body.Element == ByteBuffer {
    try await FileSystem.shared.withFileHandle(
      forWritingAt: path,
      options: .newFile(replaceExisting: false, permissions: [.ownerReadWrite])
    ) { file in
      var received = 0
      var writer = file.bufferedWriter(capacity: .mebibytes(1))
      exchange.requestBody()
      var iterator = bytes.makeAsyncIterator()
      while true {
        let buffer: ByteBuffer?
        do {
          buffer = try await iterator.next()
        } catch let problem as Problem {
          throw problem
        } catch {
          throw Problem.incompleteBody
        }
        guard let buffer else { break }
        received += buffer.readableBytes
        exchange.note { $0.bytesReceived += buffer.readableBytes }
        guard received <= bytesMax else { throw Problem.tooLarge(bytesMax) }
        try await writer.write(contentsOf: buffer)
      }
      // At shutdown the sequence ends early, without an error.
      guard !Task.isCancelled, bytesExpected == nil || received == bytesExpected else {
        throw Problem.incompleteBody
      }
      try await writer.flush()
      try await file.synchronize()
    }
    try await synchronizeDirectory()
  }

  /// Writes a result under a temporary name, then renames the file. The result is on disk when this returns.
  /// - Returns: the result's length in bytes.
  func writeResult(
    _ name: String, _ body: (inout BufferedWriter<WriteFileHandle>) async throws -> Void
  ) async throws -> Int64 {
    let partialName = name + ".part"
    do {
      let bytes = try await FileSystem.shared.withFileHandle(
        forWritingAt: path(partialName),
        options: .newFile(replaceExisting: false, permissions: [.ownerReadWrite])
      ) { file in
        var writer = file.bufferedWriter(capacity: .mebibytes(1))
        try await body(&writer)
        try await writer.flush()
        try await file.synchronize()
        return try await file.info().size
      }
      try await FileSystem.shared.moveItem(at: path(partialName), to: path(name))
      try await synchronizeDirectory()
      return bytes
    } catch {
      await remove(partialName)
      throw error
    }
  }

  /// Replaces a complete file.
  /// - Parameter body: reads the file at the first path, writes a file at the second path to disk, and returns the
  ///   length of the new file in bytes.
  func rewrite(
    _ name: String, _ body: (FilePath, FilePath) throws -> Int64
  ) async throws -> Int64 {
    let partialName = name + ".part"
    do {
      let bytes = try body(path(name), path(partialName))
      guard rename(path(partialName).string, path(name).string) == 0 else {
        throw Errno(rawValue: errno)
      }
      try await synchronizeDirectory()
      return bytes
    } catch {
      await remove(partialName)
      throw error
    }
  }

  private static let existingOrNew = OpenOptions.Write.modifyFile(
    createIfNecessary: true, permissions: [.ownerReadWrite])

  /// Appends a part of a resumable upload. All received bytes of the part are on disk when this returns, even if the
  /// rest of the part did not arrive.
  ///
  /// - Parameters:
  ///   - stored: the file's recorded length. Bytes after it are overwritten.
  ///   - skipped: how many bytes at the beginning of the part are already stored.
  ///   - bytesMax: the largest length of the part, including the skipped bytes.
  /// - Returns: how many bytes of the upload are now in the file, and whether the request's body arrived completely.
  /// - Throws: a 413 problem if the part has more than `bytesMax` bytes. The recorded length does not change.
  func storePart<Body: AsyncSequence>(
    _ bytes: Body, to name: String, after stored: Int64, skipping skipped: Int, bytesMax: Int,
    exchange: Exchange
  ) async throws -> (end: Int64, isWhole: Bool) where Body.Element == ByteBuffer {
    let outcome = try await FileSystem.shared.withFileHandle(
      forWritingAt: path(name), options: Self.existingOrNew
    ) { file in
      var received = 0
      var end = stored
      var isWhole = true
      exchange.requestBody()
      var writer = file.bufferedWriter(startingAtAbsoluteOffset: stored, capacity: .mebibytes(1))
      var iterator = bytes.makeAsyncIterator()
      while true {
        let next: ByteBuffer?
        do {
          next = try await iterator.next()
        } catch {
          isWhole = false
          break
        }
        guard var buffer = next else { break }
        received += buffer.readableBytes
        exchange.note { $0.bytesReceived += buffer.readableBytes }
        guard received <= bytesMax else { throw Problem.tooLarge(bytesMax) }
        let known = min(max(0, skipped - (received - buffer.readableBytes)), buffer.readableBytes)
        buffer.moveReaderIndex(forwardBy: known)
        end += try await writer.write(contentsOf: buffer)
      }
      try await writer.flush()
      try await file.synchronize()
      return (end: end, isWhole: isWhole && !Task.isCancelled)
    }
    if stored == 0 { try await synchronizeDirectory() }
    return outcome
  }

  /// Truncates a file to this length.
  func truncate(_ name: String, to bytes: Int64) async throws {
    try await FileSystem.shared.withFileHandle(
      forWritingAt: path(name), options: Self.existingOrNew
    ) {
      try await $0.resize(to: .bytes(bytes))
      try await $0.synchronize()
    }
  }

  /// Returns the download of a job's result.
  /// - Throws: a 404 problem if the job has no result; a 500 problem if the file is missing or has another length.
  func download(
    of job: Job, entityTag: String, headers: HTTPFields
  ) async throws -> ResultDownload {
    guard let name = job.resultFile, let bytes = job.resultBytes else {
      throw Problem(
        kind: .resourceNotFound, detail: "The job is \(job.status.rawValue). It has no result.",
        parameter: "id", value: "\(job.id)", jobID: "\(job.id)")
    }
    guard try await FileSystem.shared.info(forFileAt: path(name))?.size == bytes else {
      throw Problem(
        kind: .internalError,
        detail: "The result's file is missing, or does not have the recorded length.")
    }
    return ResultDownload(path: path(name), bytes: bytes, entityTag: entityTag, headers: headers)
  }

  /// The spool counts as full if less than this is free.
  private static let freeBytesMin: UInt64 = 1024 * 1024

  /// Checks whether the directory can be used and the disk has free space.
  func condition() async -> Health.Status {
    let (statuses, status) = AsyncStream.makeStream(of: Health.Status.self)
    // On a network disk, the system calls for this check might never return. A cancelled task does not wait for them.
    DispatchQueue.global().async { [directory] in
      status.yield(Self.condition(of: directory))
      status.finish()
    }
    for await status in statuses { return status }
    return .slow
  }

  private static func condition(of directory: FilePath) -> Health.Status {
    var disk = statvfs()
    guard access(directory.appending("spool.id").string, R_OK) == 0,
      access(directory.string, W_OK) == 0, statvfs(directory.string, &disk) == 0
    else { return .unavailable }
    let blocks = UInt64(geteuid() == 0 ? disk.f_bfree : disk.f_bavail)
    return blocks * UInt64(disk.f_frsize) >= freeBytesMin ? .ok : .full
  }

  /// Removes a file. An error is ignored, because the sweeper tries again.
  func remove(_ name: String) async {
    _ = try? await FileSystem.shared.removeItem(at: path(name))
  }

  // MARK: Names

  /// Returns the names of the files for which no call of `withNewName` is running. If the database does not refer to
  /// one of these files now, it never will.
  func closedNames() throws -> [String] {
    // The directory must be listed before the open names are read. A listed file that is closed in between is already
    // recorded in the database, or never will be. In the other order, a new file could look closed.
    let names = try FileManager.default.contentsOfDirectory(atPath: directory.string)
    let open = openNames.withLock { $0 }
    return names.filter { name in !open.contains { name.hasPrefix($0) } }
  }

  /// Returns the job ID in a file's name; nil if it is not the name of a job's file.
  static func jobID(of name: String) -> Int64? {
    let suffixes = Kind.allCases.map { "." + $0.rawValue } + [".part"]
    guard suffixes.contains(where: name.hasSuffix) else { return nil }
    return name.split(separator: "-").first.flatMap { Int64($0) }
  }

  /// Calls `body` with an unused file name. `body` must record the name in the database, because the sweeper might
  /// remove the file after `body` has returned.
  func withNewName<R>(
    of jobID: Int64, _ kind: Kind, _ body: (_ name: String) async throws -> R
  ) async throws -> R {
    let number = String(UInt64.random(in: .min ... .max), radix: 36)
    let name = "\(jobID)-\(number).\(kind.rawValue)"
    openNames.withLock { _ = $0.insert(name) }
    defer { openNames.withLock { _ = $0.remove(name) } }
    return try await body(name)
  }

  /// Synchronizes the directory. Otherwise a crash of the machine could lose the name of a new file.
  private func synchronizeDirectory() async throws {
    try await FileSystem.shared.withDirectoryHandle(atPath: directory) {
      try await $0.synchronize()
    }
  }
}
