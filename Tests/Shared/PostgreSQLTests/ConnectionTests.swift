import Foundation
import PostgreSQL
import TestSupport
import Testing

@Suite struct ConnectionTests {
  @Test func theSessionUsesUTF8AndISOAndUTC() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await connection.runScript(
          """
          ALTER DATABASE \(identifier: database.name) SET TimeZone = 'Asia/Kathmandu';
          ALTER DATABASE \(identifier: database.name) SET DateStyle = 'German, DMY';
          ALTER DATABASE \(identifier: database.name) SET IntervalStyle = 'iso_8601';
          ALTER DATABASE \(identifier: database.name) SET client_encoding = 'LATIN1';
          """)
      }
      // The settings of the database and of the connection string do not change the formats.
      for query in ["", "?client_encoding=LATIN1", "?options=-c%20TimeZone%3DAsia/Tokyo"] {
        try await Connection.withConnection(ConnectionString(database.url + query)) { connection in
          let row = try await connection.query(
            """
            SELECT timestamptz '2021-08-11 19:42:55+00' AS time, interval '1 day 2 hours' AS length,
                   'é😀' AS text, current_setting('TimeZone') AS zone,
                   current_setting('client_encoding') AS encoding
            """
          ).onlyRow()
          #expect(try row["time"] == "2021-08-11 19:42:55+00")
          #expect(try row["length"] == "1 day 02:00:00")
          #expect(try row["text"] == "é😀")
          #expect(try row["zone"] == "UTC")
          #expect(try row["encoding"] == "UTF8")
        }
      }
    }
  }

  @Test func theApplicationNameInTheConnectionStringHasPriority() async throws {
    try await withTestDatabase { database in
      for (query, given, shown) in [
        ("", nil, "lethe"), ("", "demo", "demo"), ("?application_name=own", "demo", "own"),
      ] as [(String, String?, String)] {
        let string = ConnectionString(database.url + query)
        let connection =
          if let given {
            try await Connection.connect(string, applicationName: given)
          } else {
            try await Connection.connect(string)
          }
        let name = try await connection.query("SELECT current_setting('application_name')")
          .onlyRow(as: String.self)
        #expect(name == shown)
        await connection.close()
      }
    }
  }

  @Test func aPlainNameIsTheNameOfADatabase() async throws {
    try await withTestDatabase { database in
      for string in [database.name, "dbname=\(database.name)", "dbname = '\(database.name)'"] {
        try await Connection.withConnection(ConnectionString(string)) { connection in
          let name = try await connection.query("SELECT current_database()").onlyRow(
            as: String.self)
          #expect(name == database.name)
        }
      }
    }
  }

  @Test func aClosedConnectionThrowsConnectionLost() async throws {
    try await withTestDatabase { database in
      let connection = try await Connection.connect(database.connectionString)
      #expect(await connection.serverVersion >= 130_000)
      await connection.close()
      await connection.close()
      for attempt in [
        { @Sendable in _ = try await connection.query("SELECT 1") },
        { @Sendable in try await connection.runScript("SELECT 1") },
        { @Sendable in try await connection.withTransaction { _ in } },
        { @Sendable in try await connection.withCopyIn("COPY t FROM STDIN") { _ in } },
      ] {
        await #expect {
          try await attempt()
        } throws: {
          ($0 as? PostgreSQLError)?.code == .connectionLost
        }
      }
    }
  }

  @Test func aConnectionEndsWithItsScopeAndWithItsLastReference() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { observer in
        func expectGone(_ process: Int64) async throws {
          // Wait until the server has ended the process.
          while try await observer.query(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = \(process)"
          ).onlyRow(as: Int.self) > 0 { try await pollingPause() }
        }
        struct Stop: Error {}
        let (processes, report) = AsyncStream.makeStream(of: Int64.self)
        await #expect(throws: Stop.self) {
          try await database.withConnection { connection in
            report.yield(
              try await connection.query("SELECT pg_backend_pid()").onlyRow(as: Int64.self))
            throw Stop()
          }
        }
        report.yield(
          try await Connection.connect(database.connectionString).query("SELECT pg_backend_pid()")
            .onlyRow(as: Int64.self))
        report.finish()
        for await process in processes { try await expectGone(process) }
      }
    }
  }

  /// All connections wait in libpq for a lock. The lock is released only when all of them wait. If the connections
  /// blocked the cooperative pool, the release would never run.
  @Test func waitingConnectionsDoNotBlockTheCooperativePool() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { holder in
        _ = try await holder.query("SELECT pg_advisory_lock(1)")
        try await withThrowingTaskGroup(of: Void.self) { group in
          for _ in 1...8 {
            group.addTask {
              try await database.withConnection { connection in
                _ = try await connection.query("SELECT pg_advisory_lock_shared(1)")
              }
            }
          }
          while try await holder.query(
            """
            SELECT count(*) FROM pg_locks
            WHERE locktype = 'advisory' AND NOT granted
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            """
          ).onlyRow(as: Int.self) < 8 { try await pollingPause() }
          _ = try await holder.query("SELECT pg_advisory_unlock(1)")
          try await group.waitForAll()
        }
      }
    }
  }

  // MARK: Secrets

  private static func failure(_ string: String) async -> (any Error)? {
    do {
      await (try Connection.connect(ConnectionString(string))).close()
      return nil
    } catch {
      return error
    }
  }

  private static func everyDescription(of error: any Error) -> [String] {
    var dumped = ""
    dump(error, to: &dumped)
    return ["\(error)", String(reflecting: error), dumped, error.localizedDescription]
  }

  private static let unreachable = [
    "postgresql://user:hunter2@127.0.0.1:1/db", "host=127.0.0.1 port=1 password=hunter2 user=u",
    "postgresql://user:hunter2@/db?host=/nowhere/at/all", "host=/nowhere/at/all password=hunter2",
    // Unusual, but valid for libpq.
    "postgresql://user:hunter2#x@localhost/db", "postgresql://u:1?hunter2=x@h/db",
  ]

  /// libpq would quote the malformed part in its message.
  private static let malformed = [
    "postgresql://user:hunter2@127.0.0.1:hunter2/db",
    "postgresql://user:hun%zzhunter2@localhost/db",
    "postgresql://user:pass/hunter2@localhost/db", "postgresql://user:pass@hunter2@localhost/db",
    "postgresql://user:hunter2/x@localhost:1/db", "postgresql://user:hunter2@[::1/db",
    "postgresql://user:hunter2@[::1]x/db", "postgresql://u@h/db?password=hunter2&hunter2=x",
    "host=localhost password=two hunter2", "password='hunter2",
    "host=localhost hunter2=x", "=hunter2", "host=localhost port=hunter2",
    "host=/tmp password=hunter2\0",
  ]

  @Test(arguments: unreachable + malformed)
  func noErrorShowsThePassword(string: String) async throws {
    let error = try #require(await Self.failure(string))
    let failure = try #require(error as? PostgreSQLError)
    let isMalformed = Self.malformed.contains(string)
    #expect(failure.code == (isMalformed ? .malformedConnectionString : .connectionFailed))
    #expect(failure.isTemporary == !isMalformed)
    #expect(failure.hint?.isEmpty == false)
    for text in Self.everyDescription(of: error) {
      #expect(!text.contains("hunter2"))
    }
  }

  @Test func theErrorNamesTheReasonOfARefusedConnection() async throws {
    let error = try #require(
      await Self.failure("host=127.0.0.1 port=1 user=u dbname=d") as? PostgreSQLError)
    #expect(error.message.hasPrefix("cannot connect to PostgreSQL: "))
    #expect(error.message.contains("refused"))
    #expect(!error.message.contains("\n"))
  }

  @Test func theErrorNamesAMissingDatabase() async throws {
    try await withTestDatabase { database in
      let url = database.url + "%5Fof%5Fnobody"
      let error = try #require(await Self.failure(url) as? PostgreSQLError)
      #expect(error.message.contains("\(database.name)_of_nobody"))
      #expect(error.message.contains("does not exist"))
    }
  }

  @Test func noDescriptionOfAConnectionContainsThePassword() async throws {
    try await withTestDatabase { database in
      let url = database.url.replacing("@", with: ":hunter2@")
      let string = ConnectionString(url)
      let connection = try await Connection.connect(string)
      var texts = ["\(string)", String(reflecting: string), "\(connection)", "\([string])"]
      var dumped = ""
      dump(string, to: &dumped)
      dump(connection, to: &dumped)
      dump((string, Optional(string)), to: &dumped)
      texts += [dumped, String(reflecting: connection)]
      do {
        _ = try await connection.query("SELECT nothing")
        Issue.record("no error was thrown")
      } catch {
        texts += Self.everyDescription(of: error)
      }
      for text in texts { #expect(!text.contains("hunter2")) }
      #expect(string == ConnectionString(url))
      await connection.close()
    }
  }
}
