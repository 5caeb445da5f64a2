public import Failures
import Foundation
public import SystemPackage

/// A file or a folder of the work directory cannot be written or read. The chunk is not to blame: its work can continue
/// after the cause is removed.
public struct WorkFileError: ExplainedError, Sendable {
  /// What Lethe tried to do with the file.
  public enum Operation: String, Sendable {
    /// Create a folder.
    case create
    case write
    case read
  }

  public let path: FilePath
  public let operation: Operation
  /// The system's error. Nil if the file has another size than when Lethe wrote it.
  public let errno: Errno?

  public init(_ operation: Operation, _ path: FilePath, _ errno: Errno?) {
    (self.operation, self.path, self.errno) = (operation, path, errno)
  }

  /// Runs `body`, and throws a `WorkFileError` instead of an `Errno`.
  public static func explaining<R: ~Copyable>(
    _ operation: Operation, _ path: FilePath, _ body: () throws -> R
  ) throws -> R {
    do {
      return try body()
    } catch let error as Errno {
      throw WorkFileError(operation, path, error)
    }
  }

  /// Whether the file has disappeared, or somebody has changed it.
  public var isOfLostFile: Bool { errno == nil || errno == .noSuchFileOrDirectory }

  public var message: String {
    """
    cannot \(operation.rawValue) the \(operation == .create ? "folder" : "file"): \
    \(errno.map { "\($0)" } ?? "its size has changed")
    """
  }

  public var context: ErrorContext { ErrorContext(file: path.string) }

  public var remedy: String {
    switch errno {
    case nil, .noSuchFileOrDirectory?, .staleNFSFileHandle?:
      "run again: the run writes missing and changed files again"
    case .noSpace?, .diskQuotaExceeded?:
      "free space on the disk of the work directory, or name another folder with --work-dir; then run again"
    case .readOnlyFileSystem?:
      """
      make the file system of the work directory writable, or name another folder with --work-dir; then run again
      """
    case .permissionDenied?, .notPermitted?:
      """
      run lethe as the owner of the work directory (this process runs as user \(geteuid())), correct the permissions of \
      its folders and files, or name another folder with --work-dir; then run again
      """
    case .tooManyOpenFiles?, .tooManyOpenFilesInSystem?:
      "raise the limit of open files (ulimit -n); then run again"
    default:
      """
      check the free space, the permissions and the disk of the work directory, or name another folder with \
      --work-dir; then run again
      """
    }
  }

  /// The temporary causes can end by themselves. A person must remove the others, such as wrong permissions and mounts.
  public var disposition: Disposition {
    switch errno {
    case nil, .noSpace?, .diskQuotaExceeded?, .noSuchFileOrDirectory?, .staleNFSFileHandle?,
      .tooManyOpenFiles?, .tooManyOpenFilesInSystem?:
      .temporary
    default: .failed
    }
  }
}
