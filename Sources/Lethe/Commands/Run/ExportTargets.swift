import Foundation
import SystemPackage

/// The process's stdout as a stream. The process at its other end might read slowly, or not at all.
enum StandardOutput {
  /// A pipe that is ready accepts this number of bytes without blocking.
  private static let bytesPerWrite = 4096
  private static let waitMilliseconds: Int32 = 100

  /// Writes all bytes, and returns when they are written.
  /// - Throws: `CancellationError`, even while the reader does not read; `CommandError` if stdout cannot be written,
  ///   for example because the reader has closed it.
  static func write(_ bytes: [UInt8]) async throws {
    var written = 0
    while written < bytes.count {
      try Task.checkCancellation()
      var descriptor = pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0)
      guard poll(&descriptor, 1, waitMilliseconds) > 0 else {
        await Task.yield()
        continue
      }
      let end = min(written + bytesPerWrite, bytes.count)
      let count = bytes[written..<end].withUnsafeBytes {
        Foundation.write(STDOUT_FILENO, $0.baseAddress, $0.count)
      }
      if count < 0, errno != EINTR, errno != EAGAIN {
        throw CommandError(
          message:
            "cannot write to stdout: \(Errno(rawValue: errno)); the export is incomplete",
          remedy: "export again; with --file, the export is written completely or not at all")
      }
      written += max(count, 0)
    }
  }
}

/// A file that gets its name only when it is complete.
struct WholeFile {
  private let path: FilePath
  private let partialPath: FilePath
  private let descriptor: FileDescriptor

  /// Writes the bytes that `body` appends. If `body` throws, the new file is removed, and an existing file is
  /// not changed.
  static func write<R>(
    _ path: String, _ body: (WholeFile) async throws -> R
  ) async throws -> R {
    let file = try WholeFile(FilePath(path))
    defer { try? file.descriptor.close() }
    do {
      let value = try await body(file)
      try file.finish()
      return value
    } catch {
      unlink(file.partialPath.string)
      throw error
    }
  }

  private init(_ path: FilePath) throws {
    self.path = path
    let partialPath = FilePath(path.string + ".partial")
    self.partialPath = partialPath
    descriptor = try Self.writing(path) {
      try FileDescriptor.open(
        partialPath, .writeOnly, options: [.create, .truncate], permissions: [.ownerReadWrite])
    }
  }

  func append(_ bytes: [UInt8]) throws {
    _ = try Self.writing(path) { try descriptor.writeAll(bytes) }
  }

  private func finish() throws {
    try Self.writing(path) {
      try Self.sync(descriptor)
      guard rename(partialPath.string, path.string) == 0 else { throw Errno(rawValue: errno) }
      let parent = path.removingLastComponent()
      let directory = try FileDescriptor.open(parent.isEmpty ? "." : parent, .readOnly)
      try directory.closeAfter { try Self.sync(directory) }
    }
  }

  private static func sync(_ descriptor: FileDescriptor) throws {
    guard fsync(descriptor.rawValue) == 0 else { throw Errno(rawValue: errno) }
  }

  private static func writing<R>(_ path: FilePath, _ body: () throws -> R) throws -> R {
    do {
      return try body()
    } catch let error as Errno {
      throw CommandError(
        message: "cannot write \(path): \(error)",
        remedy: "check the folder, its permissions and its free space")
    }
  }
}
