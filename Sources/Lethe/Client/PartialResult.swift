import Checksums
import CrashPoints
import Foundation
import NIOHTTP1
import SystemPackage

/// The received bytes of a result, in a file beside the result's own: `….partial`.
///
/// A download that breaks off continues after these bytes if the host confirms that it still has the same version of
/// the result. A note beside the file (`….partial.json`) contains the version and the number and checksum of the bytes.
/// With the note, another process can continue the download. It contains no URL.
final class PartialResult {
  /// A version of a result at its host.
  struct Version: Codable, Equatable {
    /// A strong entity tag, with its quotes.
    let entityTag: String?
    /// A `Last-Modified` that no later version can share; nil if there is an entity tag.
    let lastModified: String?
    /// The length of the whole result.
    let bytes: Int
    /// The values of `x-goog-hash`.
    let hashes: [String]
  }

  private struct Note: Codable {
    let job: String
    let version: Version
    let bytes: Int
    let sha256: String
  }

  /// The note is written again after this many further bytes. A process that is killed loses at most these.
  private static let noteBytes = 16 << 20
  /// Failed attempts count as progress when they have received this many bytes together.
  private static let progressBytesMin = 1 << 18

  let path: FilePath
  private let job: String
  private let file: FileDescriptor
  /// The version that the bytes belong to. Nil if their download cannot be continued.
  private(set) var version: Version?
  /// The bytes in the file.
  private(set) var bytes = 0
  private var hash = SHA256()
  private var announcedHash = AnnouncedHash([])
  private var notedBytes = 0
  private var bytesOfFailedAttempt = 0

  /// Opens the file for a result at `path`. The file begins with the bytes that an earlier download of the job has left
  /// there or at one of the paths in `former`, if they are intact. The files of the paths in `former` are removed.
  /// - Throws: `Errno`.
  init(at path: FilePath, of job: String, former: [FilePath] = []) throws {
    (self.path, self.job) = (path, job)
    file = try CrashStep.partialFileOpened.around {
      try FileDescriptor.open(
        Self.file(path), .readWrite, options: [.create], permissions: [.ownerReadWrite])
    }
    do {
      for source in [path] + former where version == nil { try take(over: source) }
      if version == nil { try restart() }
    } catch {
      try? file.close()
      // Without its note, the file is of no use to later downloads.
      if access(Self.note(path).string, F_OK) != 0 { unlink(Self.file(path).string) }
      throw error
    }
    for source in former { CrashStep.formerPartialRemoved.around { Self.remove(source) } }
  }

  deinit { try? file.close() }

  private static func file(_ path: FilePath) -> FilePath { FilePath(path.string + ".partial") }
  private static func note(_ path: FilePath) -> FilePath { FilePath(path.string + noteSuffix) }

  /// The end of a note's name, after the name of its result.
  static let noteSuffix = ".partial.json"

  private static func remove(_ path: FilePath) {
    unlink(note(path).string)
    unlink(file(path).string)
  }

  // MARK: An earlier download

