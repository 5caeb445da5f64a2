import Dispatch

/// The stages, by their names in commands and reports.
public enum Stage: String, Sendable, CaseIterable {
  case export
  case submit
  case await
  case collect
  case apply
}

/// How long each stage has worked on each dataset in this process. Stages overlap, so a run can take fewer seconds
/// than the sum of these times.
actor StageClock {
  private var seconds: [String: [Stage: Double]] = [:]

  func measure<R: Sendable>(
    _ stage: Stage, _ dataset: String, isolation: isolated (any Actor)? = #isolation,
    _ body: () async throws -> R
  ) async rethrows -> R {
    let start = DispatchTime.now()
    do {
      let value = try await body()
      await add(stage, dataset, since: start)
      return value
    } catch {
      await add(stage, dataset, since: start)
      throw error
    }
  }

  func seconds(of dataset: String) -> [String: Double] {
    Dictionary(
      uniqueKeysWithValues: (seconds[dataset] ?? [:]).map {
        ($0.rawValue, Self.rounded($1))
      })
  }

  /// Seconds with three decimals.
  static func rounded(_ seconds: Double) -> Double { (seconds * 1000).rounded() / 1000 }

  private func add(_ stage: Stage, _ dataset: String, since start: DispatchTime) {
    let nanoseconds = DispatchTime.now().uptimeNanoseconds - start.uptimeNanoseconds
    seconds[dataset, default: [:]][stage, default: 0] += Double(nanoseconds) / 1e9
  }
}
