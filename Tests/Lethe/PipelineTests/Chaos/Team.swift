import Foundation
import PostgreSQL
import TestSupport
import Testing

/// Processes that work on one night together. A process that ends before the night is over is started again.
actor Team {
  static let size = 3

  private let fixture: PipelineFixture
  private let file: String
  private var random: SeededGenerator
  private var programs: [Int: Program] = [:]
  private var stopped: Set<Int> = []
  /// The members that have found no more work.
  private var finished: Set<Int> = []
  private(set) var starts = 0

  init(_ fixture: PipelineFixture, _ file: String, seed: UInt64) {
    (self.fixture, self.file) = (fixture, file)
    random = SeededGenerator(seed: seed)
  }

  var hasFinished: Bool { finished.count == Self.size }

  /// Runs processes until one of them finds that the night is over. The first process begins the run, and the others join
  /// it.
  func work(as member: Int, _ comment: Comment) async throws {
    defer {
      finished.insert(member)
      // A stopped process must notice, too, that the night is over.
      wake()
    }
    while true {
      try Task.checkCancellation()
      if member > 0 { try await begun() }
      let isBegun = await isBegun()
      let program = try Program(
        "lethe", ["run", file, "--join"] + (isBegun ? ["--resume-only"] : []),
        environment: fixture.environment)
      starts += 1
      programs[member] = program
      let result = await program.ended()
      programs[member] = nil
      stopped.remove(member)
      if result.code == 0 { return }
      // It was killed, its lease had expired, or the database was not available for too long.
      guard [SIGKILL, 6, 75].contains(result.code) else {
        Issue.record("\(comment): exit code \(result.code): \(result.stderr.suffix(3000))")
        return
      }
    }
  }

  /// Whether the run is in the ledger. False while the database is not available.
  private func isBegun() async -> Bool {
    (try? await fixture.value("SELECT count(*) > 0 FROM lethe.run", as: Bool.self)) ?? false
  }

  /// Returns when the first process has begun the run, or has failed.
  private func begun() async throws {
    while await !isBegun(), !finished.contains(0) { try await pollingPause() }
  }

  // MARK: Faults

  /// Kills a random process.
  /// - Returns: whether one was running.
  func kill() -> Bool { send(SIGKILL) != nil }

  /// Stops a random process, as if its machine were suspended. Two processes continue to work.
  func stop() -> Bool {
    guard stopped.isEmpty, let member = send(SIGSTOP) else { return false }
    stopped.insert(member)
    return true
  }

  func wake() {
    for member in stopped { programs[member]?.send(signal: SIGCONT) }
    stopped = []
  }

  private func send(_ signal: Int32) -> Int? {
    let running = programs.keys.filter { !stopped.contains($0) }.sorted()
    guard let member = running.randomElement(using: &random) else { return nil }
    programs[member]?.send(signal: signal)
    return member
  }
}
