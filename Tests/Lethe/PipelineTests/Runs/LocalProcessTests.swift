import Foundation
import Ledger
import TestSupport
import Testing

@testable import Runtime

/// Which processes count as ended. Of a process that may still run, no lease is taken before it has expired.
@Suite struct LocalProcessTests {
  private static func process(_ processID: Int32, start: Int64) -> ProcessIdentity {
    let own = LocalProcess.identity
    return ProcessIdentity(
      host: own.host, processID: processID, bootID: own.bootID, pidNamespace: own.pidNamespace,
      start: start)
  }

  @Test func ownProcessIsAlive() {
    let own = LocalProcess.identity
    #expect(own.start > 0)
    #expect(!LocalProcess.hasEnded(own))
  }

  @Test func anEndedProcessIsRecognised() async throws {
    let child = try ChildProcess(["/bin/true"])
    _ = await child.ended()
    let id = child.processIdentifier
    #expect(LocalProcess.state(of: id) == .ended)
    #expect(LocalProcess.hasEnded(Self.process(id, start: 1)))
  }

  /// A process ID is used again after some time.
  @Test(
    arguments: [
      (LocalProcess.State.started(7), 7, false), (.started(8), 7, true), (.started(8), 0, false),
      (.hidden, 7, false), (.ended, 7, true), (.ended, 0, true),
    ] as [(LocalProcess.State, Int64, Bool)])
  func theStartTimeDecides(state: LocalProcess.State, start: Int64, expected: Bool) {
    #expect(
      LocalProcess.hasEnded(Self.process(1, start: start), state: state) == expected)
  }

  /// Linux shows no processes of another machine, of another boot or of another container.
  @Test func nothingIsKnownOfProcessesElsewhere() async throws {
    let child = try ChildProcess(["/bin/true"])
    _ = await child.ended()
    let id = child.processIdentifier
    let own = LocalProcess.identity
    for (bootID, namespace) in [
      ("other", own.pidNamespace), (own.bootID, "other"), ("", own.pidNamespace), (own.bootID, ""),
    ] {
      let elsewhere = ProcessIdentity(
        host: own.host, processID: id, bootID: bootID, pidNamespace: namespace, start: 1)
      #expect(!LocalProcess.hasEnded(elsewhere))
    }
  }
}
