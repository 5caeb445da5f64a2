import Foundation
import PostgreSQL
import TestSupport
import Testing

/// The faults of the processes and of the database server in a night. They come in random order, and each after a random
/// amount of work.
struct ChaosFaults {
  enum Kind: String, CaseIterable {
    case kill
    case stop
    /// All sessions are terminated.
    case cut
    case crash
    case failover
  }

  private let night: Night
  private let team: Team
  private let fixture: PipelineFixture
  private let standby: OwnServer
  private var primary: OwnServer
  private var random: SeededGenerator
  private var counts: [Kind: Int] = [:]

  init(
    _ night: Night, _ team: Team, primary: OwnServer, standby: OwnServer, _ fixture: PipelineFixture
  ) {
    (self.night, self.team, self.fixture) = (night, team, fixture)
    (self.primary, self.standby) = (primary, standby)
    random = SeededGenerator(seed: night.seed &+ 1)
  }

  /// How often each fault has happened.
  var tally: String {
    Kind.allCases.map { "\($0.rawValue) \(counts[$0] ?? 0)" }.joined(separator: ", ")
  }

  /// Lets all faults happen. Returns when all have happened or the team has finished.
  mutating func happen() async throws {
    var kinds = Array(repeating: Kind.kill, count: night.kills)
    kinds += Array(repeating: .stop, count: night.kills / 3)
    kinds += Array(repeating: .cut, count: night.kills / 3)
    kinds += [.crash, .crash]
    kinds.shuffle(using: &random)
    // These happen in each night, even if the team finishes early.
    kinds.insert(contentsOf: [Kind.crash, .failover, .kill].shuffled(using: &random), at: 0)
    do {
      for kind in kinds {
        try await waitForWork()
        if await team.hasFinished { break }
        try await happen(kind)
      }
    } catch {
      await team.wake()
      throw error
    }
    await team.wake()
    #expect(counts[.crash, default: 0] > 0 && counts[.failover] == 1)
  }

  private mutating func happen(_ kind: Kind) async throws {
    if kind != .stop { await team.wake() }
    switch kind {
    case .kill: guard await team.kill() else { return }
    case .stop: guard await team.stop() else { return }
    case .cut:
      try await Connection.withConnection(ConnectionString(fixture.database.url)) {
        _ = try await fixture.terminateSessions($0)
      }
    case .crash:
      try await primary.crash()
      try await primary.recovered()
    case .failover:
      try await primary.kill()
      try await standby.promote()
      primary = standby
    }
    counts[kind, default: 0] += 1
  }

  /// Returns when the server has written a random amount of WAL, or when the team has finished.
  private mutating func waitForWork() async throws {
    let bytes = Int.random(in: 0...2 * night.walBytes, using: &random)
    let position: SQL = "SELECT (pg_current_wal_lsn() - '0/0')::bigint"
    try await Connection.withConnection(ConnectionString(fixture.database.url)) {
      let start = try await $0.query(position).onlyRow(as: Int.self)
      while try await $0.query(position).onlyRow(as: Int.self) < start + bytes {
        if await team.hasFinished { return }
        try await pollingPause()
      }
    }
  }
}

extension PipelineFixture {
  /// Checks the warehouse, the ledger and the API's jobs after a night with SQL that shares nothing with the program.
  func audit(_ platform: TestDatabase, _ comment: Comment) async throws {
    #expect(try await rowsThatDiffer() == 0, comment)
    #expect(try await ledgerFaults() == [], comment)
    let holds = try await value(
      """
      SELECT count(*) FROM lethe.hold AS h
      WHERE NOT EXISTS (
        SELECT FROM lethe.holder AS r
        WHERE r.hold_id = h.hold_id AND CASE r.type
          WHEN 'users' THEN EXISTS (
            SELECT FROM platform.accounts WHERE account_id = r.id AND state = 'protected')
          ELSE EXISTS (
            SELECT FROM platform.posts AS p JOIN platform.accounts AS a ON a.account_id = p.author_id
            WHERE p.post_id = r.id AND a.state = 'protected') END)
      """, as: Int.self)
    #expect(holds == 0, "\(comment): holds without a reason")
    let attempts = try await database.withConnection {
      try await $0.query("SELECT api_id FROM lethe.job WHERE api_id IS NOT NULL")
        .rows(as: String.self)
    }
    let strays = try await platform.withConnection {
      try await $0.query(
        """
        SELECT count(*) FROM compliance.jobs
        WHERE NOT id::text = ANY (\(attempts)) AND status NOT IN ('failed', 'expired')
        """
      ).onlyRow(as: Int.self)
    }
    #expect(strays == 0, "\(comment): jobs that no attempt uses")
  }
}
