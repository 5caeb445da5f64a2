import Foundation
public import SystemPackage

/// A folder of the work directory.
public enum WorkFolder {
  /// Creates a folder and its missing parents.
  /// - Throws: `WorkFileError`.
  public static func create(_ path: FilePath) throws {
    guard !exists(path) else { return }
    let parent = path.removingLastComponent()
    if !parent.isEmpty, parent != path { try create(parent) }
    // Another process may create it at the same time.
    guard mkdir(path.string, 0o777) != 0 else { return }
    let error = Errno(rawValue: errno)
    guard error != .fileExists || !exists(path) else { return }
    throw WorkFileError(.create, path, error)
  }

  private static func exists(_ path: FilePath) -> Bool {
    var isFolder: ObjCBool = false
    return FileManager.default.fileExists(atPath: path.string, isDirectory: &isFolder)
      && isFolder.boolValue
  }
}
