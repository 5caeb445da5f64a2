import ArgumentParser
import DefinitionFiles
import FaultPlans

struct Faults: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check a fault plan and describe its faults.",
    discussion: """
      `serve --faults` injects the faults of a plan. The same plan and the same calls give the same faults. An example:

        seed: 7
        faults:
          - {at: [create, get], rate: 0.33, answer: {status: 500, body: html}}
          - {at: create, call: 2, lose_response: true}
          - {at: download, every: 3, times: 5, cut: during}
          - {at: list, rewrite: {headers: {Date: "{date-960}"}, shorten: {name: 8}}}
          - {fail: internal error, call: [1, 4], name: failed jobs}

      at: create, list, get, cancel, upload, download, session (the start or the cancellation of a resumable upload).
      When: rate (a fraction of the calls, from 0 to 1), call (the n-th call, or a list of calls) or every \
      (each n-th call). A fault counts the calls of all its endpoints together, from the server's start. \
      Default: every call. times: the maximum number of times that the fault happens.
      What, one of:
        latency: 250ms             the response is delayed
        answer: {…}                the request is not processed; the response is this:
          status: 503                from 200 to 599
          body: json|html|empty, or text: the body itself
          headers: {Location: x, Via: [a, b], Date: }   exactly as written; without a value, the header is removed. \
      {epoch+60}, {epoch_ms}, {date-960} and {timestamp} become times: +60 is 60 seconds from now
          header_case: upper|lower   for all header names
          coding: gzip|deflate|raw_deflate   compresses the body
          framing: chunked|close     the body is chunked, or has no length and ends with the connection
          reset: 60s                 when the rate limit of a 429 is reset
        rewrite: {…}               the request is processed, and its response is changed: with the keys above, and
          members: {status: odd, error: {code: 3}}   sets members of each job to any JSON value
          without: [name], shorten: {name: 8}, numbers: [id]   removes members, shortens them, or makes them numbers
          entries: [{id: 7}, null, text]   adds entries at the beginning and the end of a list
        cut: before|during|after   the connection closes before the request is processed, in the middle of the \
      response, or after the response without a Connection: close header
        lose_response: true        the request is processed, and no response is sent
        store: 0.5                 only this fraction of an upload is stored, and the upload succeeds
        truncate: 0.5              only this fraction of a result is sent, and the download succeeds
        corrupt: 3                 up to this number of bytes of a result is changed
        profile: native|gcs        the wire profile of the job
        expire: true               the job expires as soon as it is created
        slow: 5s                   the processing of a job is delayed
        fail: TEXT                 the job fails with this error
        duplicate_lines, unknown_lines, malformed_lines, blank_lines: up to this number of lines is added to a result

      GET /admin/faults lists the latest injected faults, up to 10,000.
      """)

  @Argument(help: "The fault plan.", completion: .file(extensions: ["yaml", "yml"]))
  var plan: String

  func run() throws {
    for fault in try readFaultPlan(plan).faults {
      print("\(fault.name): \(fault.description)")
    }
  }
}

/// Reads a fault plan.
/// - Throws: a `ValidationError` if the file cannot be read, or with all mistakes in the plan.
func readFaultPlan(_ path: String) throws -> FaultPlan {
  do {
    return try FaultPlan(path: path)
  } catch let error as DefinitionError {
    throw ValidationError("\(error)")
  }
}