  /// Takes over the bytes of an earlier download, if they are the bytes that its note describes.
  ///
  /// The bytes of another process are copied. If that process still runs, it continues to write its own file.
  private func take(over source: FilePath) throws {
    guard let data = FileManager.default.contents(atPath: Self.note(source).string),
      let note = try? JSONDecoder().decode(Note.self, from: data), note.job == job,
      note.bytes > 0, note.bytes < note.version.bytes,
      let from = source == path
        ? file : try? FileDescriptor.open(Self.file(source), .readOnly)
    else { return }
    defer { if source != path { try? from.close() } }
    CrashStep.formerPartialCopied.reached(.before)
    try restart(removingNote: false, truncating: source != path)
    announcedHash = AnnouncedHash(note.version.hashes)
    let block = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 16)
    defer { block.deallocate() }
    while bytes < note.bytes {
      let part = UnsafeMutableRawBufferPointer(rebasing: block.prefix(note.bytes - bytes))
      guard let count = try? from.read(fromAbsoluteOffset: Int64(bytes), into: part), count > 0
      else { break }
      let read = UnsafeRawBufferPointer(rebasing: part[..<count])
      if source != path { _ = try file.writeAll(toAbsoluteOffset: Int64(bytes), read) }
      add(read)
    }
    guard bytes == note.bytes, hash.finalize().hexString == note.sha256 else { return }
    guard ftruncate(file.rawValue, off_t(bytes)) == 0 else { throw Errno(rawValue: errno) }
    version = note.version
    // The note must describe the file of this process before the other one is removed.
    if source != path { try writeNote() }
    notedBytes = bytes
    bytesOfFailedAttempt = bytes
    CrashStep.formerPartialCopied.reached(.after)
  }

  // MARK: Receiving

  /// Begins again with an empty file.
  /// - Parameters:
  ///   - version: the version that the following bytes belong to; nil if their download cannot be continued.
  ///   - hashes: the values of `x-goog-hash` for the bytes in the file.
  func restart(_ version: Version? = nil, hashes: [String] = []) throws {
    try restart(removingNote: true, truncating: true)
    self.version = version
    announcedHash = AnnouncedHash(hashes)
  }

  private func restart(removingNote: Bool, truncating: Bool) throws {
    if removingNote { unlink(Self.note(path).string) }
    if truncating, ftruncate(file.rawValue, 0) != 0 { throw Errno(rawValue: errno) }
    version = nil
    (bytes, notedBytes, bytesOfFailedAttempt) = (0, 0, 0)
    (hash, announcedHash) = (SHA256(), AnnouncedHash([]))
  }

  /// Appends bytes to the file.
  /// - Throws: `Errno`.
  func append(_ block: UnsafeRawBufferPointer) throws {
    _ = try file.writeAll(toAbsoluteOffset: Int64(bytes), block)
    add(block)
    if version != nil, bytes - notedBytes >= CrashStep.blockBytes(Self.noteBytes) {
      try writeNote()
    }
  }

  private func add(_ block: UnsafeRawBufferPointer) {
    hash.update(block)
    announcedHash.update(block)
    bytes += block.count
  }

  /// A description of the checksum of the file's bytes that differs from the announced one. Nil if all are equal.
  var mismatch: String? { announcedHash.mismatch }

  /// Whether at least `progressBytesMin` bytes were received since the last call that returned true, and the download
  /// can continue after them.
  func hasProgressed() -> Bool {
    guard version != nil, bytes - bytesOfFailedAttempt >= Self.progressBytesMin else {
      return false
    }
    bytesOfFailedAttempt = bytes
    return true
  }

  // MARK: The end

  private func writeNote() throws {
    guard let version, bytes > 0, bytes < version.bytes else { return }
    // The bytes must be on disk before the note counts them.
    guard fdatasync(file.rawValue) == 0 else { throw Errno(rawValue: errno) }
    let note = Note(
      job: job, version: version, bytes: bytes, sha256: hash.finalize().hexString)
    try PrivateFile.write(
      Array(JSONEncoder().encode(note)), to: Self.note(path), renaming: .partialNoteRenamed)
    notedBytes = bytes
  }

  /// Ends a download that failed.
  /// - Parameter isInterrupted: whether a later download may continue it.
  func end(isInterrupted: Bool) {
    if isInterrupted, version != nil, bytes > 0, (try? writeNote()) != nil { return }
    CrashStep.partialFileRemoved.around { Self.remove(path) }
  }

  /// Makes the file the result.
  /// - Returns: the SHA-256 of its bytes.
  func complete() throws -> [UInt8] {
    guard fsync(file.rawValue) == 0 else { throw Errno(rawValue: errno) }
    try CrashStep.resultFileRenamed.around {
      guard rename(Self.file(path).string, path.string) == 0 else { throw Errno(rawValue: errno) }
    }
    CrashStep.partialNoteRemoved.around { _ = unlink(Self.note(path).string) }
    return hash.finalize()
  }
}

extension PartialResult.Version {
  /// The least difference between a `Last-Modified` and its response's `Date`, in seconds. RFC 9110 (section 8.8.2.2)
  /// requires a second, because a result can change twice in one second. RFC 7232 required a minute, because the two
  /// times can come from different clocks.
  private static let strongDateSeconds = 60.0

  /// The version of a complete response. Nil if a download of it cannot be continued.
  init?(_ headers: HTTPHeaders) {
    guard ContentCoding(headers) == .identity,
      let length = Self.only("content-length", headers).flatMap(Int.init), length > 0,
      !headers[canonicalForm: "accept-ranges"].contains(where: { $0.lowercased() == "none" })
    else { return nil }
    if headers.contains(name: "etag") {
      // A weak tag does not show that the bytes are the same. With any tag, the date must not be used (RFC 9110,
      // section 13.1.5).
      guard let tag = Self.only("etag", headers), tag.hasPrefix("\""), tag.hasSuffix("\""),
        tag.utf8.count >= 2
      else { return nil }
      (entityTag, lastModified) = (tag, nil)
    } else {
      guard let text = Self.only("last-modified", headers), let changed = HTTPDate.date(text),
        let date = Self.only("date", headers).flatMap(HTTPDate.date),
        date.timeIntervalSince(changed) >= Self.strongDateSeconds
      else { return nil }
      (entityTag, lastModified) = (nil, text)
    }
    bytes = length
    hashes = headers["x-goog-hash"]
  }

  /// The value of `If-Range`.
  var validator: String { entityTag ?? lastModified ?? "" }

  /// Whether a response with status 206 has exactly the bytes of this version from `offset` to the end.
  func hasRest(from offset: Int, in headers: HTTPHeaders) -> Bool {
    guard ContentCoding(headers) == .identity, !MediaType(headers).excludesResult,
      let range = Self.only("content-range", headers)?
        .wholeMatch(of: /bytes ([0-9]{1,18})-([0-9]{1,18})\/([0-9]{1,18})/),
      Int(range.1) == offset, Int(range.2) == bytes - 1, Int(range.3) == bytes
    else { return false }
    if let length = headers.first(name: "content-length"), Int(length) != bytes - offset {
      return false
    }
    if let entityTag, Self.only("etag", headers) != entityTag { return false }
    if let lastModified, Self.only("last-modified", headers) != lastModified { return false }
    let sent = headers["x-goog-hash"]
    return sent.isEmpty || Self.parts(sent) == Self.parts(hashes)
  }

  private static func only(_ name: String, _ headers: HTTPHeaders) -> String? {
    let values = headers[name]
    return values.count == 1 ? values[0].trimmingCharacters(in: .whitespaces) : nil
  }

  /// A header can appear once with commas, or several times.
  private static func parts(_ hashes: [String]) -> Set<String> {
    Set(
      hashes.flatMap { $0.split(separator: ",") }.map { $0.trimmingCharacters(in: .whitespaces) })
  }
}
