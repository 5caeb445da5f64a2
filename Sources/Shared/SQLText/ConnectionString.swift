/// A libpq connection string (`postgres://…` or `key=value …`). The string can contain a password, so the
/// descriptions never show it.
///
/// For parameters that are not in the string, libpq uses the `PG*` environment variables, the service file and
/// `.pgpass`.
public struct ConnectionString: Sendable, Hashable, CustomStringConvertible,
  CustomDebugStringConvertible, CustomReflectable
{
  package let value: String
  /// The timeouts of the sessions that are opened with this string.
  public let timeouts: SessionTimeouts

  public init(_ value: String, timeouts: SessionTimeouts = SessionTimeouts()) {
    self.value = value
    self.timeouts = timeouts
  }

  public var description: String { "<connection string>" }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: [:]) }
}
