import Testing
import Vocabulary

@testable import ComplianceAPI

/// How `api.profile: auto` detects the profile from the API's responses.
@Suite struct ProfileTests {
  @Test func oneRefusalDecidesForAllConcurrentRequests() async {
    let profile = ProfileInUse(.auto)
    #expect(await !profile.asksForParts)
    await profile.seen(isStorageHost: true)
    #expect(await profile.asksForParts)
    // Two requests to create a job were sent before the refusal. Each of them must be sent again.
    #expect(await profile.refused())
    #expect(await profile.refused())
    await profile.seen(isStorageHost: true)
    #expect(await !profile.asksForParts)
  }

  @Test func aConfiguredProfileIsNotDetected() async {
    let (native, gcs) = (ProfileInUse(.native), ProfileInUse(.gcs))
    await native.seen(isStorageHost: true)
    #expect(await !native.asksForParts)
    #expect(await gcs.asksForParts)
    #expect(await !gcs.refused())
    #expect(await gcs.asksForParts)
  }
}
