/// The identity of an operating system process. If all parts are known, it is never the same for two processes,
/// although process IDs are reused.
public struct ProcessIdentity: Sendable, Equatable {
  public let host: String
  public let processID: Int32
  /// Changes with each boot of the machine. Empty if it is unknown.
  public let bootID: String
  /// The namespace of process IDs. Containers on one machine have different ones. Empty if it is unknown.
  public let pidNamespace: String
  /// The time when the process started, in clock ticks since the boot. 0 if it is unknown.
  public let start: Int64

  public init(host: String, processID: Int32, bootID: String, pidNamespace: String, start: Int64) {
    self.host = host
    self.processID = processID
    self.bootID = bootID
    self.pidNamespace = pidNamespace
    self.start = start
  }
}

/// The worker that has a lease, for messages.
public struct LeaseHolder: Sendable, Equatable {
  /// Such as `lethe run`.
  public let command: String
  public let process: ProcessIdentity
  /// The pipeline that the worker works on. Nil if it has not begun yet.
  public let pipeline: String?
  /// Whether other processes may join it.
  public let isJoinable: Bool
  /// The time when the worker leased the resource. If no resource is meant, the time when the worker began. ISO 8601 in
  /// UTC, to the second.
  public let since: String
  /// The time when the lease expires unless the worker renews it. ISO 8601 in UTC, to the second.
  public let expiresAt: String

  /// Such as `lethe run (process 812 on db-jobs-1, since 2026-11-27T02:00:00Z)`.
  public var description: String {
    "\(command) (process \(process.processID) on \(process.host), since \(since))"
  }
}
