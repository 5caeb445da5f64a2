#if CRASH_POINTS
  import Foundation
  import Synchronization

  /// The crash point that the environment names. Only debug builds contain this type.
  ///
  /// - `LETHE_CRASH_POINT`: the name of a point. With `:N`, the process is killed when it reaches the point for the Nth
  ///   time.
  /// - `LETHE_CRASH_TRACE`: a file to which each process appends the names of the points that it reaches, one per line.
  @usableFromInline
  struct ArmedCrashPoint: Sendable {
    private let point: CrashPoint?
    private let time: Int
    private let trace: Int32?
    private static let passed = Mutex(0)

    private static let current = ArmedCrashPoint(ProcessInfo.processInfo.environment)

    private init(_ environment: [String: String]) {
      if let text = environment["LETHE_CRASH_POINT"] {
        let parts = text.split(separator: ":")
        point = CrashPoint.allCases.first { $0.description == parts[0] }
        time = parts.count > 1 ? Int(parts[1]) ?? 1 : 1
        precondition(point != nil, "LETHE_CRASH_POINT: there is no crash point \(text)")
      } else {
        (point, time) = (nil, 1)
      }
      trace = environment["LETHE_CRASH_TRACE"].map {
        open($0, O_WRONLY | O_APPEND | O_CREAT, 0o600)
      }
    }

    @usableFromInline
    static func reached(_ moment: CrashPoint.Moment, _ step: CrashStep) {
      guard isActive else { return }
      let point = CrashPoint(moment: moment, step: step)
      if let trace = current.trace {
        let line = Array("\(point)\n".utf8)
        _ = line.withUnsafeBytes { write(trace, $0.baseAddress, $0.count) }
      }
      guard point == current.point else { return }
      let isDue = passed.withLock { passed in
        passed += 1
        return passed == current.time
      }
      guard isDue else { return }
      kill(getpid(), SIGKILL)
      while true { pause() }
    }

    /// Whether the environment names a point or a trace.
    @usableFromInline
    static var isActive: Bool { current.point != nil || current.trace != nil }
  }
#endif
