import PostgreSQL
import TestSupport
import Testing

@Suite struct CancellationTests {
  /// Opens two connections to the same database. A test cancels work on one connection and observes it on the other.
  private static func withConnections(
    _ body: @Sendable (Watched, Connection) async throws -> Void
  ) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        let process = try await connection.query("SELECT pg_backend_pid()").onlyRow(as: Int64.self)
        try await database.withConnection { observer in
          try await body(
            Watched(connection: connection, process: process, observer: observer), observer)
        }
      }
    }
  }

  private struct Watched: Sendable {
    let connection: Connection
    let process: Int64
    let observer: Connection

    /// Polls the server until the condition is true for the connection's process.
    func wait(for condition: String) async throws {
      while try await observer.query(
        "SELECT count(*) FROM pg_stat_activity WHERE pid = \(process) AND \(trusted: condition)"
      ).onlyRow(as: Int.self) == 0 { try await pollingPause() }
    }

    func state() async throws -> String {
      try await observer.query(
        "SELECT state FROM pg_stat_activity WHERE pid = \(process)"
      ).onlyRow(as: String.self)
    }
  }

  private static let isSleeping = "state = 'active' AND wait_event = 'PgSleep'"

  @Test func cancellingTheTaskCancelsTheStatementOnTheServer() async throws {
    try await Self.withConnections { watched, _ throws in
      let sleeper = Task { try await watched.connection.query("SELECT pg_sleep(600)").count }
      try await watched.wait(for: Self.isSleeping)
      sleeper.cancel()
      await #expect(throws: CancellationError.self) { try await sleeper.value }
      #expect(try await watched.state() == "idle")
      #expect(try await watched.connection.query("SELECT 2").onlyRow(as: Int.self) == 2)
    }
  }

  @Test func cancellingTheTaskCancelsAScriptAndATransaction() async throws {
    try await Self.withConnections { watched, observer throws in
      try await observer.runScript("CREATE TABLE t (x int)")
      let script = Task {
        try await watched.connection.runScript("INSERT INTO t VALUES (1); SELECT pg_sleep(600)")
      }
      try await watched.wait(for: Self.isSleeping)
      script.cancel()
      await #expect(throws: CancellationError.self) { try await script.value }

      let transaction = Task {
        try await watched.connection.withTransaction { transaction in
          try await transaction.execute("INSERT INTO t VALUES (1)")
          _ = try await transaction.query("SELECT pg_sleep(600)")
        }
      }
      try await watched.wait(for: Self.isSleeping)
      transaction.cancel()
      await #expect(throws: CancellationError.self) { try await transaction.value }
      #expect(try await watched.state() == "idle")
      let rows = try await watched.connection.query("SELECT count(*) FROM t").onlyRow(as: Int.self)
      #expect(rows == 0)
    }
  }

  /// The first query sends more rows than the buffers can hold, so the server waits for the reader. The second query
  /// sleeps, so the reader waits for the server.
  @Test(arguments: [
    "SELECT generate_series(1, 100000000000)",
    "SELECT n, CASE WHEN n = 100000 THEN pg_sleep(600) END FROM generate_series(1, 200000) AS n",
  ])
  func cancellingTheTaskCancelsACopyOut(select: String) async throws {
    try await Self.withConnections { watched, _ throws in
      let gate = TestGate<String>()
      let reader = Task {
        try await watched.connection.withCopyOut("COPY (\(trusted: select)) TO STDOUT") { rows in
          for try await _ in rows { await gate.pass("a block") }
        }
      }
      try await gate.reached { $0 == "a block" }
      reader.cancel()
      await #expect(throws: CancellationError.self) { try await reader.value }
      #expect(try await watched.state() == "idle")
      #expect(try await watched.connection.query("SELECT 2").onlyRow(as: Int.self) == 2)
    }
  }

  @Test func cancellingTheTaskCancelsACopyInThatWaitsInATrigger() async throws {
    try await Self.withConnections { watched, observer throws in
      try await observer.runScript(
        """
        CREATE TABLE t (x int);
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF NEW.x = 5 THEN PERFORM pg_sleep(600); END IF;
          RETURN NEW;
        END $$;
        CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION slow();
        """)
      let writer = Task {
        try await watched.connection.withCopyIn("COPY t FROM STDIN") { copy in
          for row in 1...10 { try await copy.write(Array("\(row)\n".utf8)) }
        }
      }
      try await watched.wait(for: Self.isSleeping)
      writer.cancel()
      await #expect(throws: CancellationError.self) { try await writer.value }
      #expect(try await watched.state() == "idle")
      let rows = try await watched.connection.query("SELECT count(*) FROM t").onlyRow(as: Int.self)
      #expect(rows == 0)
    }
  }

  @Test func aTaskThatIsCancelledBeforeItsStatementSendsNothing() async throws {
    try await Self.withConnections { watched, observer throws in
      try await observer.runScript("CREATE TABLE t (x int)")
      let gate = TestGate<Int>()
      gate.hold { _ in true }
      let task = Task {
        await gate.pass(1)
        try await watched.connection.execute("INSERT INTO t VALUES (1)")
      }
      try await gate.reached { $0 == 1 }
      task.cancel()
      await #expect(throws: CancellationError.self) { try await task.value }
      let rows = try await observer.query("SELECT count(*) FROM t").onlyRow(as: Int.self)
      #expect(rows == 0)
    }
  }

  /// A cancel request that arrives before its statement begins must not be lost. A late request must not cancel the
  /// next statement.
  @Test(arguments: [1, 2] as [UInt64])
  func aCancelRequestNeverCancelsTheNextStatement(seed: UInt64) async throws {
    try await Self.withConnections { watched, _ throws in
      var random = SeededGenerator(seed: seed)
      var cancelled = 0
      for round in 0..<150 {
        let seconds = ["600", "0", "0.0005"][round % 3]
        let task = Task {
          _ = try await watched.connection.query("SELECT pg_sleep(\(seconds)::float8)")
        }
        // Some rounds cancel immediately, some a little later, and some while the statement ends.
        for _ in 0..<Int.random(in: 0...40, using: &random) { await Task.yield() }
        task.cancel()
        do {
          try await task.value
          #expect(seconds != "600", "round \(round), seed \(seed)")
        } catch is CancellationError {
          cancelled += 1
        }
        for number in 0..<3 {
          let value = try await watched.connection.query("SELECT \(number)::int")
            .onlyRow(as: Int.self)
          #expect(value == number, "round \(round), seed \(seed)")
        }
      }
      #expect(cancelled >= 50)
    }
  }

  // MARK: Other errors

  @Test func aStatementTimeoutIsAServerError() async throws {
    try await Self.withConnections { watched, _ throws in
      try await watched.connection.runScript("SET statement_timeout = 20")
      do {
        _ = try await watched.connection.query("SELECT pg_sleep(600)")
        Issue.record("the statement succeeded")
      } catch let error as PostgreSQLError {
        #expect(error.state == .queryCanceled)
        #expect(error.message.contains("statement timeout"))
      }
      #expect(try await watched.connection.query("SELECT 2").onlyRow(as: Int.self) == 2)
    }
  }

  @Test func aCancellationByAnotherSessionIsAServerError() async throws {
    try await Self.withConnections { watched, observer throws in
      let sleeper = Task { try await watched.connection.query("SELECT pg_sleep(600)").count }
      try await watched.wait(for: Self.isSleeping)
      _ = try await observer.query("SELECT pg_cancel_backend(\(watched.process)::int)")
      do {
        _ = try await sleeper.value
        Issue.record("the statement succeeded")
      } catch let error as PostgreSQLError {
        #expect(error.state == .queryCanceled)
      }
    }
  }

  @Test func aTerminatedSessionIsALostConnection() async throws {
    try await Self.withConnections { watched, observer throws in
      let sleeper = Task { try await watched.connection.query("SELECT pg_sleep(600)").count }
      try await watched.wait(for: Self.isSleeping)
      _ = try await observer.query(
        "SELECT pg_terminate_backend(\(watched.process)::int)")
      for attempt in 0..<3 {
        do {
          if attempt == 0 {
            _ = try await sleeper.value
          } else if attempt == 1 {
            try await watched.connection.runScript("SELECT 1")
          } else {
            try await watched.connection.withTransaction { _ in }
          }
          Issue.record("attempt \(attempt) succeeded")
        } catch let error as PostgreSQLError {
          #expect(error.code == .connectionLost, "attempt \(attempt): \(error)")
          #expect(error.isTemporary)
        }
      }
    }
  }

  @Test func aSessionThatEndsInAScriptOrACommitIsALostConnection() async throws {
    for attempt in 0..<2 {
      try await Self.withConnections { watched, _ throws in
        do {
          if attempt == 0 {
            try await watched.connection.runScript(
              "SELECT 1; SELECT pg_terminate_backend(pg_backend_pid()); SELECT 2")
          } else {
            try await watched.connection.withTransaction { transaction in
              _ = try await transaction.query("SELECT 1")
              _ = try await watched.observer.query(
                "SELECT pg_terminate_backend(\(watched.process)::int, 10000)")
            }
          }
          Issue.record("attempt \(attempt) succeeded")
        } catch let error as PostgreSQLError {
          #expect(error.code == .connectionLost, "attempt \(attempt): \(error)")
        }
      }
    }
  }
}
