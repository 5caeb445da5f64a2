import PostgreSQL
import TestSupport
import Testing

@Suite struct TransactionTests {
  private struct Stop: Error {}

  private static func withTable(
    _ body: @Sendable (Connection, TestDatabase) async throws -> Void
  ) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await connection.runScript("CREATE TABLE t (x int PRIMARY KEY)")
        try await body(connection, database)
      }
    }
  }

  private static func count(_ session: some Session) async throws -> Int {
    try await session.query("SELECT count(*) FROM t").onlyRow(as: Int.self)
  }

  @Test func aTransactionIsCommittedWhenItsBodyReturns() async throws {
    try await Self.withTable { connection, database throws in
      let value = try await connection.withTransaction { transaction in
        try await transaction.execute("INSERT INTO t VALUES (1)")
        // Other sessions do not see the row yet.
        let others = try await database.withConnection { try await Self.count($0) }
        #expect(others == 0)
        return "value"
      }
      #expect(value == "value")
      let others = try await database.withConnection { try await Self.count($0) }
      #expect(others == 1)
    }
  }

  @Test func aTransactionIsRolledBackWhenItsBodyThrows() async throws {
    try await Self.withTable { connection, _ throws in
      await #expect(throws: Stop.self) {
        try await connection.withTransaction { transaction in
          try await transaction.execute("INSERT INTO t VALUES (1)")
          throw Stop()
        }
      }
      #expect(try await Self.count(connection) == 0)
      try await connection.withTransaction { _ = try await $0.execute("INSERT INTO t VALUES (1)") }
      #expect(try await Self.count(connection) == 1)
    }
  }

  @Test func aFailedStatementRollsBackTheTransaction() async throws {
    try await Self.withTable { connection, _ throws in
      do {
        try await connection.withTransaction { transaction in
          try await transaction.execute("INSERT INTO t VALUES (1)")
          try await transaction.execute("INSERT INTO t VALUES (1)")
        }
        Issue.record("the transaction was committed")
      } catch let error as PostgreSQLError {
        #expect(error.state == .uniqueViolation)
      }
      #expect(try await Self.count(connection) == 0)
    }
  }

  @Test func aTransactionWithAnIgnoredErrorIsNotCommitted() async throws {
    try await Self.withTable { connection, _ throws in
      do {
        try await connection.withTransaction { transaction in
          try await transaction.execute("INSERT INTO t VALUES (1)")
          _ = try? await transaction.query("SELECT 1 / 0")
        }
        Issue.record("no error was thrown")
      } catch let error as PostgreSQLError {
        #expect(error.code == .notCommitted)
        #expect(!error.isTemporary)
      }
      #expect(try await Self.count(connection) == 0)
      try await connection.withTransaction { _ = try await $0.execute("INSERT INTO t VALUES (1)") }
    }
  }

  @Test func anErrorAtCommitIsAServerError() async throws {
    try await Self.withTable { connection, _ throws in
      try await connection.runScript(
        "CREATE TABLE c (x int REFERENCES t DEFERRABLE INITIALLY DEFERRED)")
      do {
        try await connection.withTransaction {
          _ = try await $0.execute("INSERT INTO c VALUES (5)")
        }
        Issue.record("the transaction was committed")
      } catch let error as PostgreSQLError {
        #expect(error.state == .foreignKeyViolation)
        #expect(error.statement == "COMMIT")
      }
      try await connection.withTransaction { _ = try await $0.execute("INSERT INTO t VALUES (5)") }
    }
  }

  /// A transaction can begin just after another transaction on the connection has failed at COMMIT. The rollback of the
  /// failed transaction must not roll back the new one.
  @Test func aFailedCommitDoesNotRollBackTheNextTransaction() async throws {
    try await Self.withTable { connection, _ throws in
      let committed = try await withThrowingTaskGroup(of: [Int].self) { group in
        for worker in 0..<8 {
          group.addTask {
            var committed: [Int] = []
            for round in 0..<40 {
              let number = worker * 1000 + round
              do {
                try await connection.withTransaction { transaction in
                  try await transaction.execute(
                    "INSERT INTO t VALUES (\(number))")
                  if number.isMultiple(of: 2) { _ = try? await transaction.query("SELECT 1 / 0") }
                }
                committed.append(number)
              } catch let error as PostgreSQLError
                where [.busy, .notCommitted].contains(error.code)
              {}
            }
            return committed
          }
        }
        return try await group.reduce(into: []) { $0 += $1 }
      }
      let rows = try await connection.query("SELECT x FROM t ORDER BY x").rows(as: Int.self)
      #expect(rows == committed.sorted())
      #expect(!rows.isEmpty)
    }
  }

  @Test func otherUsesDuringATransactionThrowBusy() async throws {
    try await Self.withTable { connection, _ throws in
      try await connection.withTransaction { transaction in
        let attempts: [@Sendable () async throws -> Void] = [
          { _ = try await connection.query("SELECT 1") },
          { try await connection.runScript("SELECT 1") },
          { try await connection.withTransaction { _ in } },
          { try await connection.withCopyOut("COPY t TO STDOUT") { _ in } },
          { try await connection.withCopyIn("COPY t FROM STDIN") { _ in } },
        ]
        for (index, attempt) in attempts.enumerated() {
          do {
            try await attempt()
            Issue.record("attempt \(index) was not refused")
          } catch let error as PostgreSQLError {
            #expect(error.code == .busy)
            #expect(error.hint?.isEmpty == false)
          }
        }
        // The transaction still works.
        try await transaction.execute("INSERT INTO t VALUES (1)")
      }
      #expect(try await Self.count(connection) == 1)
    }
  }

  @Test func aFinishedTransactionCannotBeUsed() async throws {
    try await Self.withTable { connection, _ throws in
      let old = try await connection.withTransaction { $0 }
      func expectBusy() async {
        for attempt in [
          { @Sendable in _ = try await old.query("DELETE FROM t") },
          { @Sendable in try await old.runScript("DELETE FROM t") },
          { @Sendable in _ = try await old.beginCopyIn("COPY t FROM STDIN") },
        ] {
          await #expect {
            try await attempt()
          } throws: {
            ($0 as? PostgreSQLError)?.code == .busy
          }
        }
      }
      await expectBusy()
      try await connection.withTransaction { transaction in
        try await transaction.execute("INSERT INTO t VALUES (1)")
        await expectBusy()
      }
      #expect(try await Self.count(connection) == 1)
    }
  }

  @Test(arguments: [
    (Connection.Isolation.readCommitted, false, "read committed", "off"),
    (.repeatableRead, true, "repeatable read", "on"), (.serializable, false, "serializable", "off"),
  ])
  func theIsolationLevelAndTheAccessModeAreSet(
    level: Connection.Isolation, readOnly: Bool, name: String, flag: String
  ) async throws {
    try await Self.withTable { connection, _ throws in
      let shown = try await connection.withTransaction(isolationLevel: level, readOnly: readOnly) {
        try await $0.query(
          """
          SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')
          """
        ).onlyRow(as: String.self, String.self)
      }
      #expect(shown == (name, flag))
    }
  }

  @Test func aCancelledTransactionIsRolledBackEvenIfItsBodyReturns() async throws {
    try await Self.withTable { connection, _ throws in
      let gate = TestGate<Int>()
      gate.hold { $0 == 1 }
      let task = Task {
        try await connection.withTransaction { transaction in
          try await transaction.execute("INSERT INTO t VALUES (1)")
          await gate.pass(1)
        }
      }
      try await gate.reached { $0 == 1 }
      task.cancel()
      await #expect(throws: CancellationError.self) { try await task.value }
      #expect(try await Self.count(connection) == 0)
    }
  }

  @Test func aCopyLeftOpenEndsWithItsTransaction() async throws {
    try await Self.withTable { connection, _ throws in
      await #expect(throws: Stop.self) {
        try await connection.withTransaction { transaction in
          let copy = try await transaction.beginCopyIn("COPY t FROM STDIN")
          try await copy.write(Array("1\n2\n".utf8))
          throw Stop()
        }
      }
      #expect(try await Self.count(connection) == 0)
    }
  }

  /// Only other refusals of changes are taken for those of a standby.
  @Test func aChangeInAReadOnlyTransactionIsRefusedAndKeepsTheSession() async throws {
    try await withTestDatabase { database in
      let connection = try await Connection.connect(
        database.connectionString, renewedAfter: .seconds(3600))
      try await connection.execute("CREATE TABLE t (a integer)")
      let error = await #expect(throws: PostgreSQLError.self) {
        try await connection.withTransaction(readOnly: true) {
          try await $0.execute("INSERT INTO t VALUES (1)")
        }
      }
      #expect(error?.state == .readOnlyTransaction)
      #expect(error?.isOnStandby == false && error?.isTemporary == false)
      try await connection.execute("INSERT INTO t VALUES (1)")
      #expect(await connection.sessions == 1)
      // A session with another setting stands for one of a standby.
      try await connection.execute("SET default_transaction_read_only = on")
      let refused = await #expect(throws: PostgreSQLError.self) {
        try await connection.execute("INSERT INTO t VALUES (1)")
      }
      #expect(refused?.isOnStandby == true && refused?.isLossOfSession == true)
      try await connection.execute("INSERT INTO t VALUES (1)")
      #expect(await connection.sessions == 2)
      await connection.close()
    }
  }
}
