/// The faults that a service injects, and the calls at which it injects them. The same plan and the same calls give
/// the same faults.
public struct FaultPlan: Sendable {
  /// The path as the operator wrote it.
  public let file: String
  public let seed: UInt64
  public let faults: [Fault]

  public init(file: String, seed: UInt64, faults: [Fault]) {
    self.file = file
    self.seed = seed
    self.faults = faults
  }

  /// Whether a fault of the plan gives jobs this profile.
  public func uses(profile: String) -> Bool {
    faults.contains { if case .profile(profile) = $0.kind { true } else { false } }
  }
}

/// One of a plan's faults.
public struct Fault: Sendable {
  /// No two faults of a plan have the same name.
  public let name: String
  public let kind: Kind
  public let points: Set<Point>
  public let frequency: Frequency
  /// The maximum number of times that the fault happens; nil means no limit.
  public let timesMax: Int?

  /// An endpoint, or the processing of a job, at which a fault can happen.
  public enum Point: String, Sendable, CaseIterable {
    case create
    case list
    case get
    case cancel
    case upload
    case download
    /// The start or the cancellation of a resumable upload.
    case session
    /// The processing of a job after its upload.
    case processing
  }

  /// The calls at which a fault happens. Calls are counted from 1, over all points of a fault.
  public enum Frequency: Sendable, Equatable {
    /// Each call with this probability, from 0 to 1. The seed determines which calls.
    case rate(Double)
    case calls([Int])
    /// Each call with a number that is a multiple of this.
    case every(Int)
  }

  public enum Kind: Sendable, Equatable {
    /// The response is delayed.
    case latency(Duration)
    /// The request is not processed; the response is this.
    /// - Parameter reset: the time until the reset, for the rate limit headers.
    case respond(ResponseChange, reset: Duration?)
    /// The request is processed, and its response is changed.
    case rewrite(ResponseChange)
    case cut(CutTime)
    /// The request is processed, and the connection closes without a response.
    case loseResponse
    /// Only this fraction of an upload is stored. The upload succeeds, unless the storage host compares
    /// it with a checksum of the client.
    case store(Double)
    /// Only this fraction of a result is sent, and the download succeeds.
    case truncate(Double)
    /// This number of bytes of the result is changed, or fewer if the same byte is chosen twice.
    case corrupt(Int)
    /// The processing of a job is delayed.
    case slow(Duration)
    /// The job fails with this error.
    case fail(String)
    /// The job expires as soon as it is created.
    case expire
    /// Each of the first lines of the result is repeated once, up to this number of lines.
    case duplicateLines(Int)
    /// This number of lines with an unknown action and reason is added, at most one for each line of the result.
    case unknownLines(Int)
    /// This number of lines that are not JSON is added, at most one for each line of the result.
    case malformedLines(Int)
    /// This number of empty lines is added, at most one for each line of the result.
    case blankLines(Int)
    /// The job gets this profile instead of the service's.
    case profile(String)
  }

  /// When a connection is closed.
  public enum CutTime: String, Sendable, CaseIterable {
    /// Before the request is processed.
    case before
    /// After half of the response's body is sent.
    case during
    /// After the response, without a `Connection: close`.
    case after
  }
}

extension FaultPlan {
  /// Whether the frequency of the fault with this index selects this call. `timesMax` is not considered.
  /// - Parameter call: counted from 1.
  public func isDue(_ index: Int, call: Int) -> Bool {
    switch faults[index].frequency {
    case .rate(let rate):
      var random = generator(index, call)
      return Double.random(in: 0..<1, using: &random) < rate
    case .calls(let calls): return calls.contains(call)
    case .every(let divisor): return call.isMultiple(of: divisor)
    }
  }

  /// Random numbers that depend only on the seed, the fault and the call. Concurrent calls do not change them.
  public func generator(_ index: Int, _ call: Int) -> SplitMix64 {
    var random = SplitMix64(state: seed)
    random = SplitMix64(state: random.next() ^ UInt64(truncatingIfNeeded: index))
    return SplitMix64(state: random.next() ^ UInt64(truncatingIfNeeded: call))
  }

  /// The SplitMix64 random number generator.
  public struct SplitMix64: RandomNumberGenerator, Sendable {
    private var state: UInt64

    init(state: UInt64) {
      self.state = state
    }

    public mutating func next() -> UInt64 {
      state &+= 0x9E37_79B9_7F4A_7C15
      var value = state
      value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
      value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
      return value ^ (value >> 31)
    }
  }
}

extension Fault: CustomStringConvertible {
  /// Such as `respond with 500 (html) at create, get; 33.0 % of the calls; at most 5 times`.
  public var description: String {
    let points = Point.allCases.filter(self.points.contains).map(\.rawValue)
      .joined(separator: ", ")
    let times = timesMax.map { "; at most \($0) times" } ?? ""
    return "\(kind) at \(points); \(frequency)\(times)"
  }
}

extension Fault.Frequency: CustomStringConvertible {
  public var description: String {
    switch self {
    case .rate(let rate): "\(rate * 100) % of the calls"
    case .calls(let calls): "call \(calls.map(String.init).joined(separator: ", "))"
    case .every(1): "every call"
    case .every(let divisor): "each call whose number is a multiple of \(divisor)"
    }
  }
}

extension Fault.Kind: CustomStringConvertible {
  public var description: String {
    switch self {
    case .latency(let time): "delay the response by \(time)"
    case .respond(let response, _): "respond with \(response)"
    case .rewrite(let change): "rewrite the response: \(change)"
    case .cut(.before): "close the connection before the request is processed"
    case .cut(.during): "close the connection during the response"
    case .cut(.after): "close the connection after the response"
    case .loseResponse: "lose the response"
    case .store(let fraction): "store \(fraction * 100) % of the upload"
    case .truncate(let fraction): "send \(fraction * 100) % of the result"
    case .corrupt(let bytes): "change \(bytes) bytes of the result"
    case .slow(let time): "delay the processing by \(time)"
    case .fail(let error): "fail with \"\(error)\""
    case .expire: "expire the job immediately"
    case .duplicateLines(let count): "repeat \(count) lines"
    case .unknownLines(let count): "add \(count) unknown lines"
    case .malformedLines(let count): "add \(count) malformed lines"
    case .blankLines(let count): "add \(count) blank lines"
    case .profile(let name): "create the job in the \(name) profile"
    }
  }
}
