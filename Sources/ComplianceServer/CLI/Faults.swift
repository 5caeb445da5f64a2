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
          - {at: list, rewrite: {headers: {Date: "{date-960}"}, shorten: {name: 8}}}
          - {fail: out of luck, call: [1, 4], name: unlucky jobs}

      at: create, list, get, cancel, upload, download, session (the begin of a resumable upload).
      When: rate (from 0 to 1), call (the n-th, or a list of them) or every (each n-th), counted from \
      the server's start over all places of the fault; without any, always. times: at most so often.
      What, one of:
        latency: 250ms             the answer comes later
        answer: {…}                nothing is done, and this is answered:
          status: 503                from 200 to 599
          body: json|html|empty, or text: the body itself
          headers: {Location: x, Via: [a, b], Date: }   as they are written; without a value it is taken away. \
      {epoch+60}, {epoch_ms}, {date-960} and {timestamp} in a text are times, by seconds from now
          header_case: upper|lower   of all names
          coding: gzip|deflate|raw_deflate   the body is packed so
          framing: chunked|close     the body comes in chunks, or ends with the connection and has no length
          reset: 60s                 of 429
        rewrite: {…}               everything is done, and the answer is changed: the same, and of the jobs in it
          members: {status: odd, error: {code: 3}}   what members are; any JSON
          without: [name], shorten: {name: 8}, numbers: [id]   members that are away, cut, or numbers
          entries: [{id: 7}, null, text]   what a listing begins and ends with
        cut: before|during|after   the connection ends, before anything is done, in the middle of the \
      answer, or after it without notice
        lose_response: true        everything is done, and nothing is answered
        store: 0.5                 only this part of an upload is stored, as if it were all
        truncate: 0.5              only this part of a result comes, as if it were all
        corrupt: 3                 so many bytes of a result are others
        profile: native|gcs        the job's bytes travel so
        expire: true               the job has expired as soon as it is created
        slow: 5s                   the work on a job takes longer
        fail: TEXT                 the job fails with this error
        duplicate_lines, unknown_lines, malformed_lines, blank_lines: so many more lines in a result

      GET /admin/faults lists every fault that was served.
      """)

  @Argument(help: "The plan.", completion: .file(extensions: ["yaml", "yml"]))
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
