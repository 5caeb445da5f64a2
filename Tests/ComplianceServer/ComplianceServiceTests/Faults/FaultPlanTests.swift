import DefinitionFiles
import FaultPlans
import Testing

@Suite struct FaultPlanTests {
  private static func plan(_ faults: String, seed: Int = 7) throws -> FaultPlan {
    try FaultPlan(yaml: "seed: \(seed)\nfaults:\n  - \(faults)\n", file: "plan.yaml")
  }

  @Test func aPlanIsParsed() throws {
    let plan = try FaultPlan(
      yaml: """
        seed: 7
        faults:
          - {at: [create, get], rate: 0.25, answer: {status: 500, body: html}}
          - {at: create, call: 2, lose_response: true}
          - {at: download, every: 3, times: 5, cut: during}
          - {name: failed jobs, fail: internal error, call: [1, 4]}
          - {at: list, latency: 250ms}
          - {at: list, answer: {status: 429, reset: 2min}}
          - {at: upload, answer: {status: 307, text: moved, headers: {Location: "https://x.example/", Via: [a, b]}}}
          - {at: download, rewrite: {status: 206, coding: gzip, framing: close, header_case: upper}}
          - {at: list, rewrite: {headers: {Date: "{date-960}"}, numbers: [id], entries: [null, {id: 7}]}}
          - {store: 0.5}
          - {at: get, answer: {status: 204}}
        """, file: "plan.yaml")
    #expect(plan.seed == 7)
    #expect(
      plan.faults.map { "\($0.name): \($0)" } == [
        "1 answer: respond with 500 (html) at create, get; 25.0 % of the calls",
        "2 lose_response: lose the response at create; call 2",
        """
        3 cut: close the connection during the response at download; each call whose number is a multiple of 3; at most \
        5 times
        """,
        "failed jobs: fail with \"internal error\" at processing; call 1, 4",
        "5 latency: delay the response by 0.25 seconds at list; every call",
        "6 answer: respond with 429 (json) at list; every call",
        "7 answer: respond with 307 (text), headers Location, Via at upload; every call",
        "8 rewrite: rewrite the response: 206, names in upper case, gzip, close at download; every call",
        "9 rewrite: rewrite the response: headers Date, jobs at list; every call",
        "10 store: store 50.0 % of the upload at upload; every call",
        "11 answer: respond with 204 (empty) at get; every call",
      ])
  }

  /// A fault with a mistake, the line in the message, and a part of the message.
  @Test(arguments: [
    ("{at: create}", 3, "the fault has no kind"),
    ("{at: create, expire: true, lose_response: true}", 3, "lose_response and expire"),
    ("{at: nowhere, latency: 1s}", 3, "nowhere"),
    ("{at: processing, latency: 1s}", 3, "processing"),
    ("{latency: 1s}", 3, "at is missing"),
    ("{at: get, latency: soon}", 3, "250ms"),
    ("{at: get, latency: -1s}", 3, "250ms"),
    ("{at: get, answer: {status: 199}}", 3, "200 to 599"),
    ("{at: get, answer: {status: 600}}", 3, "200 to 599"),
    ("{at: get, answer: {body: json}}", 3, "answer.status is missing"),
    ("{at: get, answer: {status: 500, text: a, body: json}}", 3, "exclude each other"),
    ("{at: get, answer: {status: 304, text: a}}", 3, "has no body"),
    ("{at: get, rewrite: {status: 204, coding: gzip}}", 3, "has no body"),
    ("{at: get, rewrite: {}}", 3, "changes nothing"),
    ("{at: get, rewrite: {headers: {a b: c}}}", 3, "is not a header name"),
    (
      "{at: get, rewrite: {headers: {Date: [a, '{dat+3}']}}}", 3,
      "{dat+3} in Date is not a known time"
    ),
    ("{at: get, rewrite: {headers: {A: \"b\\r\\nc: d\"}}}", 3, "more than one line"),
    ("{at: get, rewrite: {coding: br}}", 3, "gzip, deflate, raw_deflate"),
    ("{at: get, rewrite: {framing: none}}", 3, "chunked, close"),
    ("{at: get, rewrite: {header_case: odd}}", 3, "upper, lower"),
    ("{at: get, rewrite: {shorten: {name: -1}}}", 3, "0 or more"),
    ("{at: get, rewrite: {shorten: {name: half}}}", 3, "shorten.name is not a whole number"),
    ("{at: list, rewrite: {entries: 7}}", 3, "a list of entries"),
    ("{at: get, answer: {status: 200, members: {a: 1}}}", 3, "unknown key faults[0].answer"),
    ("{store: 1}", 3, "store"),
    ("{at: download, store: 0.5}", 3, "always at upload"),
    ("{at: get, answer: {status: 500, body: xml}}", 3, "json, html or empty"),
    ("{at: get, answer: {status: 500, reset: 1s}}", 3, "429"),
    ("{at: get, cut: sometimes}", 3, "before, during, after"),
    ("{at: get, lose_response: false}", 3, "lose_response"),
    ("{at: get, truncate: 0.5}", 3, "always at download"),
    ("{truncate: 1}", 3, "truncate"),
    ("{corrupt: 0}", 3, "corrupt"),
    ("{profile: s3}", 3, "native or gcs"),
    ("{corrupt: 1, rate: 2}", 3, "from 0 to 1"),
    ("{corrupt: 1, rate: 0.5, every: 2}", 3, "exclude"),
    ("{corrupt: 1, every: 0}", 3, "every"),
    ("{corrupt: 1, call: 0}", 3, "call"),
    ("{corrupt: 1, call: [1, x]}", 3, "call"),
    ("{corrupt: 1, times: 0}", 3, "times"),
    ("{corrupt: 1, colour: red}", 3, "colour"),
    ("{name: x, corrupt: 1}\n  - {name: x, corrupt: 1}", 4, "is used twice"),
  ])
  func aPlanWithAMistakeIsRefused(fault: String, line: Int, part: String) throws {
    let error = try #require(throws: DefinitionError.self) { try Self.plan(fault) }
    #expect("\(error)".hasPrefix("plan.yaml:\(line): "), "\(error)")
    #expect("\(error)".contains(part), "\(error)")
  }

  @Test func allMistakesAreReported() throws {
    let error = try #require(throws: DefinitionError.self) {
      try FaultPlan(
        yaml: """
          x-times: &times {times: 3}
          seed: many
          faults:
            - {at: nowhere, latency: soon}
            - {<<: *times, at: get, cut: sometimes, rate: 2}
            - {<<: *times, x-why: nothing, corrupt: 3}
            - 7
            - {latensy: 1s, times: 0}
          """, file: "plan.yaml")
    }
    #expect(
      error.all.map { "\($0.line ?? 0) \($0.message)" } == [
        "2 seed is not a whole number", "4 faults[0]: latency is \"soon\"",
        "4 faults[0]: at contains \"nowhere\"", "5 faults[1]: rate is not a fraction",
        "5 faults[1]: cut is \"sometimes\"", "7 faults[3] is not a mapping",
        "8 unknown key faults[4].latensy", "8 faults[4]: times is 0",
      ])
  }

  @Test(arguments: ["", "faults: 7", "seed: x\nfaults: []", "fault: []", "- a", "faults: ["])
  func anInvalidFileIsRefused(yaml: String) {
    #expect(throws: DefinitionError.self) { try FaultPlan(yaml: yaml, file: "plan.yaml") }
  }

  @Test func theSeedDeterminesTheFaultyCalls() throws {
    func faultyCalls(_ seed: Int) throws -> [Int] {
      let plan = try Self.plan("{at: get, rate: 0.3, latency: 1s}", seed: seed)
      return (1...2000).filter { plan.isDue(0, call: $0) }
    }
    #expect(try faultyCalls(1) == faultyCalls(1))
    #expect(try faultyCalls(1) != faultyCalls(2))
    #expect(try (500...700).contains(faultyCalls(1).count))
  }

  /// Two faults with the same rate use independent random numbers.
  @Test func faultsAreIndependentOfEachOther() throws {
    let fault = "{at: get, rate: 0.5, latency: 1s}"
    let plan = try Self.plan("\(fault)\n  - \(fault.replacing("{", with: "{name: b, "))")
    let both = (1...2000).count { plan.isDue(0, call: $0) && plan.isDue(1, call: $0) }
    #expect((400...600).contains(both))
  }
}
