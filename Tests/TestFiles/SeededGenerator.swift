import Foundation

/// A random number generator (SplitMix64) that returns the same numbers for the same seed. A failing test prints its
/// seed, so the failure can be repeated.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
  private var state: UInt64

  public init(seed: UInt64) {
    state = seed
  }

  /// The seed of a random test: `LETHE_SEED` if it is set, otherwise a random seed.
  public static func seedOfTest() -> UInt64 {
    ProcessInfo.processInfo.environment["LETHE_SEED"].flatMap(UInt64.init)
      ?? .random(in: 0...UInt64.max)
  }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}
