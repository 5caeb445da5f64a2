extension ComplianceServer {
  /// What one client may cost the server. Each host of a server counts for itself.
  public struct ConnectionLimits: Sendable {
    /// Those beyond wait, unaccepted, until others are closed.
    public var connectionsMax = 512
    /// Request line and header fields together.
    public var headBytesMax = 32 * 1024
    public var headFieldsMax = 100
    /// How long the first request's head may take, from the connection's begin.
    public var headTime: Duration = .seconds(20)
    /// How long a connection may stay without a request after it had one.
    public var idleTime: Duration = .seconds(60)
    /// While the server waits for a client that sends or takes a body, at least `paceBytesMin` have to
    /// move in each `paceTime`.
    public var paceTime: Duration = .seconds(30)
    public var paceBytesMin = 15_000
    /// What still comes of a request that was answered already is read, so that the client finds the
    /// answer; but no more and no longer than this.
    public var restBytesMax = 4 * 1024 * 1024
    public var restTime: Duration = .seconds(5)

    public init() {}
  }
}
