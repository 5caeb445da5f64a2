internal import Foundation
internal import NIOCore
internal import Synchronization
internal import SystemPackage
internal import _NIOFileSystem

/// The files of jobs: what was uploaded, and what came of it.
///
/// Every file's name begins with its job's ID. A file counts only once the database names it; whatever
/// else is found here was left by an upload or a server that broke off.
final class Spool: Sendable {
  let directory: FilePath
  /// Files that are being written: the database does not name them yet.
  private let openNames = Mutex<Set<String>>([])

  /// - Throws: `StartError` if the directory is not there and cannot be made.
  init(directory: FilePath) throws {
    self.directory = directory
    do {
      try FileManager.default.createDirectory(
        atPath: directory.string, withIntermediateDirectories: true,
        attributes: [.posixPermissions: 0o700])
    } catch {
      throw StartError(
        message: "cannot make the spool directory \(directory)",
        remedy: "name one that can be written, with --spool")
    }
  }

  func path(_ name: String) -> FilePath { directory.appending(name) }

  /// Stores an upload, and hands the file's name to `body` once every byte is on disk.
  ///
  /// The file is removed if the upload breaks off or `body` throws a `Problem`. If `body` throws
  /// anything else, the database may or may not name it by now; the next sweep finds out.
  /// - Parameter bytesExpected: what Content-Length promised, if it did.
  /// - Throws: a 413 problem as soon as more than `bytesMax` have come; a 400 problem if the upload
  ///   breaks off.
  func storingUpload<R, Body: AsyncSequence>(
    _ bytes: Body, of jobID: Int64, bytesExpected: Int?, bytesMax: Int,
    then body: (_ name: String) async throws -> R
  ) async throws -> R where Body.Element == ByteBuffer {
    let name = newName(jobID, "ids")
    defer { close(name) }
    do {
      try await receive(bytes, into: path(name), bytesExpected, bytesMax)
    } catch {
      await remove(name)
      guard error is UploadBrokenOff else { throw error }
      throw Problem.invalid(nil, nil, "The upload broke off before its end.")
    }
    do {
      return try await body(name)
    } catch let problem as Problem {
      await remove(name)
      throw problem
    }
  }

  private struct UploadBrokenOff: Error {}

  private func receive<Body: AsyncSequence>(
    _ bytes: Body, into path: FilePath, _ bytesExpected: Int?, _ bytesMax: Int
  ) async throws where Body.Element == ByteBuffer {
    try await FileSystem.shared.withFileHandle(
      forWritingAt: path,
      options: .newFile(replaceExisting: false, permissions: [.ownerReadWrite])
    ) { file in
      var received = 0
      var writer = file.bufferedWriter(capacity: .mebibytes(1))
      var iterator = bytes.makeAsyncIterator()
      while true {
        let buffer: ByteBuffer?
        do {
          buffer = try await iterator.next()
        } catch {
          throw UploadBrokenOff()
        }
        guard let buffer else { break }
        received += buffer.readableBytes
        guard received <= bytesMax else { throw Problem.tooLarge(bytesMax) }
        try await writer.write(contentsOf: buffer)
      }
      // A server that is stopped ends the sequence as if the body were whole.
      guard !Task.isCancelled, bytesExpected == nil || received == bytesExpected else {
        throw UploadBrokenOff()
      }
      try await writer.flush()
      try await file.synchronize()
    }
    try await synchronizeDirectory()
  }

  /// Writes a result under a temporary name; it has its own name, and is on disk, once this returns.
  func writingResult(
    of jobID: Int64, _ body: (inout BufferedWriter<WriteFileHandle>) async throws -> Void
  ) async throws -> (name: String, bytes: Int64) {
    let name = newName(jobID, "ndjson")
    defer { close(name) }
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
      return (name, bytes)
    } catch {
      await remove(partialName)
      throw error
    }
  }

  /// A file that is not there is fine: it was to be removed.
  func remove(_ name: String) async {
    _ = try? await FileSystem.shared.removeItem(at: path(name))
  }

  // MARK: Names

  /// - Returns: the files that nobody is writing.
  func closedNames() throws -> [String] {
    // Asked for first: a file that is opened after this is not in the listing or not in `open`.
    let names = try FileManager.default.contentsOfDirectory(atPath: directory.string)
    let open = openNames.withLock { $0 }
    return names.filter { name in !open.contains { name.hasPrefix($0) } }
  }

  /// The job that a file belongs to; nil if it is not one of the spool's.
  static func jobID(of name: String) -> Int64? {
    guard [".ids", ".ndjson", ".part"].contains(where: name.hasSuffix) else { return nil }
    return name.split(separator: "-").first.flatMap { Int64($0) }
  }

  /// A name that no other upload or result of the job has.
  private func newName(_ jobID: Int64, _ kind: String) -> String {
    let name = "\(jobID)-\(String(UInt64.random(in: .min ... .max), radix: 36)).\(kind)"
    openNames.withLock { _ = $0.insert(name) }
    return name
  }

  private func close(_ name: String) {
    openNames.withLock { _ = $0.remove(name) }
  }

  /// A file's name is on disk only once its directory is.
  private func synchronizeDirectory() async throws {
    try await FileSystem.shared.withDirectoryHandle(atPath: directory) {
      try await $0.synchronize()
    }
  }
}
