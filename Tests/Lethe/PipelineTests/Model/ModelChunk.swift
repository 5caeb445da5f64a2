/// A chunk of the model, the result of its job, and its progress.
struct ModelChunk: Sendable {
  struct Answer: Hashable, Sendable {
    var reason: String
    var redactedAt: Int?
  }

  /// A line of the result.
  enum Line: Sendable {
    case event(Int64, Answer)
    /// An unknown reason for an ID.
    case unknown(Int64)
    /// The API's report that a value in its input is not an ID.
    case invalid(String)
    /// A JSON object without an ID.
    case unattributable
    /// A line that is not JSON.
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

  /// An answer that is collected and not applied yet.
  struct Waiting: Sendable {
    var answer: Answer
    var isSuperseded = false
  }

  let type: String
  let ids: Set<Int64>
  let range: ClosedRange<Int64>
  /// The time of the export on the model's clock.
  let exportedAt: Int
  /// The time when the API created the job. This time orders the answers.
  let askedAt: Int
  let plan: ModelPlan
  let lines: [Line]
  /// The collected entries: events, and clean IDs that hold rows.
  var waiting: [Int64: Waiting] = [:]
  /// IDs that were holders and are clean in the result.
  var cleanIDs: Set<Int64> = []
  var isCollected = false
  /// Whether the chunk's run was given up. The waiting entries of such a chunk are never applied.
  var isGivenUp = false

  // MARK: The meaning of the result

  /// Whether the body is a result. A result has only blank lines, or it has a line for an ID of the chunk.
  var isResult: Bool {
    lines.allSatisfy { if case .blank = $0 { true } else { false } }
      || lines.contains { $0.id.map(ids.contains) ?? false }
  }

  /// The events that may be applied. An ID that has lines with different reasons is not among them.
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

  /// Whether the ID is clean because the result has no line for it.
  func isClean(bySilenceAbout id: Int64) -> Bool {
    ids.contains(id) && silenceMeansClean && !lines.contains { $0.id == id }
  }

  /// Whether the result decides about the ID. The ledger records the range of an applied chunk, but not whether an ID
  /// in the range was in the chunk.
  func decides(about id: Int64) -> Bool {
    if events[id] != nil { return true }
    return ids.contains(id) ? isClean(bySilenceAbout: id) : silenceMeansClean
  }

  /// Whether silence about an ID means that the ID is clean. This is true only if it is known for each line which ID
  /// the line is about.
  private var silenceMeansClean: Bool {
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
