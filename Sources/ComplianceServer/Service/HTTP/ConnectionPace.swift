internal import NIOCore

/// Decides whether a client is fast enough. It is a value: the caller tells it each event and its time.
///
/// Only the time in which the server waits for the client counts.
struct ConnectionPace {
  enum Verdict: Equatable {
    case goOn
    /// The first request did not arrive in time.
    case slowHead
    /// No further request arrived in time.
    case idle
    case slowBody
    case slowReader
    /// The answer is sent, and the rest of the request is too large or takes too long.
    case restTooLong
  }

  private let limits: ComplianceServer.ConnectionLimits
  /// Requests whose heads have arrived and whose answers have not ended.
  private(set) var unanswered = 0
  /// A request's head has arrived, and its end has not.
  private(set) var isReceiving = false
  private var hasServed = false
  /// When the connection became idle, or when the server began to wait for the rest of a request.
  private var quietSince: NIODeadline
  private var restBytes = 0
  /// The server only waits for the client to close.
  private var isOver = false

  private var readRequestedAt: NIODeadline?
  private var receiveWaited = TimeAmount.zero
  private var receivedBytes = 0

  private var sendBlockedSince: NIODeadline?
  private var sentBytes = 0
  /// How many bytes the client had received at the last check that it passed.
  private var sentBytesThen = 0

  init(_ limits: ComplianceServer.ConnectionLimits, connected now: NIODeadline) {
    self.limits = limits
    quietSince = now
  }

  /// The time between two calls of `verdict`.
  static func checkTime(_ limits: ComplianceServer.ConnectionLimits) -> TimeAmount {
    let least = min(limits.headTime, limits.idleTime, limits.paceTime, limits.restTime)
    return min(max(TimeAmount(least / 4), .milliseconds(1)), .seconds(1))
  }

  // MARK: Events

  mutating func headReceived() {
    unanswered += 1
    isReceiving = true
    receiveWaited = .zero
    receivedBytes = 0
  }

  mutating func bodyReceived(_ bytes: Int) {
    receivedBytes += bytes
    if isRest { restBytes += bytes }
  }

  mutating func requestReceived(at now: NIODeadline) {
    isReceiving = false
    if unanswered == 0 { quietSince = now }
  }

  mutating func readRequested(at now: NIODeadline) {
    if readRequestedAt == nil { readRequestedAt = now }
  }

  mutating func readCompleted(at now: NIODeadline) {
    if let since = readRequestedAt { receiveWaited = receiveWaited + (now - since) }
    readRequestedAt = nil
  }

  mutating func bodySent(_ bytes: Int) { sentBytes += bytes }

  mutating func answered(at now: NIODeadline) {
    unanswered -= 1
    hasServed = true
    if unanswered == 0 {
      quietSince = now
      restBytes = 0
    }
  }

  /// The server has closed its side.
  mutating func ended(at now: NIODeadline) {
    isOver = true
    quietSince = now
    restBytes = 0
  }

  // MARK: Verdict

  /// Further input belongs to a request that is answered already.
  private var isRest: Bool { isOver || unanswered == 0 && isReceiving }

  /// - Parameter bufferedBytes: how many of the bytes sent are still in the server's memory.
  mutating func verdict(at now: NIODeadline, bufferedBytes: Int) -> Verdict {
    if isTakingSlowly(at: now, bufferedBytes) { return .slowReader }
    if isRest {
      return restBytes > limits.restBytesMax || now - quietSince >= TimeAmount(limits.restTime)
        ? .restTooLong : .goOn
    }
    if unanswered == 0 {
      guard hasServed else {
        return now - quietSince >= TimeAmount(limits.headTime) ? .slowHead : .goOn
      }
      return now - quietSince >= TimeAmount(limits.idleTime) ? .idle : .goOn
    }
    return isReceiving && isSendingSlowly(at: now) ? .slowBody : .goOn
  }

  private mutating func isSendingSlowly(at now: NIODeadline) -> Bool {
    var waited = receiveWaited
    if let since = readRequestedAt { waited = waited + (now - since) }
    guard waited >= TimeAmount(limits.paceTime) else { return false }
    if receivedBytes < limits.paceBytesMin { return true }
    receiveWaited = .zero
    if readRequestedAt != nil { readRequestedAt = now }
    receivedBytes = 0
    return false
  }

  private mutating func isTakingSlowly(at now: NIODeadline, _ bufferedBytes: Int) -> Bool {
    guard bufferedBytes > 0 else {
      sendBlockedSince = nil
      return false
    }
    let taken = sentBytes - bufferedBytes
    guard let since = sendBlockedSince else {
      sendBlockedSince = now
      sentBytesThen = taken
      return false
    }
    guard now - since >= TimeAmount(limits.paceTime) else { return false }
    if taken - sentBytesThen < limits.paceBytesMin { return true }
    sendBlockedSince = now
    sentBytesThen = taken
    return false
  }
}
