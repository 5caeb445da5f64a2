import Definitions
import PostgreSQL
import TestSupport
import Testing

@testable import Ledger

/// Batches over the same rows wait for each other, however the tables are named.
@Suite struct RowLockTests {
  private static let tables: SQL = """
    CREATE SCHEMA shop;
    CREATE TABLE shop.posts (id bigint) PARTITION BY RANGE (id);
    CREATE TABLE shop.early PARTITION OF shop.posts FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id);
    CREATE TABLE shop.first PARTITION OF shop.early FOR VALUES FROM (0) TO (50);
    CREATE TABLE shop.late PARTITION OF shop.posts FOR VALUES FROM (100) TO (200);
    CREATE TABLE shop.base (id bigint);
    CREATE TABLE shop.child () INHERITS (shop.base);
    CREATE TABLE shop.users (id bigint);
    CREATE TABLE shop."Users" (id bigint);
    CREATE TABLE shop."my-table" (id bigint)
    """

  struct Pair: Sendable, CustomTestStringConvertible {
    let one: [String]
    let other: [String]
    let isShared: Bool

    init(_ one: String..., and other: String..., areShared: Bool) {
      (self.one, self.other, isShared) = (one, other, areShared)
    }

    var testDescription: String { "\(one) and \(other)" }
  }

  /// Names as definitions and holds have them.
  static let pairs = [
    Pair("shop.users", and: "shop.users", areShared: true),
    Pair("shop.users", and: "users", areShared: true),
    Pair("shop.posts", and: "shop.first", areShared: true),
    Pair("shop.early", and: "shop.first", areShared: true),
    Pair("shop.late", and: "shop.first", areShared: true),
    Pair("shop.base", and: "shop.child", areShared: true),
    Pair("shop.Users", and: #"shop."Users""#, areShared: true),
    Pair("shop.my-table", and: #"shop."my-table""#, areShared: true),
    Pair("shop.users", "shop.posts", and: "shop.base", "shop.late", areShared: true),
    Pair("shop.users", and: "shop.Users", areShared: false),
    Pair("shop.users", and: "shop.posts", areShared: false),
    Pair("shop.users", and: "shop.missing", areShared: false),
    Pair("shop.missing", and: "shop.missing", areShared: false),
  ]

  private static func take(
    _ names: [String], on transaction: Transaction, _ timeouts: SessionTimeouts
  ) async throws {
    try await RowLock.take(
      try names.map { try #require(TableName($0), "\($0)") }, on: transaction, timeouts)
  }

  @Test(arguments: pairs)
  func transactionsOverTheSameRowsWait(pair: Pair) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { try await $0.runScript(Self.tables) }
      // The waiting transaction must wait longer than its statements may take.
      let timeouts = SessionTimeouts(statementSeconds: 0.05, lockSeconds: 0.05)
      try await database.withConnection { first in
        let url = ConnectionString(database.url, timeouts: timeouts)
        try await Connection.withConnection(url) { second in
          try await second.execute("SET search_path = shop")
          let waiting = try await second.backend()
          let hasEnded = Flag()
          let other = try await first.withTransaction { transaction in
            try await Self.take(pair.one, on: transaction, SessionTimeouts())
            let other = Task {
              defer { hasEnded.set() }
              return try await second.withTransaction { transaction in
                try await Self.take(pair.other, on: transaction, timeouts)
                return try await transaction.query(
                  "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
                ).onlyRow(as: String.self, String.self)
              }
            }
            let waits = try await database.withConnection { observer in
              let waits = try await observer.wait(for: waiting, orFor: hasEnded)
              if waits { try await Self.waitBeyondTheTimeouts(of: waiting, observer) }
              return waits
            }
            #expect(waits == pair.isShared)
            return other
          }
          #expect(try await other.value == ("50ms", "50ms"))
        }
      }
    }
  }

  private static func waitBeyondTheTimeouts(
    of backend: Int, _ observer: Connection
  ) async throws {
    while try await observer.query(
      """
      SELECT clock_timestamp() < query_start + interval '200 ms' FROM pg_stat_activity
      WHERE pid = \(backend)::integer
      """
    ).onlyRow(as: Bool.self) { try await pollingPause() }
  }

  /// Two transactions name the same tables in different orders.
  @Test func transactionsDoNotWaitForEachOther() async throws {
    try await withTestDatabase { database in
      try await database.withConnection { try await $0.runScript(Self.tables) }
      let names = ["shop.users", "shop.posts", "shop.base", "shop.my-table", "shop.Users"]
      try await withThrowingTaskGroup { group in
        for order in [names, names.reversed()] {
          group.addTask {
            try await database.withConnection { connection in
              for _ in 1...200 {
                try await connection.withTransaction {
                  try await Self.take(order, on: $0, SessionTimeouts())
                }
              }
            }
          }
        }
        try await group.waitForAll()
      }
    }
  }
}
