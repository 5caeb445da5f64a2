import Testing
import Vocabulary

@testable import ComplianceAPI

/// What `api.profile: auto` makes of the API's answers.
@Suite struct ProfileTests {
  @Test func oneRefusalCountsForGoodWhoeverElseWasUnderWay() async {
    let profile = ProfileInUse(.auto)
    #expect(await !profile.asksForParts)
    await profile.seen(isStorageHost: true)
    #expect(await profile.asksForParts)
    // Two creates were under way: each is to be asked for again.
    #expect(await profile.refused())
    #expect(await profile.refused())
    await profile.seen(isStorageHost: true)
    #expect(await !profile.asksForParts)
  }

  @Test func whatTheDefinitionSaysIsNotFoundOut() async {
    let (native, gcs) = (ProfileInUse(.native), ProfileInUse(.gcs))
    await native.seen(isStorageHost: true)
    #expect(await !native.asksForParts)
    #expect(await gcs.asksForParts)
    #expect(await !gcs.refused())
    #expect(await gcs.asksForParts)
  }
}
