import Foundation
import PostgreSQL
import SystemPackage
import TestSupport
import Testing

/// Random warehouses and definitions, with random responses over several runs and other writers in between.
/// Some responses are unreadable, collected or applied late, refused, or given up. Each outcome is compared
/// with a model in memory.
///
/// A failure names its seed. `LETHE_MODEL_SEED` and `LETHE_MODEL_CASES=1` repeat the same case.
/// `LETHE_MODEL_CASES` sets the number of cases for each of the four databases. Use thousands in a manual run.
/// The default is small enough not to delay the other tests, and the cases are the same each time.
/// `LETHE_MODEL_SEED=random` tests other cases.
@Suite struct ModelTests {
  private static let cases = number("LETHE_MODEL_CASES").map { Int($0) } ?? 100

  /// Larger than the number of cases in a part, so that no two parts have the same case.
  private static let seedsPerPart = max(cases, 250)

  private static let seed =
    ProcessInfo.processInfo.environment["LETHE_MODEL_SEED"] == "random"
    ? UInt64.random(in: 0...UInt64.max) : number("LETHE_MODEL_SEED") ?? 1

  private static func number(_ name: String) -> UInt64? {
    ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) }
  }

  /// A database for cases. `makes` creates a case from its number and its seed.
  private static func withPlatform(
    _ body: (_ makes: (_ number: Int, _ seed: UInt64) -> ModelCase) async throws -> Void
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
    // A clean response that was retried was superseded by a newer job that had not asked about its ID.
    9_029_991_265_528_668_016 as UInt64
  ])
  func everyCaseThatFailedBeforeMatchesTheModel(seed: UInt64) async throws {
    try await Self.withPlatform { makes in
      var modelCase = makes(1, seed)
      let differences = try await modelCase.run()
      #expect(differences == [])
    }
  }

  @Test(arguments: 0..<4)
  func everyOutcomeMatchesTheModel(part: Int) async throws {
    try await Self.withPlatform { makes in
      for number in 1...Self.cases {
        let seed = Self.seed &+ UInt64(part * Self.seedsPerPart + number - 1)
        var modelCase = makes(number, seed)
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
