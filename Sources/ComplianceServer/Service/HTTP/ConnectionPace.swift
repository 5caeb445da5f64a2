internal import NIOCore

/// Decides whether a client is fast enough. The caller reports each event, with its time where the time matters.
///
/// Only the time in which the server waits for the client counts.
struct ConnectionPace {
  enum Verdict: Equatable {
    case keepOpen
    /// The head of the first request did not arrive in time.
    case slowHead
    /// No further request arrived in time.
    case idle
    case slowBody
    case slowReader
    /// The last response is sent, and the further input is too large or does not end in time.
    case restTooLong
  }

  private let limits: ComplianceServer.ConnectionLimits
  /// The number of requests that have arrived, at least in part, and have no complete response yet.
  private(set) var openRequests = 0
  /// Whether the head of a request has arrived, but not its end.
  private(set) var isReceiving = false
  private var hasServed = false
  /// When the connection became idle, or when the server began to wait for the rest of a request.
  private var quietSince: NIODeadline
  private var restBytes = 0
  /// Whether the server only waits until the client closes the connection.
  private var isOver = false

  private var readRequestedAt: NIODeadline?
  private var receiveWaited = TimeAmount.zero
  private var receivedBytes = 0

  private var sendBlockedSince: NIODeadline?
  private var sentBytes = 0
  /// The number of sent bytes that were no longer in the server's memory at `sendBlockedSince`.
  private var receivedAtLastCheck = 0

  init(_ limits: ComplianceServer.ConnectionLimits, connected now: NIODeadline) {
    self.limits = limits
    quietSince = now
  }

  /// The time between two periodic calls of `verdict`.
  static func checkInterval(_ limits: ComplianceServer.ConnectionLimits) -> TimeAmount {
    let least = min(limits.headTime, limits.idleTime, limits.paceTime, limits.restTime)
    return min(max(TimeAmount(least / 4), .milliseconds(1)), .seconds(1))
  }

  // MARK: Events

  mutating func headReceived() {
    openRequests += 1
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
    if openRequests == 0 { quietSince = now }
  }

  mutating func readRequested(at now: NIODeadline) {
    if readRequestedAt == nil { readRequestedAt = now }
  }

  mutating func readCompleted(at now: NIODeadline) {
    if let since = readRequestedAt { receiveWaited = receiveWaited + (now - since) }
    readRequestedAt = nil
  }

  mutating func bodySent(_ bytes: Int) { sentBytes += bytes }

  mutating func responseSent(at now: NIODeadline) {
    openRequests -= 1
    hasServed = true
    if openRequests == 0 {
      quietSince = now
      restBytes = 0
    }
  }

  /// Records that the server has closed its side.
  mutating func ended(at now: NIODeadline) {
    isOver = true
    quietSince = now
    restBytes = 0
  }

  // MARK: Verdict

  /// Whether further input belongs to a request that already has its response.
  private var isRest: Bool { isOver || openRequests == 0 && isReceiving }

  /// Returns whether the connection may stay open; if not, why.
  /// - Parameter bufferedBytes: how many of the written bytes are still in the server's memory.
  mutating func verdict(at now: NIODeadline, bufferedBytes: Int) -> Verdict {
    if isReadingSlowly(at: now, bufferedBytes) { return .slowReader }
    if isRest {
      return restBytes > limits.restBytesMax || now - quietSince >= TimeAmount(limits.restTime)
        ? .restTooLong : .keepOpen
    }
    if openRequests == 0 {
      guard hasServed else {
        return now - quietSince >= TimeAmount(limits.headTime) ? .slowHead : .keepOpen
      }
      return now - quietSince >= TimeAmount(limits.idleTime) ? .idle : .keepOpen
    }
    return isReceiving && isSendingSlowly(at: now) ? .slowBody : .keepOpen
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

  private mutating func isReadingSlowly(at now: NIODeadline, _ bufferedBytes: Int) -> Bool {
    guard bufferedBytes > 0 else {
      sendBlockedSince = nil
      return false
    }
    let received = sentBytes - bufferedBytes
    guard let since = sendBlockedSince else {
      sendBlockedSince = now
      receivedAtLastCheck = received
      return false
    }
    guard now - since >= TimeAmount(limits.paceTime) else { return false }
    if received - receivedAtLastCheck < limits.paceBytesMin { return true }
    sendBlockedSince = now
    receivedAtLastCheck = received
    return false
  }
}
