/// A chunk of the model, its job's answer, and how far it has come.
struct ModelChunk: Sendable {
  struct Answer: Hashable, Sendable {
    var reason: String
    var redactedAt: Int?
  }

  /// A line of the result.
  enum Line: Sendable {
    case event(Int64, Answer)
    /// A reason that nobody knows, about an ID.
    case unknown(Int64)
    /// The API's word that what it was given is no ID.
    case invalid(String)
    /// JSON, but nothing that could be attributed to an ID.
    case unattributable
    /// No JSON.
    case garbage
    case blank

    /// The ID that the line is about.
    var id: Int64? {
      switch self {
      case .event(let id, _), .unknown(let id): id
      case .invalid(let id): Int64(id)
      case .unattributable, .garbage, .blank: nil
      }
    }
  }

  struct Waiting: Sendable {
    var answer: Answer
    var isSuperseded = false
  }

  let type: String
  let ids: Set<Int64>
  let range: ClosedRange<Int64>
  /// The clock's time of the export.
  let exportedAt: Int
  /// When the API made the job; the order of the answers.
  let askedAt: Int
  let plan: ModelPlan
  let lines: [Line]
  /// What is collected of it: events, and IDs that came back clean and hold rows.
  var waiting: [Int64: Waiting] = [:]
  /// IDs that were holders, and that the result has told to be clean.
  var cleanIDs: Set<Int64> = []
  var isCollected = false
  /// By its run's end before its time; what waits is never applied.
  var isGivenUp = false

  // MARK: What the result says

  /// Whether the body is a result at all: nothing, or something about an ID that was asked about.
  var isResult: Bool {
    lines.allSatisfy { if case .blank = $0 { true } else { false } }
      || lines.contains { $0.id.map(ids.contains) ?? false }
  }

  /// What may be acted on: an ID about which two lines say two things is none of it.
  var events: [Int64: Answer] {
    var events: [Int64: Answer] = [:]
    for case .event(let id, let answer) in lines where ids.contains(id) && !isContradicted(id) {
      events[id] = answer
    }
    return events
  }

  private func isContradicted(_ id: Int64) -> Bool {
    var reasons: Set<String> = []
    for case .event(id, let answer) in lines { reasons.insert(answer.reason) }
    return reasons.count > 1
  }

  /// Whether the result says by silence that the ID is clean.
  func speaksBySilence(of id: Int64) -> Bool {
    ids.contains(id) && tellsBySilence && !lines.contains { $0.id == id }
  }

  /// Whether the result says anything about the ID. Of an applied chunk its range is known, and not whether
  /// an ID of the range was among its IDs.
  func speaks(of id: Int64) -> Bool {
    if events[id] != nil { return true }
    return ids.contains(id) ? speaksBySilence(of: id) : tellsBySilence
  }

  /// Whether each line can be attributed to an ID.
  private var tellsBySilence: Bool {
    isResult
      && lines.allSatisfy { line in
        switch line {
        case .event, .unknown, .blank: true
        case .invalid(let text): Int64(text).map(ids.contains) ?? false
        case .unattributable, .garbage: false
        }
      }
  }
}
