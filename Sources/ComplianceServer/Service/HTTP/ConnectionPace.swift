internal import NIOCore

/// Whether a client uses its connection fast enough: a value that is told what happens on it, and when.
///
/// Only the time in which the server waits for the client counts, never the server's own.
struct ConnectionPace {
  enum Verdict: Equatable {
    case goOn
    /// No request came, and none had come before.
    case slowHead
    /// No request came after an earlier one.
    case idle
    case slowBody
    case slowReader
    /// The answer is sent, and what still comes of the request is too much or takes too long.
    case restTooLong
  }

  private let limits: ComplianceServer.ConnectionLimits
  /// Requests whose heads have come and whose answers have not ended.
  private(set) var unanswered = 0
  /// A request's head has come, and its end has not.
  private(set) var isReceiving = false
  private var hasServed = false
  /// Since when no request has been under way, or the rest of one has been waited for.
  private var quietSince: NIODeadline
  private var restBytes = 0
  /// Nothing more is expected of the client but its end.
  private var isOver = false

  private var readRequestedAt: NIODeadline?
  private var receiveWaited = TimeAmount.zero
  private var receivedBytes = 0

  private var sendBlockedSince: NIODeadline?
  private var sentBytes = 0
  /// What was sent when the client was last found fast enough.
  private var sentBytesThen = 0

  init(_ limits: ComplianceServer.ConnectionLimits, connected now: NIODeadline) {
    self.limits = limits
    quietSince = now
  }

  /// How often `verdict` has to be asked for.
  static func checkTime(_ limits: ComplianceServer.ConnectionLimits) -> TimeAmount {
    let least = min(limits.headTime, limits.idleTime, limits.paceTime, limits.restTime)
    return min(max(TimeAmount(least / 4), .milliseconds(1)), .seconds(1))
  }

  // MARK: What happens

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

  /// The server has ended its side.
  mutating func ended(at now: NIODeadline) {
    isOver = true
    quietSince = now
    restBytes = 0
  }

  // MARK: What follows

  /// What comes now belongs to nothing that the server will still answer.
  private var isRest: Bool { isOver || unanswered == 0 && isReceiving }

  /// - Parameter bufferedBytes: how much of what was sent is still in the server's memory.
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
