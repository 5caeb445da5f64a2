internal import Synchronization

/// Set once, from anywhere.
public final class Flag: Sendable {
  private let value = Atomic(false)

  public init() {}

  public var isSet: Bool { value.load(ordering: .acquiring) }

  public func set() { value.store(true, ordering: .releasing) }
}
