internal import Foundation
internal import Testing

/// A small file system that only some processes see, in a mount namespace of its own.
public final class PrivateMount: Sendable {
  private let folder: String
  private let keeper: ChildProcess

  /// Mounts an empty file system while `body` runs.
  /// - Parameters:
  ///   - folder: where the processes see the file system. It is created if it is missing.
  ///   - kilobytes: its size.
  public static func with<R>(
    at folder: String, kilobytes: Int, _ body: (PrivateMount) async throws -> R
  ) async throws -> R {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let mount = try PrivateMount(folder, kilobytes)
    defer { mount.keeper.send(signal: SIGKILL) }
    while !FileManager.default.fileExists(atPath: mount.path + "/.mounted") {
      try #require(mount.keeper.exitCode == nil)
      try await pollingPause()
    }
    try FileManager.default.removeItem(atPath: mount.path + "/.mounted")
    return try await body(mount)
  }

  /// The keeper holds the namespaces until it is killed.
  private init(_ folder: String, _ kilobytes: Int) throws {
    self.folder = folder
    let script = #"""
      mount -t tmpfs -o size="$2"k none "$1" && touch "$1/.mounted" && exec sleep infinity
      """#
    keeper = try ChildProcess(
      [
        "/usr/bin/unshare", PrivateNamespace.mounts, "/bin/bash", "-c", script, "mount", folder,
        "\(kilobytes)",
      ])
  }

  /// The path at which this process sees the folder.
  public var path: String { "/proc/\(keeper.processIdentifier)/root\(folder)" }

  /// A command that starts a program which sees the file system.
  public var launcher: [String] {
    let user = PrivateNamespace.isRoot ? [] : ["--user", "--preserve-credentials"]
    return ["/usr/bin/nsenter", "--target=\(keeper.processIdentifier)", "--mount"] + user
  }

  /// Changes the file system's options, such as `ro` or `size=1m`.
  public func remount(_ options: String) async throws {
    let result = try await Program.external(
      launcher + ["/bin/mount", "-o", "remount,\(options)", folder])
    try #require(result.code == 0, "\(result.stderr)")
  }

  /// Fills the rest of the file system with a file.
  public func fill(_ name: String = "filler") throws {
    let file = open(path + "/" + name, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    try #require(file >= 0)
    defer { close(file) }
    let page = [UInt8](repeating: 0, count: 4096)
    while write(file, page, page.count) > 0 {}
    try #require(errno == ENOSPC)
  }

  /// The files and folders in it.
  public func contents() throws -> [String] {
    try FileManager.default.subpathsOfDirectory(atPath: path).sorted()
  }

  public func remove(_ name: String) throws {
    try FileManager.default.removeItem(atPath: path + "/" + name)
  }
}
