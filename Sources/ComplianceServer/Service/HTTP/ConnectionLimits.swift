extension ComplianceServer {
  /// Limits on what one client can use. Each listening host of a server counts separately.
  public struct ConnectionLimits: Sendable {
    /// Further connections are not accepted until others are closed.
    public var connectionsMax = 512
    /// Request line and header fields together.
    public var headBytesMax = 32 * 1024
    public var headFieldsMax = 100
    /// How long the first request's head may take, from the beginning of the connection.
    public var headTime: Duration = .seconds(20)
    /// How long a connection may stay idle after its first request.
    public var idleTime: Duration = .seconds(60)
    /// While the server waits for a client that sends or receives a body, at least `paceBytesMin` bytes must
    /// move in each `paceTime`.
    public var paceTime: Duration = .seconds(30)
    public var paceBytesMin = 15_000
    /// After an early answer, the server still reads the rest of the request, so that the client can read the
    /// answer. It reads at most this many bytes, for at most this long.
    public var restBytesMax = 4 * 1024 * 1024
    public var restTime: Duration = .seconds(5)

    public init() {}
  }
}
