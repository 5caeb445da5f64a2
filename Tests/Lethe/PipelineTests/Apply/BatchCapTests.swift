import Testing

@testable import ApplyStage

@Suite struct BatchCapTests {
  @Test func eachRefusalHalvesTheCapUntilOneEventIsLeft() {
    var cap = BatchCap()
    #expect(cap.halve(refusedEvents: 20) == 10)
    // The range of a batch can be larger than the cap, because of rows that refer to each other.
    #expect(cap.halve(refusedEvents: 20) == 5)
    #expect(cap.halve(refusedEvents: 5) == 2)
    #expect(cap.halve(refusedEvents: 2) == 1)
    #expect(cap.halve(refusedEvents: 9) == nil)
    #expect(cap.halve(refusedEvents: 1) == nil)
    #expect(cap.events == 1)
  }

  @Test(arguments: [1, 2, 3, 1000, 10_000, Int.max])
  func theCapGrowsUpToTheLimitAndEndsThere(limit: Int) {
    var cap = BatchCap()
    #expect(cap.halve(refusedEvents: 3) == 1)
    var former = 1
    // More than enough batches to exceed the range of integers.
    for _ in 1...5000 {
      cap.noteBatch(limit: limit)
      guard let now = cap.events else { return }
      #expect(now == former || now == former * 2)
      #expect(now <= limit)
      former = now
    }
    Issue.record("the cap never ended")
  }
}
