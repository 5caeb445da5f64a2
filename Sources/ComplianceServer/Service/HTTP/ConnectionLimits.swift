extension ComplianceServer {
  /// Limits on the connections of clients. They apply to each listen address separately.
  public struct ConnectionLimits: Sendable {
    /// The largest number of open connections. Further connections wait until one is closed.
    public var connectionsMax = 512
    /// The largest size of the request line and the header fields together.
    public var headBytesMax = 32 * 1024
    public var headFieldsMax = 100
    /// How long the first request's head may take, from the beginning of the connection.
    public var headTime: Duration = .seconds(20)
    /// How long a connection may stay idle after its first request.
    public var idleTime: Duration = .seconds(60)
    /// A client that sends or receives a body must transfer at least `paceBytesMin` bytes in each `paceTime`. Only the
    /// time in which the server waits for the client counts.
    public var paceTime: Duration = .seconds(30)
    public var paceBytesMin = 15_000
    /// After an early response, the server still reads the rest of the request. Otherwise the client could lose the
    /// response. The server reads at most `restBytesMax` bytes, for at most `restTime`.
    public var restBytesMax = 4 * 1024 * 1024
    public var restTime: Duration = .seconds(5)

    public init() {}
  }
}
