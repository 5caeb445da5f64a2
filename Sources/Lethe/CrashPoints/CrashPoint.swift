/// A step of a run at which a test can kill the process. For a run, `allCases` contains every call of the API, every
/// creation, rename and removal of a file that counts, and every transaction that changes rows of the ledger or the
/// warehouse.
///
/// Names of calls contain `Call`. The other names say what the step has done.
public enum CrashStep: String, CaseIterable, Sendable {
  // The process and its leases. A former process is one that has ended without releasing its leases.
  case workerBegun, pipelineEntered, formerSessionsTerminated, sessionMarked, leaseRenewed
  case workerEnded
  case exportLeased, exportReleased, slotLeased, slotReleased, chunkLeased, chunkReleased
  case applyLeased, applyReleased, settlementLeased, settlementReleased

  // The run.
  case chainBegun, runBegun, runTakenOver, chunkFileMoved, runMoved, formerFolderRemoved
  case supersededRefusalsEnded, runFolderRemoved, holdsOfLostRowsEnded, runFinished, runStopped

  // Export.
  case exportBegun, leftOutCounted, runFolderCreated, chunkFileCreated, chunkFileRenamed
  case chunkExported, exportRefused, datasetExported
  /// A lost file is written again.
  case chunkFileRewritten, fileReplaced

  // Submit.
  case listCallByName, jobIntended, createCall, listCallOfSlot, cancelCallOfOrphan, jobCreated
  /// The ledger refuses the created job, because this process has lost its lease.
  case cancelCallOfLostLease
  case getCallBySubmit, uploadCall, sessionCall, partCall, stateCall, getCallAfterUpload
  case uploadRecorded
  case cancelCallBySubmit, sizeRefused, chunkFilesCut, chunkCut, cutFileRemoved

  // Await. The other stages also record failed jobs.
  case getCallByAwait, statusSeen, jobCompleted, cancelCallByAwait, jobFailed

  // Collect.
  case getCallByCollect, downloadCall, partialFileOpened, partialNoteRenamed, partialFileRemoved
  case resultFileRenamed, partialNoteRemoved, resultCollected, resultFileRemoved
  case statisticsRefreshed, chunkFileRemoved
  /// The rest of a download that was interrupted.
  case rangeCall
  /// The received bytes of an earlier download.
  case formerPartialCopied, formerPartialRemoved

  // Apply.
  case heldNamesFollowed, heldColumnsNoted, holdKeysRenamed, chunkStopped, eventsSetAside
  case partitionsCreated, batchApplied, eventPartApplied, holdPartReleased, refusedEventsSetAside
  case chunkApplied

  // A chunk in any stage.
  case chunkTaken
  // A chunk that cannot continue, in any stage.
  case cancelCallOfChunkSetAside, chunkSetAside, chunkFailed
}

/// A place at which a test can kill the process.
public struct CrashPoint: CaseIterable, Hashable, Sendable, CustomStringConvertible {
  public enum Moment: String, CaseIterable, Sendable {
    /// For a transaction: all statements are done, and COMMIT is not sent.
    case before
    /// Some of the bytes are sent or received.
    case during
    /// For a transaction: the server has acknowledged COMMIT, and nothing else has happened.
    case after
  }

  public let moment: Moment
  public let step: CrashStep

  public init(moment: Moment, step: CrashStep) {
    self.moment = moment
    self.step = step
  }

  public static var allCases: [CrashPoint] {
    CrashStep.allCases.flatMap { step in
      Moment.allCases.filter { $0 != .during || step.hasMiddle }
        .map { CrashPoint(moment: $0, step: step) }
    }
  }

  /// The name in `LETHE_CRASH_POINT`, such as `before-jobIntended`.
  public var description: String { "\(moment.rawValue)-\(step.rawValue)" }
}

extension CrashStep {
  /// Whether the step has a point `during`.
  public var hasMiddle: Bool {
    switch self {
    case .uploadCall, .partCall, .downloadCall, .rangeCall: true
    default: false
    }
  }

  /// Marks a moment of the step. A debug build kills the process here if the environment names the point.
  ///
  /// In a release build, this is empty, and the module contains no code that reads the environment or sends a signal:
  /// Package.swift defines `CRASH_POINTS` only for debug builds. A test compiles the module both ways, and
  /// `scripts/package` refuses a program that contains the name of the variable.
  @inlinable
  public func reached(_ moment: CrashPoint.Moment) {
    #if CRASH_POINTS
      ArmedCrashPoint.reached(moment, self)
    #endif
  }

  /// Runs a step, and marks the moments before and after it, also if it throws.
  @inlinable
  public func around<R>(_ body: () throws -> R) rethrows -> R {
    reached(.before)
    defer { reached(.after) }
    return try body()
  }

  @inlinable
  @discardableResult
  public func around<R>(
    isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> R
  ) async rethrows -> R {
    reached(.before)
    defer { reached(.after) }
    return try await body()
  }

  /// The number of bytes after which a transfer reaches the point `during`, or records its progress. It is small in a
  /// test of crash points, because the files of tests are small.
  /// - Parameter usual: the number of bytes without a test.
  @inlinable
  public static func blockBytes(_ usual: Int) -> Int {
    #if CRASH_POINTS
      ArmedCrashPoint.isActive ? min(usual, 32) : usual
    #else
      usual
    #endif
  }
}
