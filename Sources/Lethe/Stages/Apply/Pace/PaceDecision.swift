import Definitions

/// What the pace of apply depends on, at one moment.
struct PaceObservation: Sendable, Equatable {
  struct Lag: Sendable, Equatable {
    /// `replay_lag`; 0 if the standby has replayed everything, or if the server has not measured the lag.
    var time: TimeSpan
    /// WAL that the standby has not replayed yet.
    var size: ByteSize
  }

  struct Standby: Sendable, Equatable {
    /// Its `application_name`.
    var name: String
    /// Nil if the server does not show it to this role.
    var lag: Lag?
  }

  struct Archive: Sendable, Equatable {
    /// WAL that is not archived yet; nil if nothing was archived since the last reset of the statistics, or if the last
    /// archived file is the history of a timeline.
    var waiting: ByteSize?
    /// Whether the last try to archive has failed.
    var isFailing: Bool
    /// One file of WAL.
    var segment: ByteSize
  }

  /// Since the last wait ended.
  var elapsedSeconds = 0.0
  /// Since the last commit; nil if nothing was committed since the last wait ended.
  var secondsSinceCommit: Double?
  /// Rows of the warehouse that were changed since the last wait ended.
  var rowsChanged = 0
  /// WAL that all sessions have written since the last wait ended.
  var wal = ByteSize(bytes: 0)
  var standbys: [Standby] = []
  /// Nil if the server does not archive, or if `wal_rate_max` is not set.
  var archive: Archive?
  /// Whether the role of the session may see the lag of a standby.
  var seesLags = true
  /// The role of the session, quoted for SQL.
  var role = ""
}

/// What apply waits for.
enum PaceCause: Sendable, Equatable {
  case pause(milliseconds: Int)
  case rows(Int, perSecondMax: Int)
  case wal(ByteSize, perSecondMax: ByteSize)
  case standby(PaceObservation.Standby, ApplyPace.ReplicaLag)
  case archive(ByteSize, atMost: ByteSize)
}

enum PaceDecision: Sendable, Equatable {
  case goOn
  /// Wait, and then observe again.
  case wait(seconds: Double, PaceCause)
  /// Go on, because this wait has lasted long enough. The cause is still there.
  case goOnAnyway(PaceCause)
}

/// Why a bound has no effect.
public enum PaceWarning: Sendable, Hashable {
  case noStandby
  /// No standby has this `application_name`.
  case standbyMissing(String)
  /// - Parameter role: quoted for SQL.
  case lagHidden(role: String)
  case archiveFailing
}

/// Decides how long apply waits between two transactions. Nothing here observes or sleeps.
extension ApplyPace {
  /// How long to wait before a lag is observed again.
  static let lagPollSeconds = 0.5
  /// The archive lags if more WAL waits for it than `wal_rate_max` allows in this number of seconds.
  static let archiveSecondsMax = 60
  /// With this many waiting files or fewer, the archive does not count as lagging. Some files are always being written
  /// or archived.
  static let archiveSegmentsMin = 4

  /// - Parameter waitedSeconds: how long this wait has lasted.
  func decision(on observation: PaceObservation, waitedSeconds: Double) -> PaceDecision {
    let causes = causes(in: observation)
    // A lag has priority as the cause: it may last, but the waits for a rate and a pause end by themselves.
    guard
      let cause = causes.first(where: \.cause.isLag) ?? causes.max(by: { $0.seconds < $1.seconds })
    else { return .goOn }
    let left = Double(Self.waitSecondsMax) - waitedSeconds
    guard left > 0 else { return .goOnAnyway(cause.cause) }
    let seconds = causes.map(\.seconds).max() ?? 0
    return .wait(seconds: min(seconds, left), cause.cause)
  }

  /// Only causes for which there is still something to wait for.
  private func causes(in observation: PaceObservation) -> [(cause: PaceCause, seconds: Double)] {
    var causes: [(cause: PaceCause, seconds: Double)] = []
    if let pauseMilliseconds, let since = observation.secondsSinceCommit {
      causes.append(
        (.pause(milliseconds: pauseMilliseconds), Double(pauseMilliseconds) / 1000 - since))
    }
    if let rowsPerSecond {
      let due = Double(observation.rowsChanged) / Double(rowsPerSecond)
      causes.append(
        (
          .rows(observation.rowsChanged, perSecondMax: rowsPerSecond),
          due - observation.elapsedSeconds
        ))
    }
    if let walRateMax {
      let due = Double(observation.wal.bytes) / Double(walRateMax.bytes)
      causes.append(
        (.wal(observation.wal, perSecondMax: walRateMax), due - observation.elapsedSeconds))
      if let cause = archiveLag(in: observation, walRateMax) {
        causes.append((cause, Self.lagPollSeconds))
      }
    }
    if let replicaLagMax, let standby = worst(of: observation.standbys, replicaLagMax) {
      causes.append((.standby(standby, replicaLagMax), Self.lagPollSeconds))
    }
    return causes.filter { $0.seconds > 0 }
  }

