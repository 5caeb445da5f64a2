import Testing
import Vocabulary

@Suite struct SecretsTests {
  private struct Holder {
    let token = BearerToken("hunter2-token")
    let url: SignedURL? = SignedURL("https://api.x.com/2/jobs/1/upload?token=hunter2-url")
  }

  private static func everyDescription<Value>(of value: Value) -> [String] {
    var dumped = ""
    dump(value, to: &dumped)
    return [
      "\(value)", String(describing: value), String(reflecting: value), dumped,
      "\([value])", String(reflecting: Optional(value)),
    ]
  }

  @Test func aTokensDescriptionDoesNotContainTheToken() {
    for text in Self.everyDescription(of: BearerToken("hunter2")) {
      #expect(!text.contains("hunter2"))
      #expect(!text.isEmpty)
    }
    #expect(BearerToken("hunter2").exposed == "hunter2")
  }

  @Test func aSignedURLsDescriptionHasNoQuery() {
    let url = SignedURL("https://storage.googleapis.com/bucket/1?X-Goog-Signature=hunter2&b=?c")
    for text in Self.everyDescription(of: url) { #expect(!text.contains("hunter2")) }
    #expect(url.description == "https://storage.googleapis.com/bucket/1?…")
    #expect(url.exposed.hasSuffix("?X-Goog-Signature=hunter2&b=?c"))
    #expect(SignedURL("https://api.x.com/plain").description == "https://api.x.com/plain")
  }

  @Test func aValueThatContainsSecretsDoesNotDescribeThem() {
    for text in Self.everyDescription(of: Holder()) { #expect(!text.contains("hunter2")) }
  }

  @Test func secretsAreComparedByTheirValues() {
    #expect(BearerToken("a") == BearerToken("a"))
    #expect(BearerToken("a") != BearerToken("b"))
    #expect(SignedURL("https://a/?1") != SignedURL("https://a/?2"))
  }
}

@Suite struct ReasonTests {
  @Test(arguments: [
    ("deleted", Reason.deleted), ("bounced", .bounced), ("suspended", .suspended),
    ("deactivated", .deactivated), ("protected", .protected), ("geo_scrubbed", .geoScrubbed),
    ("scrub_geo", .geoScrubbed), ("tweet_edited", .tweetEdited),
  ])
  func everyDocumentedReasonIsRecognized(word: String, reason: Reason) {
    #expect(Reason(word: word) == reason)
    #expect(Reason(word: word[...]) == reason)
  }

  @Test(arguments: ["", "Deleted", "deleted ", "clean", "withheld", "geoScrubbed", "scrub-geo"])
  func noOtherReasonIsRecognized(word: String) {
    #expect(Reason(word: word) == nil)
  }

  @Test func usersAndPostsHaveTheReasonsThatTheGuideLists() {
    #expect(
      Set(Reason.documented(for: .users)) == [.deleted, .suspended, .deactivated, .protected])
    #expect(Set(Reason.documented(for: .tweets)) == Set(Reason.allCases))
    #expect(Reason.documented(for: .tweets).count == 7)
  }
}

@Suite struct JobStatusTests {
  @Test(arguments: [
    ("created", JobStatus.created, true), ("in_progress", .inProgress, true),
    ("complete", .complete, false), ("failed", .failed, false), ("expired", .expired, false),
    ("paused", .unrecognized("paused"), true), ("Complete", .unrecognized("Complete"), true),
    ("", .unrecognized(""), true),
  ])
  func aStatusIsKeptAndAnUnknownStatusIsNotFinal(
    word: String, status: JobStatus, isActive: Bool
  ) {
    #expect(JobStatus(word) == status)
    #expect(JobStatus(word).description == word)
    #expect(JobStatus(word).isActive == isActive)
  }

  @Test func anUnrecognizedStatusDoesNotEqualAKnownStatus() {
    #expect(JobStatus.unrecognized("complete") != .complete)
  }
}
