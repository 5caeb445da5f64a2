import Foundation
import PostgreSQL
import SystemPackage
import TestSupport
import Testing

/// Random warehouses and definitions, with random answers over several runs and other writers in between. Some results
/// are unreadable, or are collected or applied late. Some events are refused, and some runs are given up. The tests
/// compare each outcome with a model in memory.
///
/// A failure names its seed. `LETHE_MODEL_SEED` and `LETHE_MODEL_CASES=1` repeat the same case.
/// `LETHE_MODEL_CASES` sets the number of cases for each of the four databases. Use thousands in a manual run.
/// The default is small enough not to delay the other tests, and the cases are the same each time.
/// `LETHE_MODEL_SEED=random` tests other cases.
@Suite struct ModelTests {
  private static let cases = number("LETHE_MODEL_CASES").map { Int($0) } ?? 30

  /// The number of seeds for each part. It is at least the number of cases, so that no two parts have the same case.
  private static let seedsPerPart = max(cases, 250)

  private static let seed =
    ProcessInfo.processInfo.environment["LETHE_MODEL_SEED"] == "random"
    ? UInt64.random(in: 0...UInt64.max) : number("LETHE_MODEL_SEED") ?? 1

  private static func number(_ name: String) -> UInt64? {
    ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) }
  }

  /// Runs `body` with a database. `createCase` creates a case from its number and its seed.
  private static func withDatabase(
    _ body: (_ createCase: (_ number: Int, _ seed: UInt64) -> ModelCase) async throws -> Void
  ) async throws {
    try await withTestDatabase(.ledger, .warehouse) { database in
      try await withTemporaryDirectory { directory in
        try await database.withConnection { connection in
          try await database.withConnection { copying in
            try await connection.runScript(SQL(trusted: ModelCase.tables))
            try await body {
              ModelCase(
                number: $0, seed: $1, connection: connection, copying: copying,
                directory: directory)
            }
          }
        }
      }
    }
  }

  /// Seeds of cases that failed in the past.
  @Test(arguments: [
    // A newer job superseded a retried clean answer, although the newer chunk did not contain the ID.
    9_029_991_265_528_668_016 as UInt64
  ])
  func everyCaseThatFailedBeforeMatchesTheModel(seed: UInt64) async throws {
    try await Self.withDatabase { createCase in
      var modelCase = createCase(1, seed)
      let differences = try await modelCase.run()
      #expect(differences == [])
    }
  }

  @Test(arguments: 0..<4)
  func everyOutcomeMatchesTheModel(part: Int) async throws {
    try await Self.withDatabase { createCase in
      for number in 1...Self.cases {
        let seed = Self.seed &+ UInt64(part * Self.seedsPerPart + number - 1)
        var modelCase = createCase(number, seed)
        let comment: Comment = "LETHE_MODEL_SEED=\(seed) LETHE_MODEL_CASES=1"
        let differences: [String]
        do {
          differences = try await modelCase.run()
        } catch {
          Issue.record(error, comment)
          return
        }
        try #require(differences == [], comment)
      }
    }
  }
}
