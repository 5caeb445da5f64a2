import CrashPoints
import Foundation
import SystemPackage

/// A small file that only its owner can read.
enum PrivateFile {
  /// Writes the file completely or not at all.
  /// - Parameter step: the step that makes it visible.
  /// - Throws: `Errno`.
  static func write(_ bytes: [UInt8], to path: FilePath, renaming step: CrashStep) throws {
    let partial = FilePath(path.string + ".new")
    unlink(partial.string)
    let file = try FileDescriptor.open(
      partial, .writeOnly, options: [.create, .exclusiveCreate], permissions: [.ownerReadWrite])
    do {
      try file.closeAfter {
        _ = try file.writeAll(bytes)
        guard fsync(file.rawValue) == 0 else { throw Errno(rawValue: errno) }
      }
      try step.around {
        guard rename(partial.string, path.string) == 0 else { throw Errno(rawValue: errno) }
      }
    } catch {
      unlink(partial.string)
      throw error
    }
  }
}