  /// A wait does not help an archive that fails, so it only gets a warning.
  private func archiveLag(in observation: PaceObservation, _ rate: ByteSize) -> PaceCause? {
    guard let archive = observation.archive, !archive.isFailing, let waiting = archive.waiting
    else { return nil }
    let (most, isOverflow) = rate.bytes.multipliedReportingOverflow(by: Self.archiveSecondsMax)
    let limit = max(isOverflow ? .max : most, archive.segment.bytes * Self.archiveSegmentsMin)
    return waiting.bytes > limit ? .archive(waiting, atMost: ByteSize(bytes: limit)) : nil
  }

  private func counts(_ standby: PaceObservation.Standby) -> Bool {
    replicas.isEmpty || replicas.contains(standby.name)
  }

  /// The standby that is the furthest behind, if it is over the bound.
  private func worst(
    of standbys: [PaceObservation.Standby], _ most: ReplicaLag
  ) -> PaceObservation.Standby? {
    standbys.filter { counts($0) && $0.share(of: most) > 1 }
      .max { $0.share(of: most) < $1.share(of: most) }
  }

  /// The bounds that have no effect now.
  func warnings(on observation: PaceObservation) -> [PaceWarning] {
    var warnings: [PaceWarning] = []
    if replicaLagMax != nil {
      let counting = observation.standbys.filter(counts)
      let names = Set(counting.map(\.name))
      warnings += replicas.filter { !names.contains($0) }.map { .standbyMissing($0) }
      if replicas.isEmpty, counting.isEmpty { warnings.append(.noStandby) }
      if counting.contains(where: { $0.lag == nil }) || counting.isEmpty && !observation.seesLags {
        warnings.append(.lagHidden(role: observation.role))
      }
    }
    if walRateMax != nil, observation.archive?.isFailing == true {
      warnings.append(.archiveFailing)
    }
    return warnings
  }
}

extension PaceObservation.Standby {
  /// Its lag as a fraction of the bound; 0 if it is hidden.
  fileprivate func share(of most: ApplyPace.ReplicaLag) -> Double {
    guard let lag else { return 0 }
    return switch most {
    case .time(let time): lag.time.seconds / time.seconds
    case .size(let size): Double(lag.size.bytes) / Double(size.bytes)
    }
  }

  fileprivate func lagText(_ most: ApplyPace.ReplicaLag) -> String {
    guard let lag else { return "the lag of the standby \(name) is hidden" }
    return switch most {
    case .time: "the standby \(name) lags by \(lag.time)"
    case .size: "the standby \(name) lags by \(lag.size)"
    }
  }
}

// MARK: Texts

extension PaceCause: CustomStringConvertible {
  var isLag: Bool {
    switch self {
    case .pause, .rows, .wal: false
    case .standby, .archive: true
    }
  }

  var description: String {
    switch self {
    case .pause(let milliseconds): "pause_ms is \(milliseconds)"
    case .rows(let rows, let most): "it has changed \(rows) rows, and rows_per_second is \(most)"
    case .wal(let size, let most):
      "the server has written \(size) of WAL meanwhile, and wal_rate_max is \(most)"
    case .standby(let standby, let most):
      "\(standby.lagText(most)), and replica_lag_max is \(most)"
    case .archive(let waiting, let most):
      "\(waiting) of WAL are not archived yet, which is more than \(most) (wal_rate_max for a minute, but at least 4 segments)"
    }
  }

  /// The current value of the lag that was waited for; nil if the cause is not a lag or can no longer be observed.
  func lagText(in observation: PaceObservation) -> String? {
    switch self {
    case .pause, .rows, .wal: nil
    case .standby(let standby, let most):
      observation.standbys.first { $0.name == standby.name }?.lagText(most)
    case .archive: observation.archive?.waiting.map { "\($0) of WAL are not archived yet" }
    }
  }
}

extension PaceWarning {
  /// The definition's key that has no effect.
  public var path: String {
    switch self {
    case .noStandby, .lagHidden: "apply.replica_lag_max"
    case .standbyMissing: "apply.replicas"
    case .archiveFailing: "apply.wal_rate_max"
    }
  }

  public var message: String {
    switch self {
    case .noStandby: "no standby is connected, so apply does not wait for one"
    case .standbyMissing(let name):
      "no standby with the application_name \(name) is connected, so apply does not wait for it"
    case .lagHidden(let role):
      "the role \(role) does not see the lag of the standbys, so apply does not wait for them"
    case .archiveFailing:
      "the last try of the server to archive a file of WAL has failed, so apply does not wait for the archive"
    }
  }

  public var remedy: String {
    switch self {
    case .noStandby: "start the standby, or leave replica_lag_max out"
    case .standbyMissing: "start the standby, or correct its name: pg_stat_replication shows them"
    case .lagHidden(let role): "GRANT pg_read_all_stats TO \(role)"
    case .archiveFailing:
      "correct archive_command or archive_library; pg_stat_archiver and the server's log have more"
    }
  }
}
