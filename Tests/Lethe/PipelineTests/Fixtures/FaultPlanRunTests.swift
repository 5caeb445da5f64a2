import ComplianceService
import FaultPlans
import Foundation
import PostgreSQL
import TestSupport
import Testing

/// Runs of the `lethe` program against a service with planned faults. Each test has one fault and one profile. Plain
/// SQL computes the required content of the warehouse from the platform's data.
@Suite struct FaultPlanRunTests {
  struct Fault: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// The rules of the plan, each without its name.
    let rules: [String]
    var profiles: [WireProfile] = [.native, .gcs]
    /// The exit code of the first run. If it is not 0, a second run must finish the work.
    var code: Int32 = 0
    /// The number of jobs of the first run. Nil if the number can differ.
    var jobs: Int?
    /// The texts that the error output must contain.
    var messageParts: [String] = []
    /// The lines of the definition's `api` in the first run.
    var api: [String] = ["job_attempts: 2"]
    /// Whether the fault is permanent, so that no run can finish. Even so, no row may be damaged.
    var isPermanent = false
    /// Whether the last job keeps the API's slot until the job expires.
    var leavesSlot = false
  }

  private static func rules(_ fault: Fault) -> String {
    fault.rules.enumerated().map { "  - {name: f\($0), \($1)}\n" }.joined()
  }

  private static func definition(_ fixture: PipelineFixture, _ api: [String]) throws -> String {
    let lines = (["allowed_hosts: [127.0.0.2]"] + api).map { "  \($0)\n" }.joined()
    return try fixture.definitionFile {
      $0.editing("  poll_seconds: 0.02\n", to: "\(lines)  poll_seconds: 0.02\n")
    }
  }

  private static func runPipeline(_ fault: Fault, _ profile: WireProfile) async throws {
    let plan = try FaultPlan(yaml: "seed: 3\nfaults:\n\(rules(fault))", file: "plan.yaml")
    try await PipelineFixture.with({
      $0.faults = plan
      $0.profile = profile
      $0.sweepInterval = .milliseconds(50)
    }) { fixture in
      try await fixture.addSamples(
        posts: 200, users: 24, editedPostsLoseLocations: profile == .native)
      let file = try definition(fixture, fault.api)
      let first = try await Program.run("lethe", ["run", file], environment: fixture.environment)
      #expect(first.code == fault.code, "\(first.stderr)")
      for part in fault.messageParts {
        #expect(first.stderr.contains(part), "\(part): \(first.stderr)")
      }
      #expect(!first.stderr.contains("secret-token"))
      #expect(try await fixture.damagedRows() == 0, "\(first.stderr)")
      if let jobs = fault.jobs {
        let count = try await fixture.value("SELECT count(*) FROM lethe.job", as: Int.self)
        #expect(count == jobs, "\(first.stderr)")
      }
      let served = try await fixture.faultsServed()
      #expect(served.count == fault.rules.count, "\(served) \(first.stderr)")
      if fault.isPermanent { return }
      if first.code != 0 {
        if fault.leavesSlot {
          try await fixture.execute(
            """
            UPDATE compliance.jobs SET status = 'expired', finished_at = now()
            WHERE status IN ('created', 'in_progress')
            """)
        }
        _ = try definition(fixture, ["job_attempts: 2"])
        let second = try await Program.run(
          "lethe", ["run", file], environment: fixture.environment)
        #expect(second.code == 0, "\(second.stderr)")
      } else {
        #expect(try await fixture.ledgerFaults() == [], "\(first.stderr)")
      }
      #expect(try await fixture.rowsThatDiffer() == 0, "\(first.stderr)")
    }
  }

  private static let cases = (calls + bytes + jobs + times).flatMap { fault in
    [WireProfile.native, .gcs].filter(fault.profiles.contains).map { (fault, $0) }
  }

  @Test(arguments: sampled(cases, 20))
  func theWarehouseIsCorrectAfterTheFault(fault: Fault, profile: WireProfile) async throws {
    try await Self.runPipeline(fault, profile)
  }

  // MARK: The calls of the API

  private static let elsewhere =
    #"headers: {Location: "https://portal.example/page?token=secret-token"}"#
  private static let gone =
    #"text: '{"errors":[{"title":"Not Found Error","type":"https://api.x.com/2/problems/resource-not-found"}]}'"#

  private static let calls: [Fault] = [
    Fault(
      testDescription: "creations that create a job and do not return it",
      rules: [
        "at: create, call: 1, rewrite: {status: 204}",
        #"at: create, call: 2, rewrite: {text: "{}"}"#,
      ], jobs: 2, messageParts: ["adopted"]),
    Fault(
      testDescription: "creations with an unexpected status and body",
      rules: [
        "at: create, call: 1, rewrite: {status: 206, body: html}",
        "at: create, call: 2, answer: {status: 202, body: empty}",
        "at: create, call: 3, answer: {status: 200, body: html}",
      ], jobs: 2, messageParts: ["adopted"]),
    Fault(
      testDescription: "the API redirects a creation",
      rules: ["at: create, call: 1, answer: {status: 302, \(elsewhere)}"], code: 1,
      messageParts: ["a redirect to https://portal.example/page", "api.base_url"]),
    Fault(
      testDescription: "the API redirects a job request",
      rules: ["at: get, call: 1, answer: {status: 308, \(elsewhere)}"], code: 1,
      messageParts: ["a redirect to https://portal.example/page"]),
    Fault(
      testDescription: "no permission", rules: ["at: create, call: 1, answer: {status: 403}"],
      code: 77),
    Fault(
      testDescription: "a proxy that requires authentication",
      rules: ["at: get, call: 1, answer: {status: 407, body: html}"], code: 77),
    Fault(
      testDescription: "no credits",
      rules: ["at: create, call: 1, answer: {status: 402, body: empty}"], code: 77,
      messageParts: ["credits"]),
    Fault(
      testDescription: "a monthly cap",
      rules: [
        #"at: create, call: 1, answer: {status: 429, text: '{"title":"UsageCapExceeded","detail":"Monthly cap"}'}"#
      ], code: 75, messageParts: ["Monthly cap"]),
    Fault(
      testDescription: "a request that is refused",
      rules: ["at: create, call: [1, 2], answer: {status: 418}"], code: 5,
      messageParts: ["HTTP 418"]),
    Fault(
      testDescription: "job requests that succeed after errors",
      rules: [
        "at: get, call: 1, answer: {status: 503, body: html}",
        "at: get, call: 2, rewrite: {body: html, headers: {Content-Type: application/json}}",
        "at: get, call: 3, rewrite: {coding: gzip, headers: {Content-Encoding: }}",
      ], jobs: 2),
    Fault(
      testDescription: "a job request that reports that the job does not exist",
      rules: ["at: get, call: 1, answer: {status: 200, \(gone)}"], jobs: 3,
      messageParts: ["does not have"]),
    Fault(
      testDescription: "a job request that returns an empty object",
      rules: [#"at: get, call: 1, answer: {status: 200, text: "{}"}"#], jobs: 3),
    Fault(
      testDescription: "a job request that returns another job",
      rules: [#"at: get, call: 1, rewrite: {members: {id: "7"}}"#], jobs: 3,
      messageParts: ["about another job"]),
    Fault(
      testDescription: "a job request with status 204",
      rules: ["at: get, call: 1, rewrite: {status: 204}"],
      jobs: 3, messageParts: ["HTTP 204"]),
  ]

  // MARK: Bytes

  private static let expired =
    #"text: "<Error><Code>ExpiredToken</Code></Error>", headers: {Content-Type: application/xml}"#
  private static let noHash = "x-goog-hash: "

  private static let bytes: [Fault] = [
    Fault(
      testDescription: "downloads that are not a result, once each",
      rules: [
        "at: download, call: 1, rewrite: {status: 206}",
        "at: download, call: 2, answer: {status: 204}",
      ], jobs: 2),
    Fault(
      testDescription: "downloads that are redirected or expired, once each",
      rules: [
        "at: download, call: 1, answer: {status: 302, \(elsewhere)}",
        "at: download, call: 2, answer: {status: 400, \(expired)}",
      ], jobs: 2),
    Fault(
      testDescription: "a download that breaks off, and whose URL has expired then",
      rules: [
        "at: download, call: 1, cut: during",
        "at: download, call: 2, answer: {status: 400, \(expired)}",
      ], jobs: 2, messageParts: ["continuing after"]),
    Fault(
      testDescription: "a download that breaks off, and whose URLs stay expired then",
      rules: [
        "at: download, call: 1, cut: during",
        "at: download, call: [2, 3, 4], answer: {status: 400, \(expired)}",
      ], jobs: 3),
    Fault(
      testDescription: "download URLs that stay expired",
      rules: ["at: download, times: 12, answer: {status: 400, \(expired)}"], code: 5, jobs: 4,
      messageParts: ["HTTP 400"]),
    Fault(
      testDescription: "results with the content type of a web page",
      rules: ["at: download, times: 12, rewrite: {headers: {Content-Type: text/html}}"], code: 5,
      jobs: 4, messageParts: ["text/html"]),
    Fault(
      testDescription: "results with unusual content types",
      rules: ["at: download, rewrite: {headers: {Content-Type: [video/mp4, a b]}}"], jobs: 2),
    Fault(
      testDescription: "results without a length and without a checksum",
      rules: ["at: download, times: 12, rewrite: {framing: close, headers: {\(noHash)}}"], code: 5,
      jobs: 4, messageParts: ["neither a length nor a checksum"]),
    Fault(
      testDescription: "results without a length and with a checksum",
      rules: ["at: download, rewrite: {framing: close}"], profiles: [.gcs], jobs: 2),
    Fault(
      testDescription: "half of a result, without a length",
      rules: ["truncate: 0.5, call: 1", "at: download, call: 1, rewrite: {framing: close}"], jobs: 2
    ),
    Fault(
      testDescription: "a transfer coding with a capital letter",
      rules: [
        "at: [download, get, create], rewrite: {framing: chunked, headers: {Transfer-Encoding: Chunked}}"
      ], jobs: 2),
    Fault(
      testDescription: "header names in capitals",
      rules: [
        "at: [create, list, get, upload, download], rewrite: {header_case: upper, headers: {DATE: \"{date}\"}}"
      ], jobs: 2),
    Fault(
      testDescription: "results that are compressed with gzip",
      rules: ["at: download, rewrite: {coding: gzip, headers: {\(noHash)}}"], jobs: 2),
    Fault(
      testDescription: "results that are compressed with deflate",
      rules: [
        "at: download, every: 2, rewrite: {coding: deflate, headers: {\(noHash)}}",
        "at: download, call: [1, 3, 5], rewrite: {coding: raw_deflate, headers: {\(noHash)}}",
      ], jobs: 2),
    Fault(
      testDescription: "results that are stored compressed",
      rules: [
        "at: download, rewrite: {coding: gzip, headers: {x-goog-stored-content-encoding: gzip, \(noHash)}}"
      ], profiles: [.gcs], jobs: 2),
    Fault(
      testDescription: "results that a proxy compresses without a new checksum",
      rules: ["at: download, rewrite: {coding: gzip}"], profiles: [.gcs], jobs: 2),
    Fault(
      testDescription: "results with a wrong content coding",
      rules: ["at: download, call: [1, 2], rewrite: {headers: {Content-Encoding: gzip}}"], jobs: 2),
    Fault(
      testDescription: "results in an unknown content coding",
      rules: ["at: download, times: 12, rewrite: {headers: {Content-Encoding: br}}"], code: 5,
      jobs: 4, messageParts: ["the content coding br"]),
    Fault(
      testDescription: "half of a compressed result",
      rules: [
        "at: download, call: 1, rewrite: {coding: gzip, headers: {\(noHash)}}",
        "truncate: 0.5, call: 1",
      ], jobs: 2),
    Fault(
      testDescription: "uploads that are stored and return an error",
      rules: [
        "at: upload, call: 1, rewrite: {status: 400}",
        "at: upload, call: 2, rewrite: {status: 307, \(elsewhere)}",
      ], jobs: 2),
    Fault(
      testDescription: "an upload that is refused",
      rules: ["at: upload, call: 1, answer: {status: 307, \(elsewhere)}"], profiles: [.native],
      jobs: 3, messageParts: ["a redirect to https://portal.example/page"]),
    Fault(
      testDescription: "half of an upload is stored",
      rules: ["store: 0.5, times: 1"], profiles: [.gcs], jobs: 3,
      messageParts: ["has not stored the"]),
    Fault(
      testDescription: "half of an upload is stored, and no size or checksum is returned",
      rules: [
        "store: 0.5, times: 1",
        "at: upload, call: 1, rewrite: {headers: {x-goog-stored-content-length: , \(noHash)}}",
      ], profiles: [.gcs], jobs: 3, messageParts: ["confirms neither the length nor the checksum"]),
    Fault(
      testDescription: "half of an upload is stored, and only its checksum is returned",
      rules: [
        "store: 0.5, times: 1",
        "at: upload, call: 1, rewrite: {headers: {x-goog-stored-content-length: }}",
      ], profiles: [.gcs], jobs: 3, messageParts: ["the checksum of the stored bytes differs"]),
  ]

  // MARK: Jobs

  private static let odd =
    #"entries: [{id: "7", error: {code: 3}}, {id: 7, status: [odd]}, {}, 3, null, text]"#

  private static let jobs: [Fault] = [
    Fault(
      testDescription: "jobs among odd entries",
      rules: [
        "at: create, call: [1, 2], lose_response: true",
        "at: list, rewrite: {\(odd), members: {error: {code: 3}}, without: [type, created_at, upload_expires_at]}",
      ], jobs: 2, messageParts: ["adopted"]),
    Fault(
      testDescription: "IDs that are numbers",
      rules: [
        "at: create, call: 1, lose_response: true",
        "at: [create, list, get], rewrite: {numbers: [id], members: {error: [1]}}",
      ], jobs: 2, messageParts: ["adopted"]),
    Fault(
      testDescription: "unknown statuses before the end",
      rules: ["at: get, call: [1, 2, 4], rewrite: {members: {status: thinking}}"], jobs: 2),
    Fault(
      testDescription: "a truncated job name after a lost creation response",
      rules: [
        "at: create, call: 1, lose_response: true",
        "at: list, times: 40, rewrite: {shorten: {name: 12}}",
      ], code: 5, messageParts: ["is taken by job"],
      api: ["job_attempts: 2", "slot_hours_max: 0.0001"],
      leavesSlot: true),
    Fault(
      testDescription: "a missing job name after a lost creation response",
      rules: [
        "at: create, call: 1, lose_response: true",
        "at: list, times: 40, rewrite: {without: [name]}",
      ], code: 5, messageParts: ["is taken by job"],
      api: ["job_attempts: 2", "slot_hours_max: 0.0001"],
      leavesSlot: true),
    Fault(
      testDescription: "a missing name of a known job",
      rules: ["at: [create, get], rewrite: {without: [name], members: {resumable: odd}}"], jobs: 2),
    Fault(
      testDescription: "a job that stays in progress",
      rules: ["slow: 600min, call: 1"], profiles: [.native],
      messageParts: ["was in_progress for over"],
      api: ["job_attempts: 50", "job_hours_max: 0.0005"]),
    Fault(
      testDescription: "a job that stays in progress and cannot be cancelled",
      rules: ["slow: 600min, call: 1"], profiles: [.gcs], code: 5,
      messageParts: ["was in_progress for over", "is taken by job"],
      api: ["job_attempts: 2", "job_hours_max: 0.0003", "slot_hours_max: 0.0001"], leavesSlot: true),
    Fault(
      testDescription: "jobs that are always reported as created",
      rules: ["at: get, rewrite: {members: {status: created}}"], code: 5,
      messageParts: ["was created for over"], api: ["job_attempts: 2", "job_hours_max: 0.0001"],
      isPermanent: true
    ),
    Fault(
      testDescription: "a job that fails with an error object",
      rules: [
        "fail: internal error, call: 1",
        "at: get, rewrite: {members: {error: {message: another error}}}",
      ], jobs: 3, messageParts: ["another error"]),
  ]

  // MARK: Times

  private static let times: [Fault] = [
    Fault(
      testDescription: "rate limits that reset in the past, or at a time in milliseconds",
      rules: [
        "at: [create, upload], rewrite: {headers: {x-rate-limit-remaining: 0, x-rate-limit-reset: \"{epoch-3600}\"}}",
        "at: [get, download], rewrite: {headers: {x-rate-limit-remaining: 0, x-rate-limit-reset: \"{epoch_ms-1}\"}}",
      ], jobs: 2),
    Fault(
      testDescription: "refusals with a Retry-After in seconds and as a date",
      rules: [
        "at: create, call: 1, answer: {status: 429, headers: {Retry-After: 1, x-rate-limit-reset: \"1e300\"}}",
        "at: get, call: 1, answer: {status: 429, headers: {Retry-After: \"{date+1}\", x-rate-limit-reset: inf}}",
        "at: download, call: 1, answer: {status: 503, headers: {Retry-After: 0, x-rate-limit-reset: nan}}",
        "at: upload, call: 1, answer: {status: 429, headers: {Retry-After: -5, x-rate-limit-reset: \"{epoch+99999}\"}}",
      ], jobs: 2),
    Fault(
      testDescription: "refusals with a time long past, or without a valid time",
      rules: [
        "at: create, call: 1, answer: {status: 429, headers: {x-rate-limit-reset: \"{epoch-86400}\"}}",
        "at: get, call: 1, answer: {status: 503, headers: {Retry-After: soon}}",
        "at: download, call: 1, answer: {status: 503, headers: {Retry-After: \"{date-86400}\"}}",
      ], jobs: 2),
    Fault(
      testDescription:
        "a server clock that is behind, and URLs that have expired by the local clock",
      rules: [
        "at: [create, list, get, upload, download], rewrite: {headers: {Date: \"{date-960}\"}}",
        "at: [create, get], rewrite: {members: {upload_expires_at: \"{timestamp-60}\"}}",
      ], jobs: 2, messageParts: ["ahead of the API's"]),
    Fault(
      testDescription: "a server clock that is ahead, and a retry time by that clock",
      rules: [
        "at: [create, list, get, upload, download], rewrite: {headers: {Date: \"{date+7200}\"}}",
        "at: get, call: 1, answer: {status: 503, headers: {Date: \"{date+7200}\", Retry-After: \"{date+7201}\"}}",
        "at: [create, get], rewrite: {members: {upload_expires_at: \"{timestamp+8000}\"}}",
      ], jobs: 2, messageParts: ["behind the API's"]),
    Fault(
      testDescription: "invalid dates",
      rules: ["at: [create, get, upload, download], rewrite: {headers: {Date: yesterday}}"], jobs: 2
    ),
  ]
}
