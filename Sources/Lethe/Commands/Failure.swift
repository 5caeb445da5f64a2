internal import Failures
import PostgreSQL
import Runtime
import Vocabulary

/// The member `error` in the JSON output of a command.
struct Failure: Encodable, Equatable {
  /// The exit code as a word.
  let code: String
  let message: String
  let remedy: String
}

/// The JSON output of a command that failed before it had a result.
struct FailedResult: Encodable {
  let status = "failed"
  let error: Failure
}

extension Failure {
  init(of error: any ExplainedError) {
    let status = ExitStatus(error.disposition)
    guard let error = error as? PostgreSQLError else {
      self.init(code: status.word, message: error.summary, remedy: error.remedy)
      return
    }
    self.init(
      code: status.word, message: error.summary.withoutSecrets(),
      remedy: error.hintWithoutValues?.withoutSecrets() ?? error.remedyForPrivilege ?? error.remedy)
  }

  /// Describes the first work that is left after runs. Nil if no work is left.
  init?(of reports: [RunReport], openLines: Int, _ status: ExitStatus) {
    switch status {
    case .failed:
      guard let unfit = reports.compactMap(\.unfit).first else { return nil }
      self.init(code: status.word, message: unfit.message, remedy: unfit.remedy)
    case .limitStopped:
      if let chunk = reports.flatMap(\.stopped).first {
        self.init(
          code: status.word,
          message: "chunk \(chunk.chunkID) of \(chunk.dataset) is stopped: \(chunk.reason)",
          remedy: "if that is right, \(chunk.command)")
      } else if let dataset = reports.flatMap(\.stoppedDatasets).first {
        self.init(
          code: status.word,
          message: "the dataset \(dataset.dataset) is not exported: \(dataset.reason)",
          remedy: dataset.remedy)
      } else {
        return nil
      }
    case .setAside:
      if let chunk = reports.flatMap(\.setAside).first {
        self.init(
          code: status.word,
          message: "chunk \(chunk.chunkID) of \(chunk.dataset) is set aside: \(chunk.reason)",
          remedy: chunk.advice)
      } else if let event = reports.flatMap(\.refused).first {
        self.init(
          code: status.word,
          message: "the event of ID \(event.id) of \(event.dataset) is set aside: \(event.why)",
          remedy: "\(event.remedy); then \(event.command)")
      } else if let failure = reports.flatMap(\.failures).first {
        self.init(
          code: status.word, message: failure,
          remedy: "fix the cause; the next lethe run exports the dataset again")
      } else {
        return nil
      }
    case .quarantined:
      self.init(
        code: status.word,
        message: openLines == 1
          ? "1 line of the quarantine waits for a decision"
          : "\(openLines) lines of the quarantine wait for a decision",
        remedy:
          "run lethe quarantine list to see them; resolve them with lethe quarantine retry or dismiss"
      )
    case .done, .usage, .locked, .temporary, .credentials, .idle: return nil
    }
  }
}

extension PostgreSQLError {
  /// The remedy for a missing privilege. Nil for other causes.
  var remedyForPrivilege: String? {
    guard state?.rawValue == "42501" else { return nil }
    return """
      run lethe check PIPELINE --grants to see what a run's role needs; only the ledger's owner can run migrations, \
      change guards, and drop or correct evidence (prune, repair)
      """
  }

  /// The texts of the server and libpq, line by line, without secrets. Lethe's remedy follows if it is needed.
  var plainDescription: String {
    let text = description.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      line.prefix { $0 == " " } + String(line).withoutSecrets()
    }.joined(separator: "\n")
    // For a missing privilege, Lethe's remedy is always shown. Otherwise the server's hint is the remedy, and the
    // general remedy is shown only without a hint.
    let ownRemedy = remedyForPrivilege ?? (hintWithoutValues == nil ? remedy : nil)
    return ownRemedy.map { "\(text)\n  remedy: \($0)" } ?? text
  }
}

extension RunReport.SetAsideChunk {
  var advice: String {
    guard command.hasPrefix("lethe retry ") else {
      return remedy.contains("asks about its IDs")
        ? remedy : "\(remedy); the next lethe run asks about its IDs again"
    }
    return "\(remedy); then \(command), or the next lethe run asks again"
  }
}
