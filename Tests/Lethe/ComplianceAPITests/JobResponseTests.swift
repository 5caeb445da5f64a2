import Foundation
import Testing

@testable import ComplianceAPI

/// Unusual JSON in the API's jobs and problems.
@Suite struct JobResponseTests {
  @Test(
    arguments: [
      (#"{"id":"17","status":"complete","name":"n"}"#, "17"),
      (#"{"id":1790123456789012345,"status":"complete","name":"n"}"#, "1790123456789012345"),
      (#"{"id":18446744073709551615,"name":"n"}"#, "18446744073709551615"),
      (#"{"id":"17","error":{"code":5,"message":"no"},"name":"n"}"#, "17"),
      (#"{"id":"17","error":[1],"name":"n","status":3,"upload_url":{}}"#, "17"),
      (#"{"id":"17","created_at":17,"name":"n","type":null}"#, "17"),
      (#"{"name":"n"}"#, nil), (#"{"id":1.5,"name":"n"}"#, nil), (#"{"id":null}"#, nil), ("3", nil),
      ("null", nil), (#""17""#, nil),
    ] as [(String, String?)])
  func anUnusualEntryDoesNotHideOtherEntries(entry: String, id: String?) throws {
    let listing = #"{"data":[{"id":"1","name":"first"},\#(entry),{"id":"2","name":"last"}]}"#
    let response = try JSONDecoder().decode(JobsResponse.self, from: Data(listing.utf8))
    let jobs = (response.data ?? []).compactMap(\.value)
    #expect(jobs.map(\.id) == ["1"] + [id].compactMap(\.self) + ["2"])
    if id != nil { #expect(jobs[1].job(hiding: []).name == "n") }
  }

  @Test(
    arguments: [
      (#"{"errors":[{"title":"t"}]}"#, true), (#"{"data":null,"errors":[{"title":"t"}]}"#, true),
      (#"{"data":[],"errors":[{"title":"t"}]}"#, true),
      (#"{"data":[3],"errors":[{"title":"t"}]}"#, false),
      (#"{"data":{"id":"1"},"errors":[{"title":"t"}]}"#, false), (#"{"errors":[]}"#, false),
      (#"{"errors":["text"]}"#, false), (#"{"errors":"text"}"#, false), ("{}", false),
    ] as [(String, Bool)])
  func anErrorListIsAnErrorOnlyIfTheBodyHasNoData(body: String, isError: Bool) {
    #expect(Problem(body: Array(body.utf8), secrets: []).isErrorList == isError)
  }

  @Test func numbersOfAProblemMayBeJSONStrings() {
    let problem = Problem(
      body: Array(#"{"errors":[{"status":"404","code":"88"}]}"#.utf8), secrets: [])
    #expect(problem.status == 404 && problem.cause == .rateLimited)
  }
}
