import Foundation
import Ledger
import PostgreSQL
import Synchronization
import TestSupport
import Testing

/// Counts the workers that have a lease.
private final class Tally: Sendable {
  private let counts = Mutex((holders: 0, claims: 0))

  var claims: Int { counts.withLock { $0.claims } }

  /// - Returns: the number of holders.
  func enter() -> Int {
    counts.withLock {
      $0.holders += 1
      $0.claims += 1
      return $0.holders
    }
  }

  func leave() { counts.withLock { $0.holders -= 1 } }
}

/// Leases of several workers in one ledger.
@Suite(.endedIfItHangs) struct WorkerLedgerTests {
  private static let resource = Resource.chunk(1)

  private static func process(_ processID: Int32 = 1) -> ProcessIdentity {
    ProcessIdentity(
      host: "elsewhere", processID: processID, bootID: "other", pidNamespace: "other", start: 1)
  }

  private static func withLedger(
    _ body: @escaping @Sendable (TestDatabase) async throws -> Void
  ) async throws {
    try await withTestDatabase(.ledger) { try await body($0) }
  }

  private static func expire(_ worker: WorkerLedger, in database: TestDatabase) async throws {
    try await database.withConnection {
      try await $0.executeOne(
        """
        UPDATE lethe.worker
        SET renewed_at = renewed_at - interval '1 day', expires_at = clock_timestamp() - interval '1 second'
        WHERE lease = \(worker.lease.token)::uuid
        """)
    }
  }

