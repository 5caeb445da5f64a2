/// A libpq connection string (`postgres://…` or `key=value …`). It may contain a password, so its descriptions never
/// show it.
///
/// It may be empty: libpq then uses the `PG*` variables, the service file and `.pgpass`.
public struct ConnectionString: Sendable, Hashable, CustomStringConvertible,
  CustomDebugStringConvertible, CustomReflectable
{
  package let value: String
  /// The timeouts of sessions with this string.
  public let timeouts: SessionTimeouts

  public init(_ value: String, timeouts: SessionTimeouts = SessionTimeouts()) {
    self.value = value
    self.timeouts = timeouts
  }

  public var description: String { "<connection string>" }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: [:]) }
}
