internal import Foundation

/// A part of the cases of a large matrix. With `LETHE_ALL_CASES` (`make test-all`), all of them.
///
/// The cases of a matrix test one mechanism in many situations, and all of them together take hours. Each run takes other
/// ones at random. A case that fails can be repeated with `LETHE_ALL_CASES` or with the printed `LETHE_SEED`.
/// - Parameter count: how many cases.
public func sampled<Cases: Collection>(_ cases: Cases, _ count: Int) -> [Cases.Element] {
  if ProcessInfo.processInfo.environment["LETHE_ALL_CASES"] != nil { return Array(cases) }
  var random = Sample.generator
  return Array(cases).shuffled(using: &random).prefix(count).map { $0 }
}

/// As `sampled`, for all pairs of the cases of two lists.
public func sampled<First: Collection, Second: Collection>(
  _ first: First, _ second: Second, _ count: Int
) -> [(First.Element, Second.Element)] {
  sampled(first.flatMap { one in second.map { (one, $0) } }, count)
}

private enum Sample {
  static let generator: SeededGenerator = {
    let seed = SeededGenerator.seedOfTest()
    print("sampled cases: LETHE_SEED=\(seed)")
    return SeededGenerator(seed: seed)
  }()
}
