internal import SystemPackage
internal import _NIOFileSystem

extension Error {
  /// Whether the disk is full, or a quota or file size limit is reached.
  var isStorageFull: Bool {
    let errno: Errno? =
      switch self {
      case let error as Errno: error
      case let error as FileSystemError:
        (error.cause as? FileSystemError.SystemCallError)?.errno
      default: nil
      }
    return [.noSpace, .fileTooLarge, .diskQuotaExceeded].contains(errno)
  }
}
