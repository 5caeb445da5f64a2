internal import Glibc

/// Options of `unshare` for a program with namespaces of its own.
public enum PrivateNamespace {
  /// A namespace of mounts. Root gets no user namespace, because in a user namespace root cannot use the files of other
  /// users, such as PostgreSQL's socket.
  public static let mounts = isRoot ? "-m" : "-rm"
  /// A namespace of networks.
  public static let network = isRoot ? "-n" : "-rn"

  public static var isRoot: Bool { geteuid() == 0 }

  /// Whether this machine permits private mounts.
  @Sendable public static func canMount() async throws -> Bool {
    try await Program.external(
      ["/usr/bin/unshare", mounts, "/bin/mount", "-t", "tmpfs", "none", "/mnt"]
    ).code == 0
  }

  /// Whether root may make private mounts on this machine. A server runs as another user, which needs root.
  @Sendable public static func rootCanMount() async throws -> Bool {
    guard isRoot else { return false }
    return try await canMount()
  }
}
