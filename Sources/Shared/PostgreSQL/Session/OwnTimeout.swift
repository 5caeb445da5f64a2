internal import SQLText

extension Connection {
  /// Distinguishes the session's own timeout from a cancellation by another session. The server uses the same SQLSTATE
  /// for both, and its messages are localized.
  func noteOwnTimeout(in error: inout PostgreSQLError) {
    guard error.state == .queryCanceled, let seconds = timeouts.statementSeconds, let began,
      ContinuousClock.now - began >= .seconds(seconds)
    else { return }
    error.isOwnTimeout = true
    error.message =
      "a statement took longer than \(timeouts.statementName) allows: \(seconds) s"
    error.hint = "raise \(timeouts.statementName), or remove it"
  }
}
