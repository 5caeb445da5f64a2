public import Definitions
import Ledger
public import Logging
import PostgreSQL

/// Keeps the pace of apply: observes the server between two transactions, and sleeps as long as the pace decides.
public actor ApplyPacer {
  private let pace: ApplyPace
  private let logger: Logger
  private let clock = ContinuousClock()
  /// Nil before the first wait.
  private var window: Window?
  /// The warnings that were already logged, by run.
  private var warned: [Int64: Set<PaceWarning>] = [:]
  private var seconds: [String: Double] = [:]

  /// What was done since the last wait ended.
  private struct Window {
    let began: ContinuousClock.Instant
    let walBytes: Int
    /// The number of rows changed for the chunk when the window began, or at its last commit.
    var rowsBefore: Int
    var rowsChanged = 0
    var committed: ContinuousClock.Instant?
  }

  /// A wait that is longer than this is logged.
  private static let silentSecondsMax = 1.0

  public init(_ pace: ApplyPace, logger: Logger) {
    (self.pace, self.logger) = (pace, logger)
  }

  /// How many seconds the pace has made apply wait for a dataset, in this process.
  public func secondsWaited(of dataset: String) -> Double {
    ((seconds[dataset] ?? 0) * 1000).rounded() / 1000
  }

  /// Waits until the next transaction of the chunk may begin. The connection must not be in a transaction.
  ///
  /// - Throws: `CancellationError` at once if the task is cancelled; `PostgreSQLError`.
  func wait(before chunk: Chunk, _ ledger: ChunkLedger, on connection: Connection) async throws {
    guard !pace.isOff else { return }
    let began = clock.now
    var hasSlept = false
    var loggedCause: PaceCause?
    defer {
      if hasSlept { seconds[chunk.dataset, default: 0] += Self.seconds(since: began, clock) }
    }
    while true {
      let (observation, walBytes) = try await observed(on: connection)
      warn(observation, chunk)
      let waited = hasSlept ? Self.seconds(since: began, clock) : 0
      switch pace.decision(on: observation, waitedSeconds: waited) {
      case .wait(let seconds, let cause):
        if loggedCause == nil, waited + seconds > Self.silentSecondsMax {
          loggedCause = cause
          notice("apply waits: \(cause)", chunk)
        }
        hasSlept = true
        try await Task.sleep(for: .seconds(seconds), clock: clock)
        continue
      case .goOnAnyway(let cause):
        notice(
          """
          apply goes on after the longest wait, \(TimeSpan(seconds: waited)), although the cause remains: \(cause)
          """, chunk)
      case .goOn:
        if let loggedCause {
          let now = loggedCause.lagText(in: observation).map { ": \($0)" } ?? ""
          notice("apply goes on after \(TimeSpan(seconds: waited))\(now)", chunk)
        }
      }
      window = Window(
        began: clock.now, walBytes: walBytes, rowsBefore: try await rows(of: chunk, ledger))
      return
    }
  }

  /// A transaction of the chunk was committed.
  func transactionCommitted(of chunk: Chunk, _ ledger: ChunkLedger) async throws {
    guard var window else { return }
    let rows = try await rows(of: chunk, ledger)
    window.rowsChanged += rows - window.rowsBefore
    window.rowsBefore = rows
    window.committed = clock.now
    self.window = window
  }

  // MARK: Observing

  private func observed(
    on connection: Connection
  ) async throws -> (observation: PaceObservation, walBytes: Int) {
    var (observation, walBytes) = try await PaceObservation.observed(for: pace, on: connection)
    guard let window else { return (observation, walBytes) }
    observation.elapsedSeconds = Self.seconds(since: window.began, clock)
    observation.secondsSinceCommit = window.committed.map { Self.seconds(since: $0, clock) }
    observation.rowsChanged = window.rowsChanged
    observation.wal = ByteSize(bytes: walBytes - window.walBytes)
    return (observation, walBytes)
  }

  private func rows(of chunk: Chunk, _ ledger: ChunkLedger) async throws -> Int {
    pace.rowsPerSecond == nil ? 0 : try await ledger.rowsChanged(of: chunk)
  }

  private static func seconds(
    since instant: ContinuousClock.Instant, _ clock: ContinuousClock
  ) -> Double {
    (clock.now - instant) / .seconds(1)
  }

  // MARK: Logging

  /// Logs each warning once for each run.
  private func warn(_ observation: PaceObservation, _ chunk: Chunk) {
    for warning in pace.warnings(on: observation)
    where warned[chunk.runID, default: []].insert(warning).inserted {
      logger.warning(
        "\(warning.path): \(warning.message)\n  remedy: \(warning.remedy)",
        metadata: ["stage": "apply"])
    }
  }

  private func notice(_ text: String, _ chunk: Chunk) {
    logger.notice(
      "\(chunk.label): \(text)", metadata: chunk.metadata("apply"))
  }
}