  /// Several workers repeatedly claim and release the same lease. At any time, at most one has it, and no call fails.
  @Test func onlyOneOfManyWorkersHasTheLease() async throws {
    try await Self.withLedger { database in
      let tally = Tally()
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in Int32(1)...8 {
          group.addTask {
            let connection = try await Connection.connect(database.connectionString)
            for _ in 1...60 {
              let worker = WorkerLedger(lease: Lease(), seconds: 3600)
              try await worker.begin("test", Self.process(number), on: connection)
              let claim = try await worker.claim(Self.resource, on: connection) { _ in false }
              if claim == .mine {
                #expect(tally.enter() == 1)
                await Task.yield()
                tally.leave()
              }
              try await worker.end(on: connection)
            }
            await connection.close()
          }
        }
        try await group.waitForAll()
      }
      #expect(tally.claims > 0)
      let left = try await database.withConnection {
        try await $0.query("SELECT count(*) FROM lethe.worker").onlyRow(as: Int.self)
      }
      #expect(left == 0)
    }
  }

  /// Several workers find the same expired lease. One of them takes it over.
  @Test func onlyOneWorkerTakesOverAnExpiredLease() async throws {
    try await Self.withLedger { database in
      for _ in 1...20 {
        let former = WorkerLedger(lease: Lease(), seconds: 3600)
        try await database.withConnection {
          try await former.begin("former", Self.process(), on: $0)
          #expect(try await former.claim(Self.resource, on: $0) { _ in false } == .mine)
        }
        try await Self.expire(former, in: database)
        let workers = (1...4).map { _ in WorkerLedger(lease: Lease(), seconds: 3600) }
        let claims = try await withThrowingTaskGroup(of: WorkerLedger.Claim.self) { group in
          for worker in workers {
            group.addTask {
              try await database.withConnection {
                try await worker.begin("next", Self.process(), on: $0)
                return try await worker.claim(Self.resource, on: $0) { _ in false }
              }
            }
          }
          return try await group.reduce(into: []) { $0.append($1) }
        }
        let takenOver = claims.count { if case .takenOver = $0 { true } else { false } }
        let held = claims.count { if case .held = $0 { true } else { false } }
        #expect(takenOver == 1 && held == 3, "\(claims)")
        try await database.withConnection { connection in
          for worker in workers { try await worker.end(on: connection) }
        }
      }
    }
  }

  /// A worker that works on a pipeline stays until another worker takes over from it.
  @Test func theRowOfAWorkerThatWasKilledBeforeItHadAPipelineIsDeleted() async throws {
    try await Self.withLedger { database in
      let workers = (1...4).map { _ in WorkerLedger(lease: Lease(), seconds: 60) }
      let left = try await database.withConnection { connection in
        for worker in workers.dropLast() {
          try await worker.begin("test", Self.process(), on: connection)
        }
        #expect(
          try await workers[1].enter("p", as: .first, on: connection) { _ in false }
            == .started(former: []))
        for worker in workers.prefix(2) {
          try await connection.executeOne(
            """
            UPDATE lethe.worker
            SET renewed_at = renewed_at - interval '3 days', expires_at = expires_at - interval '2 days'
            WHERE lease = \(worker.lease.token)::uuid
            """)
        }
        try await workers[3].begin("test", Self.process(), on: connection)
        return try await connection.query("SELECT lease FROM lethe.worker").rows(as: String.self)
      }
      #expect(Set(left) == Set(workers.dropFirst().map(\.lease.token)))
    }
  }

  /// - Parameter hasRole: whether the sessions use another role than the one that connected. Then PostgreSQL hides most
  ///   facts about them.
  @Test(arguments: [false, true])
  func theSessionsOfTheFormerWorkerAreTerminated(hasRole: Bool) async throws {
    try await Self.withLedger { database in
      let role = database.name + "_worker"
      try await database.withConnection {
        try await $0.runScript(
          """
          CREATE ROLE \(identifier: role);
          GRANT USAGE ON SCHEMA lethe TO \(identifier: role);
          GRANT SELECT, INSERT, UPDATE, DELETE ON lethe.worker, lethe.lease TO \(identifier: role)
          """)
      }
      let url = database.url + (hasRole ? "?options=-c%20role%3D\(role)" : "")
      let former = WorkerLedger(lease: Lease(), seconds: 3600)
      var sessions: [Connection] = []
      for _ in 1...3 { sessions.append(try await Connection.connect(ConnectionString(url))) }
      try await former.begin("former", Self.process(), on: sessions[0])
      for session in sessions.dropFirst() { try await former.mark(session) }
      #expect(try await former.claim(Self.resource, on: sessions[0]) { _ in false } == .mine)
      let unmarked = try await Connection.connect(ConnectionString(url))

      let next = WorkerLedger(lease: Lease(), seconds: 3600)
      try await Connection.withConnection(ConnectionString(url)) { connection in
        try await next.begin("next", Self.process(2), on: connection)
        let refused = try await next.claim(Self.resource, on: connection) { _ in false }
        guard case .held(let holder) = refused else {
          Issue.record("\(refused)")
          return
        }
        #expect(holder.description.hasPrefix("former (process 1 on elsewhere, since 20"))
        for session in sessions { try await session.execute("SELECT 1") }
        try await Self.expire(former, in: database)
        let claim = try await next.claim(Self.resource, on: connection) { _ in false }
        guard case .takenOver(from: let ended) = claim else {
          Issue.record("\(claim)")
          return
        }
        #expect(ended.process == Self.process())
        // The role is unchanged.
        #expect(
          try await connection.query("SELECT current_user = \(role)").onlyRow(as: Bool.self)
            == hasRole)
        let generation = try await connection.query("SELECT generation FROM lethe.lease")
          .onlyRow(as: Int.self)
        #expect(generation == 2)
        #expect(try await next.claim(Self.resource, on: connection) { _ in false } == .mine)
      }
      for session in sessions {
        await #expect(throws: PostgreSQLError.self) { try await session.execute("SELECT 1") }
      }
      for call in [former.renew, former.mark] as [(Connection) async throws -> Void] {
        await #expect {
          try await call(unmarked)
        } throws: {
          ($0 as? LedgerError)?.code == .leaseLost
        }
      }
      for session in sessions + [unmarked] { await session.close() }
      try await database.withConnection {
        try await $0.runScript(
          "DROP OWNED BY \(identifier: role); DROP ROLE \(identifier: role)")
      }
    }
  }

  /// The former worker renews its lease while another worker tries to take it over.
  @Test func aRenewedLeaseIsNotTakenOver() async throws {
    try await Self.withLedger { database in
      let former = WorkerLedger(lease: Lease(), seconds: 3600)
      let next = WorkerLedger(lease: Lease(), seconds: 3600)
      try await database.withConnection { mine in
        try await former.begin("former", Self.process(), on: mine)
        #expect(try await former.claim(Self.resource, on: mine) { _ in false } == .mine)
        try await Self.expire(former, in: database)
        // This session is not marked, so it is not terminated.
        let claim = try await database.withConnection { renewing in
          try await renewing.withTransaction { transaction in
            try await former.renew(on: transaction)
            // The other worker waits for the row that is being renewed.
            let claim = Task {
              try await database.withConnection {
                try await next.begin("next", Self.process(), on: $0)
                return try await next.claim(Self.resource, on: $0) { _ in false }
              }
            }
            while try await transaction.query(
              "SELECT NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid')"
            ).onlyRow(as: Bool.self) { try await pollingPause() }
            return claim
          }
        }
        guard case .held = try await claim.value else {
          Issue.record("the lease was taken over")
          return
        }
      }
    }
  }

  /// The former worker was stopped within a transaction that claims a lease, and keeps a lock on its own row.
  @Test func aWorkerThatIsStoppedInATransactionIsRecognisedAndTakenOver() async throws {
    try await Self.withLedger { database in
      let former = WorkerLedger(lease: Lease(), seconds: 3600)
      let next = WorkerLedger(lease: Lease(), seconds: 3600)
      try await database.withConnection { mine in
        try await former.begin("former", Self.process(), on: mine)
        #expect(try await former.claim(Self.resource, on: mine) { _ in false } == .mine)
        await #expect(throws: PostgreSQLError.self) {
          try await mine.withTransaction { transaction in
            try await transaction.execute(
              """
              INSERT INTO lethe.lease (resource, lease) VALUES ('another one', \(former.lease.token)::uuid)
              """)
            try await database.withConnection { connection in
              try await next.begin("next", Self.process(2), on: connection)
              let live = try await next.claim(Self.resource, on: connection) { _ in false }
              guard case .held = live else {
                Issue.record("\(live)")
                return
              }
              try await Self.expire(former, in: database)
              let claim = try await next.claim(Self.resource, on: connection) { _ in false }
              guard case .takenOver = claim else {
                Issue.record("\(claim)")
                return
              }
            }
            try await transaction.execute("SELECT 1")
          }
        }
      }
    }
  }

  /// The sessions of the former worker belong to another role, and this role may not terminate them.
  @Test func aTakeOverWithoutTheRightToTerminateIsRefused() async throws {
    try await Self.withLedger { database in
      let former = WorkerLedger(lease: Lease(), seconds: 3600)
      let next = WorkerLedger(lease: Lease(), seconds: 3600)
      let role = "\(database.name)_next"
      try await database.withConnection { mine in
        try await mine.runScript(
          """
          CREATE ROLE \(identifier: role) LOGIN;
          GRANT USAGE ON SCHEMA lethe TO \(identifier: role);
          GRANT ALL ON ALL TABLES IN SCHEMA lethe TO \(identifier: role);
          """)
        try await former.begin("former", Self.process(), on: mine)
        #expect(try await former.claim(Self.resource, on: mine) { _ in false } == .mine)
        try await Self.expire(former, in: database)
        let url = database.url.replacing(/\/\/[^@]*@/, with: "//\(role)@")
        try await Connection.withConnection(ConnectionString(url)) { other in
          try await next.begin("next", Self.process(2), on: other)
          do {
            _ = try await next.claim(Self.resource, on: other) { _ in false }
            Issue.record("the lease was taken over")
          } catch let error as LedgerError {
            #expect(error.code == .refused)
            #expect(error.message.contains("belong to another role"))
            #expect(error.remedy.contains("GRANT pg_signal_backend"))
          }
          try await next.end(on: other)
        }
        // Nothing was changed.
        let holder = try await mine.query("SELECT lease::text FROM lethe.lease").onlyRow(
          as: String.self)
        #expect(holder == former.lease.token)
        try await mine.runScript(
          "DROP OWNED BY \(identifier: role); DROP ROLE \(identifier: role)")
      }
    }
  }

  /// Several workers terminate the sessions of one former worker at the same time.
  @Test func severalWorkersTakeOverFromOneWorkerAtTheSameTime() async throws {
    try await Self.withLedger { database in
      let former = WorkerLedger(lease: Lease(), seconds: 3600)
      let chunks: [Int64] = [1, 2, 3, 4]
      var sessions: [Connection] = []
      for _ in 1...6 {
        sessions.append(try await Connection.connect(ConnectionString(database.url)))
      }
      try await former.begin("former", Self.process(), on: sessions[0])
      for session in sessions.dropFirst() { try await former.mark(session) }
      for chunk in chunks {
        #expect(try await former.claim(.chunk(chunk), on: sessions[0]) { _ in false } == .mine)
      }
      try await Self.expire(former, in: database)
      try await withThrowingTaskGroup { group in
        for chunk in chunks {
          group.addTask {
            try await database.withConnection {
              let next = WorkerLedger(lease: Lease(), seconds: 3600)
              try await next.begin("next", Self.process(Int32(chunk) + 1), on: $0)
              let claim = try await next.claim(.chunk(chunk), on: $0) { _ in false }
              if case .held = claim { Issue.record("chunk \(chunk) is held") }
            }
          }
        }
        try await group.waitForAll()
      }
      for session in sessions {
        await #expect(throws: PostgreSQLError.self) { try await session.execute("SELECT 1") }
        await session.close()
      }
    }
  }
}
