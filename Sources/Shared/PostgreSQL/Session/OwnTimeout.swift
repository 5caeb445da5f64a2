internal import SQLText

extension Connection {
  /// Tells a statement that ran out of the session's own time from one that somebody cancelled. The server's
  /// words for the two are in its own language.
  func noteOwnTimeout(in error: inout PostgreSQLError) {
    guard error.state == .queryCanceled, let seconds = timeouts.statementSeconds, let began,
      ContinuousClock.now - began >= .seconds(seconds)
    else { return }
    error.isOwnTimeout = true
    error.message =
      "a statement took longer than \(timeouts.statementName) allows: \(seconds) s"
    error.hint = "raise \(timeouts.statementName), or leave it out"
  }
}
