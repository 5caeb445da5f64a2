/// The largest size of a chunk's next batches, in events, after events were refused only together. It grows slowly,
/// because a larger batch can be refused again.
struct BatchCap: Sendable {
  /// Nil if only the definition limits the size.
  private(set) var events: Int?
  /// How many batches were applied since the cap has changed.
  private var batches = 0

  /// The number of batches after which the cap doubles.
  private static let batchesBeforeGrowth = 16

  /// Halves the cap, from the size of the batch that was refused.
  /// - Returns: the new cap. Nil if it cannot become smaller.
  mutating func halve(refusedEvents: Int) -> Int? {
    guard refusedEvents > 1 else { return nil }
    let smaller = max(1, min(refusedEvents, events ?? .max) / 2)
    guard smaller < events ?? .max else { return nil }
    (events, batches) = (smaller, 0)
    return smaller
  }

  /// Call this after each batch.
  /// - Parameter limit: the size that the definition allows. A cap that reaches it ends.
  mutating func noteBatch(limit: Int) {
    guard let cap = events else { return }
    batches += 1
    guard batches == Self.batchesBeforeGrowth else { return }
    (events, batches) = (cap < limit / 2 ? cap * 2 : nil, 0)
  }
}
