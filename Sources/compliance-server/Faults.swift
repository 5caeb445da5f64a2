import ArgumentParser
import DefinitionFiles
import FaultPlans

struct Faults: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check a plan of faults, and say what it does.",
    discussion: """
      A plan makes `serve --faults` misbehave the same way each time:

        seed: 7
        faults:
          - {at: [create, get], rate: 0.33, answer: {status: 500, body: html}}
          - {at: create, call: 2, lose_response: true}
          - {at: download, every: 3, times: 5, cut: during}
          - {fail: out of luck, call: [1, 4], name: unlucky jobs}

      at: create, list, get, cancel, upload, download, session (the begin of a resumable upload).
      When: rate (from 0 to 1), call (the n-th, or a list of them) or every (each n-th), counted from \
      the server's start over all places of the fault; without any, always. times: at most so often.
      What, one of:
        latency: 250ms             the answer comes later
        answer: {status, body: json|html|empty, reset: 60s (of 429)}
        cut: before|during|after   the connection ends, before anything is done, in the middle of the \
      answer, or after it without notice
        lose_response: true        everything is done, and nothing is answered
        truncate: 0.5              only this part of a result comes, as if it were all
        corrupt: 3                 so many bytes of a result are others
        profile: native|gcs        the job's bytes travel so
        expire: true               the job has expired as soon as it is created
        slow: 5s                   the work on a job takes longer
        fail: TEXT                 the job fails with this error
        duplicate_lines, unknown_lines, malformed_lines, blank_lines: so many more lines in a result

      GET /admin/faults lists every fault that was served.
      """)

  @Argument(help: "The plan.")
  var plan: String

  func run() throws {
    for fault in try readFaultPlan(plan).faults {
      print("\(fault.name): \(fault.description)")
    }
  }
}

/// - Throws: a `ValidationError` that names file, line and remedy.
func readFaultPlan(_ path: String) throws -> FaultPlan {
  do {
    return try FaultPlan(path: path)
  } catch let error as DefinitionError {
    throw ValidationError("\(error)")
  }
}
