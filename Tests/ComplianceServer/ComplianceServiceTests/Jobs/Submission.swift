import ComplianceService
import Foundation
import NIOHTTP1
import Testing

/// The ways to upload a submission.
enum UploadMethod: String, CaseIterable, CustomTestStringConvertible {
  case native
  case gcs
  case gcsInParts = "gcs, in parts"

  var profile: WireProfile { self == .native ? .native : .gcs }
  var testDescription: String { rawValue }

  /// The body of the request that creates the job.
  func create(_ type: String = "users") -> String {
    #"{"type":"\#(type)"\#(self == .gcsInParts ? #","resumable":true"# : "")}"#
  }
}

/// Parses a submission as the documentation describes it, and computes the expected result independently of the
/// service's code.
struct Submission {
  /// In the data of `platformState`, accounts with IDs below this value are deleted.
  static let deletedBelow: Int64 = 1000

  static let platformState = """
    INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
    SELECT id, 'a' || id, '2015-01-01', 'deleted', '2020-01-01'
    FROM generate_series(0, \(deletedBelow - 1)) AS id
    """

  enum Line {
    case id(Int64)
    case invalid([UInt8])
  }

  let lines: [Line]

  init(_ bytes: [UInt8]) {
    var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    // A line feed at the end of the text does not begin another line.
    if lines.last?.isEmpty == true { lines.removeLast() }
    self.lines = lines.map { line in
      guard (1...19).contains(line.count), line.allSatisfy({ (48...57).contains($0) }),
        let id = Int64(String(decoding: line, as: UTF8.self))
      else { return .invalid(Array(line.prefix(4096))) }
      return .id(id)
    }
  }

  /// The IDs in the native result's lines: first the invalid lines, in their order, then the deleted accounts,
  /// sorted.
  var answers: [String] {
    var invalid: [String] = []
    var deleted: Set<Int64> = []
    for line in lines {
      switch line {
      case .id(let id): if id < Self.deletedBelow { deleted.insert(id) }
      case .invalid(let bytes):
        invalid.append("not an ID: " + String(decoding: bytes, as: UTF8.self))
      }
    }
    return invalid + deleted.sorted().map { "\($0)" }
  }

  /// The number of the first invalid line. A gcs job fails on this line.
  var firstInvalidLine: Int? {
    lines.firstIndex { if case .invalid = $0 { true } else { false } }.map { $0 + 1 }
  }
}

extension LocalService {
  /// The headers of an upload. The storage host accepts no token.
  func uploadHeaders(_ way: UploadMethod) -> HTTPHeaders {
    way == .native
      ? ["content-type": "text/plain", "authorization": "Bearer \(Self.token)"]
      : ["content-type": "text/plain"]
  }

  /// The URL for the upload; for an upload in parts, the URL of a new session.
  func target(of job: WireJob, _ way: UploadMethod) async throws -> String {
    guard way == .gcsInParts else { return job.upload_url }
    let response = try await begin(job)
    return try #require(
      response.headers.first(name: "location"), "\(response.status) \(response.text)")
  }

  /// Creates a job and uploads a submission.
  /// - Returns: the response to the upload, and the job.
  func submit(_ bytes: [UInt8], _ way: UploadMethod) async throws -> (
    response: ServiceResponse, job: WireJob
  ) {
    let job = try await post(way.create()).job()
    let target = try await target(of: job, way)
    guard way == .gcsInParts else {
      return (try await put(bytes, to: target, uploadHeaders(way)), job)
    }
    let total = bytes.count
    let split = min(256 * 1024 * (total / 2 / (256 * 1024)), total)
    if split > 0 {
      let first = try await part(bytes, 0..<split, of: target)
      #expect(first.status == 308, "\(first.text)")
    }
    let last =
      total == 0
      ? try await put([], to: target, ["content-range": "bytes */0"])
      : try await part(bytes, split..<total, of: target)
    return (last, job)
  }

  /// Polls until the job has been processed. A separate process has no gate to wait at.
  func processed(_ id: String) async throws -> WireJob {
    var job = try await self.job(id)
    while job.status == "in_progress" { job = try await self.job(id) }
    return job
  }

  /// The IDs in a result's lines; invalid lines are marked. Checks the form of each line. Lines of the gcs profile are
  /// sorted by ID, because they have no order.
  func answers(of job: WireJob, _ way: UploadMethod) async throws -> [String] {
    let result = try await send(
      .GET, job.download_url, token: way == .native ? Self.token : nil)
    try #require(result.status == 200, "\(result.text)")
    let answers = try result.body.split(separator: UInt8(ascii: "\n")).map { line in
      let members = try JSONDecoder().decode([String: String].self, from: Data(line))
      let id = try #require(members["id"])
      if members["error"] == nil {
        #expect(members["action"] == "delete" && members["reason"] == "deleted", "\(members)")
        return id
      }
      #expect(members == ["id": id, "error": "invalid_id"])
      return "not an ID: " + id
    }
    return way == .native ? answers : answers.sorted { (Int($0) ?? 0) < (Int($1) ?? 0) }
  }

  /// Submits these bytes, and expects the result that `Submission` computes.
  func expectAnswers(
    to bytes: [UInt8], _ way: UploadMethod, _ what: String,
    _ location: SourceLocation = #_sourceLocation
  ) async throws {
    let (response, created) = try await submit(bytes, way)
    #expect(response.status == 200, "\(what): \(response.text)", sourceLocation: location)
    let job = try await processed(created.id)
    let submission = Submission(bytes)
    if way != .native, let line = submission.firstInvalidLine {
      #expect(job.status == "failed", "\(what)", sourceLocation: location)
      #expect(
        job.error?.hasPrefix("Line \(line) of the submission") == true,
        "\(what): \(job.error ?? "no error")", sourceLocation: location)
    } else {
      try #require(job.status == "complete", "\(what): \(job)", sourceLocation: location)
      let isRight = try await answers(of: job, way) == submission.answers
      #expect(isRight, "\(what)", sourceLocation: location)
    }
    #expect(try await get("/healthz").status == 200, sourceLocation: location)
  }
}
