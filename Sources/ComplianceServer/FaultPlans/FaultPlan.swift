/// What a service does wrong on purpose, and when. The same plan and the same calls give the same faults.
public struct FaultPlan: Sendable {
  /// As a person named it.
  public let file: String
  public let seed: UInt64
  public let faults: [Fault]

  public init(file: String, seed: UInt64, faults: [Fault]) {
    self.file = file
    self.seed = seed
    self.faults = faults
  }

  /// Whether jobs will be created whose bytes travel in this profile.
  public func switches(to profile: String) -> Bool {
    faults.contains { if case .profile(profile) = $0.kind { true } else { false } }
  }
}

/// One of a plan's faults.
public struct Fault: Sendable {
  /// No two of a plan have the same.
  public let name: String
  public let kind: Kind
  public let places: Set<Place>
  public let occasion: Occasion
  /// How often it happens at most; nil is no limit.
  public let timesMax: Int?

  /// What a fault happens to.
  public enum Place: String, Sendable, CaseIterable {
    case create
    case list
    case get
    case cancel
    case upload
    case download
    /// The begin of a resumable upload.
    case session
    /// The work on a job, once its upload has come.
    case processing
  }

  /// Which of the calls of its places, counted together from 1.
  public enum Occasion: Sendable, Equatable {
    /// This part of them, from 0 to 1, as the seed's dice fall.
    case rate(Double)
    case calls([Int])
    /// Each that this number divides.
    case every(Int)
  }

  public enum Kind: Sendable, Equatable {
    /// The answer comes later by this.
    case latency(Duration)
    /// Nothing is done, and this is answered.
    /// - Parameter reset: when a request is left again, as the rate limit's headers have it.
    case answer(AnswerChange, reset: Duration?)
    /// Everything is done, and what is answered is changed.
    case rewrite(AnswerChange)
    case cut(Moment)
    /// Everything is done, and the connection ends without an answer.
    case loseResponse
    /// Of an upload only this part is stored, as if it were all.
    case store(Double)
    /// Of the result only this part comes, as if it were all.
    case truncate(Double)
    /// So many bytes of the result are others.
    case corrupt(Int)
    /// The work on a job takes longer by this.
    case slow(Duration)
    /// The job fails with this error.
    case fail(String)
    /// The job has expired as soon as it is created.
    case expire
    /// So many lines of the result come twice.
    case duplicateLines(Int)
    /// So many lines have an action and a reason that nobody knows.
    case unknownLines(Int)
    /// So many lines are no JSON.
    case malformedLines(Int)
    /// After so many lines comes an empty one.
    case blankLines(Int)
    /// The job's bytes travel in this profile instead of the service's.
    case profile(String)
  }

  /// When a connection ends.
  public enum Moment: String, Sendable, CaseIterable {
    /// Before anything is done or answered.
    case before
    /// Everything is done, and half of the answer is sent.
    case during
    /// The answer is sent, and nothing has announced the end.
    case after
  }
}

extension FaultPlan {
  /// Whether a fault is due at a call of its places.
  /// - Parameter call: counted from 1.
  public func isDue(_ index: Int, call: Int) -> Bool {
    switch faults[index].occasion {
    case .rate(let rate):
      var dice = dice(index, call)
      return Double.random(in: 0..<1, using: &dice) < rate
    case .calls(let calls): return calls.contains(call)
    case .every(let divisor): return call.isMultiple(of: divisor)
    }
  }

  /// Numbers that depend on nothing but the seed, the fault and the call: which other calls are under way
  /// changes nothing.
  public func dice(_ index: Int, _ call: Int) -> Dice {
    var dice = Dice(state: seed)
    dice = Dice(state: dice.next() ^ UInt64(truncatingIfNeeded: index))
    return Dice(state: dice.next() ^ UInt64(truncatingIfNeeded: call))
  }

  /// SplitMix64.
  public struct Dice: RandomNumberGenerator, Sendable {
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
  /// Such as `answer 500 (html) at create, get; 33.0 % of the calls; at most 5 times`.
  public var description: String {
    let places = Place.allCases.filter(self.places.contains).map(\.rawValue)
      .joined(separator: ", ")
    let times = timesMax.map { "; at most \($0) times" } ?? ""
    return "\(kind) at \(places); \(occasion)\(times)"
  }
}

extension Fault.Occasion: CustomStringConvertible {
  public var description: String {
    switch self {
    case .rate(let rate): "\(rate * 100) % of the calls"
    case .calls(let calls): "call \(calls.map(String.init).joined(separator: ", "))"
    case .every(1): "every call"
    case .every(let divisor): "each call that \(divisor) divides"
    }
  }
}

extension Fault.Kind: CustomStringConvertible {
  public var description: String {
    switch self {
    case .latency(let time): "\(time) later"
    case .answer(let answer, _): "answer \(answer)"
    case .rewrite(let change): "rewrite the answer: \(change)"
    case .cut(let moment): "cut \(moment.rawValue) the answer"
    case .loseResponse: "lose the response"
    case .store(let part): "store \(part * 100) % of the upload"
    case .truncate(let part): "send \(part * 100) % of the result"
    case .corrupt(let bytes): "change \(bytes) bytes of the result"
    case .slow(let time): "take \(time) longer"
    case .fail(let error): "fail with \"\(error)\""
    case .expire: "expire at once"
    case .duplicateLines(let count): "\(count) lines twice"
    case .unknownLines(let count): "\(count) unknown lines"
    case .malformedLines(let count): "\(count) malformed lines"
    case .blankLines(let count): "\(count) blank lines"
    case .profile(let name): "create it in the \(name) profile"
    }
  }
}
