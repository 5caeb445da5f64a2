import Foundation
import Ledger
import PostgreSQL
import TestSupport
import Testing

/// Commands refuse a ledger that is older or newer than the program, or not complete. `LedgerSchema` describes the
/// ledger of this program.
@Suite struct LedgerSchemaTests {
  enum State: Sendable, CustomTestStringConvertible {
    case none
    case rolledBack(Int)
    case damaged(String)
    case newer

    var testDescription: String { "\(self)" }

    static let all: [State] =
      [.none, .newer] + (1...8).map(State.rolledBack)
      + [
        "DROP TABLE lethe.hold CASCADE", "DROP TABLE lethe.event CASCADE",
        "DROP TABLE lethe.run CASCADE", "DROP FUNCTION lethe.seal_hash CASCADE",
        "DROP FUNCTION lethe.ensure_event_partitions", "DROP TYPE lethe.reason CASCADE",
        "ALTER TABLE lethe.chunk DROP COLUMN remedy", "DROP TABLE lethe.withdrawn_tombstone",
        "DROP TABLE lethe.version",
      ].map(State.damaged)

    /// Whether only some commands are tested with this state. A similar state is tested with every command.
    var isTestedWithSomeCommands: Bool {
      switch self {
      case .none, .newer, .rolledBack(1), .damaged("DROP TABLE lethe.hold CASCADE"): false
      case .rolledBack, .damaged: true
      }
    }

    /// Parts of the error message.
    var messages: [String] {
      switch self {
      case .none: ["has no ledger", "lethe migrate up"]
      case .rolledBack: ["older than this program", "lethe migrate up"]
      case .damaged("DROP TABLE lethe.version"): ["older than this program", "lethe migrate up"]
      case .damaged: ["is not complete", "lethe migrate up"]
      case .newer: ["newer than this program", "29991231235959", "install the version of Lethe"]
      }
    }
  }

  private static let someCommands = [
    ["check", "PIPELINE", "--offline"], ["run", "PIPELINE"], ["status"],
  ]
  private static let commands = [
    ["check", "PIPELINE", "--offline"], ["check", "PIPELINE", "--grants"], ["run", "PIPELINE"],
    ["plan", "PIPELINE"], ["apply", "PIPELINE"], ["status"], ["holds", "list"],
    ["quarantine", "list"], ["guard", "list"], ["audit", "verify"], ["audit", "show", "1"],
  ]

  private static func lethe(
    _ arguments: [String], _ database: TestDatabase, _ file: String
  ) async throws -> Program.Result {
    try await Program.run(
      "lethe", arguments.map { $0 == "PIPELINE" ? file : $0 },
      environment: [
        "DATABASE_URL": database.url, "X_BEARER_TOKEN": "t",
        "COMPLIANCE_API_URL": "http://127.0.0.1:1",
        "LETHE_MIGRATIONS_DIR": repositoryRootPath + "/migrations",
        "LETHE_WORK_DIR": file + ".work",
      ])
  }

  @Test(arguments: State.all)
  func everyCommandRefusesAnUnsuitableLedgerWithARemedy(state: State) async throws {
    try await withTestDatabase(.ledger, .warehouse) { database in
      let file = FileManager.default.temporaryDirectory
        .appending(path: "\(database.name).yaml").path
      defer { try? FileManager.default.removeItem(atPath: file) }
      try PipelineFixture.definition.write(toFile: file, atomically: true, encoding: .utf8)
      #expect(try await Self.lethe(["status"], database, file).code == 0)
      switch state {
      case .none:
        try await database.withConnection { try await $0.runScript("DROP SCHEMA lethe CASCADE") }
      case .rolledBack(let count):
        for _ in 1...count {
          let down = try await Self.lethe(["migrate", "down", "--yes"], database, file)
          #expect(down.code == 0, "\(down.stderr)")
        }
      case .damaged(let sql):
        try await database.withConnection { try await $0.runScript(SQL(trusted: sql)) }
      case .newer:
        try await database.withConnection {
          try await $0.runScript("INSERT INTO lethe.version VALUES ('29991231235959')")
        }
      }
      for command in state.isTestedWithSomeCommands ? Self.someCommands : Self.commands {
        let result = try await Self.lethe(command, database, file)
        #expect(result.code == 2, "\(command): \(result.code) \(result.stderr)")
        for text in state.messages {
          #expect(
            (result.stdout + result.stderr).contains(text),
            "\(command): \(result.stdout)\(result.stderr)")
        }
      }
      if case .rolledBack = state {
        #expect(try await Self.lethe(["migrate", "up"], database, file).code == 0)
        #expect(try await Self.lethe(["status"], database, file).code == 0)
      }
    }
  }

  /// `LedgerSchema` must name every table, view, function and enum type that a migration adds, and the privileges that
  /// roles need on the tables and views.
  @Test func ledgerSchemaNamesTheObjectsThatTheMigrationsCreate() async throws {
    let names = try FileManager.default.contentsOfDirectory(
      atPath: repositoryRootPath + "/migrations")
    let files = names.filter { $0.hasSuffix(".sql") }.sorted()
    #expect(LedgerSchema.versions.map(\.version) == files.map { String($0.prefix(14)) })
    for file in files where file >= LedgerSchema.recordedSince {
      let version = file.prefix(14)
      let text = try String(
        contentsOfFile: "\(repositoryRootPath)/migrations/\(file)", encoding: .utf8)
      #expect(text.contains("INSERT INTO lethe.version (version) VALUES ('\(version)')"), "\(file)")
    }
    try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection in
        let created = try await connection.query(
          """
          SELECT c.relname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
          WHERE n.nspname = 'lethe' AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
          UNION SELECT p.proname || '()' FROM pg_proc AS p WHERE p.pronamespace = 'lethe'::regnamespace
          UNION SELECT 'TYPE ' || t.typname FROM pg_type AS t
          WHERE t.typnamespace = 'lethe'::regnamespace AND t.typtype = 'e'
          """
        ).rows(as: String.self)
        let known = LedgerSchema.versions.flatMap(\.objects)
        #expect(Set(created).subtracting(known) == [])
        let objects = known.filter { !$0.contains(".") && !$0.hasPrefix("without ") }
        #expect(Set(objects).subtracting(created) == [])
        let granted = try await LedgerSchema.privileges(on: connection).map { "\($0.object)" }
        for table in created where !table.hasSuffix("()") && !table.hasPrefix("TYPE ") {
          #expect(granted.contains { $0.contains("\"\(table)\"") }, "\(table)")
        }
      }
    }
  }

  /// Two processes apply the first batches of a month at the same time.
  @Test func twoSessionsCreateTheSamePartitionOnce() async throws {
    try await withTestDatabase(.ledger) { database in
      let ensure: SQL = "SELECT lethe.ensure_event_partitions(now() + interval '10 years')"
      try await database.withConnection { first in
        try await database.withConnection { second in
          let waiting = try await second.backend()
          let hasEnded = Flag()
          let other = try await first.withTransaction { transaction in
            _ = try await transaction.query(ensure)
            let other = Task {
              defer { hasEnded.set() }
              _ = try await second.query(ensure)
            }
            let waits = try await database.withConnection { observer in
              try await observer.wait(for: waiting, orFor: hasEnded)
            }
            #expect(waits)
            return other
          }
          try await other.value
        }
      }
    }
  }
}
