internal import FaultPlans
internal import Foundation

/// The JSON report on the faults that were served.
struct FaultReport: Encodable {
  private struct Count: Encodable {
    let name: String
    /// The number of calls at the fault's points.
    let calls: Int
    let served: Int
  }

  private struct Served: Encodable {
    let number: Int
    let time: String
    let fault: String
    let at: String
    let call: Int
    let job: String?
  }

  /// The path of the fault plan. The key is absent if the server has no plan.
  private let plan: String?
  private let seed: UInt64?
  private let faults: [Count]
  /// The latest occurrences of faults, at most 10,000, oldest first.
  private let served: [Served]

  init(_ injector: FaultInjector?) {
    plan = injector?.plan.file
    seed = injector?.plan.seed
    let record = injector?.record
    faults = (record?.counts ?? []).map {
      Count(name: $0.fault.name, calls: $0.calls, served: $0.served)
    }
    served = (record?.served ?? []).map {
      Served(
        number: $0.number,
        time: $0.at.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true)),
        fault: $0.fault, at: $0.point.rawValue, call: $0.call, job: $0.jobID.map { "\($0)" })
    }
  }
}
