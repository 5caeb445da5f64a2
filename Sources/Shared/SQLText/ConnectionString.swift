/// A libpq connection string (`postgres://…` or `key=value …`). It may hold a password, so it never
/// describes itself.
///
/// An empty one is fine: libpq then takes all it needs from the `PG*` variables, the service file and
/// `.pgpass`.
public struct ConnectionString: Sendable, Hashable, CustomStringConvertible,
  CustomDebugStringConvertible, CustomReflectable
{
  package let value: String
  /// Of the sessions that are made with it.
  public let timeouts: SessionTimeouts

  public init(_ value: String, timeouts: SessionTimeouts = SessionTimeouts()) {
    self.value = value
    self.timeouts = timeouts
  }

  public var description: String { "<connection string>" }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: [:]) }
}
