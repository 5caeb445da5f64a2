import Foundation
import PostgreSQL
import TestSupport
import Testing

/// Somebody changes the tables of the warehouse while a run works.
@Suite(.endedIfItHangs) struct SchemaChangeRunTests {
  struct Change: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let make: SQL
    let undo: SQL
    /// What a message about the change must name. Nil if the run does not need what was changed.
    let named: String?
  }

  static let changes = [
    Change(
      testDescription: "a column is renamed",
      make: "ALTER TABLE warehouse.posts RENAME visibility TO audience",
      undo: "ALTER TABLE warehouse.posts RENAME audience TO visibility", named: "visibility"),
    Change(
      testDescription: "the column of the ID is renamed",
      make: "ALTER TABLE warehouse.users RENAME user_id TO account",
      undo: "ALTER TABLE warehouse.users RENAME account TO user_id", named: "user_id"),
    Change(
      testDescription: "a dataset's table is renamed",
      make: "ALTER TABLE warehouse.posts RENAME TO archive",
      undo: "ALTER TABLE warehouse.archive RENAME TO posts", named: "warehouse.posts"),
    Change(
      testDescription: "a target's table is renamed",
      make: "ALTER TABLE warehouse.post_media RENAME TO media",
      undo: "ALTER TABLE warehouse.media RENAME TO post_media", named: "post_media"),
    Change(
      testDescription: "the schema is renamed", make: "ALTER SCHEMA warehouse RENAME TO archive",
      undo: "ALTER SCHEMA archive RENAME TO warehouse", named: "warehouse"),
    Change(
      testDescription: "a column becomes too short",
      make: "ALTER TABLE warehouse.users ALTER visibility TYPE varchar(8) USING 'public'",
      undo: "ALTER TABLE warehouse.users ALTER visibility TYPE text", named: "warehouse.users"),
    Change(
      testDescription: "a constraint refuses the new value",
      make:
        "ALTER TABLE warehouse.posts ADD CONSTRAINT open CHECK (visibility = 'public') NOT VALID",
      undo: "ALTER TABLE warehouse.posts DROP CONSTRAINT open", named: "open"),
    Change(
      testDescription: "the primary key is dropped",
      make: "ALTER TABLE warehouse.users DROP CONSTRAINT users_pkey",
      undo: "ALTER TABLE warehouse.users ADD PRIMARY KEY (user_id)", named: "warehouse.users"),
    Change(
      testDescription: "a column is added",
      make: "ALTER TABLE warehouse.posts ADD lang text NOT NULL DEFAULT 'en'",
      undo: "ALTER TABLE warehouse.posts DROP lang", named: nil),
    Change(
      testDescription: "a table is replaced by a copy",
      make: """
        ALTER TABLE warehouse.users RENAME TO replaced;
        CREATE TABLE warehouse.users (LIKE warehouse.replaced INCLUDING ALL);
        INSERT INTO warehouse.users TABLE warehouse.replaced
        """, undo: "DROP TABLE warehouse.replaced", named: nil),
  ]

  /// Between export and collect, during collect, and between two batches. A change waits until the batch is committed.
  static let places: [Place] = [
    .jobIsNotProcessed, .resultIsNotDownloaded, .secondBatchIsNotCommitted,
  ]

  @Test(arguments: sampled(changes, places, 6))
  func noRowIsDamagedAndTheNextRunFinishes(change: Change, place: Place) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 1500, users: 40)
      try await fixture.database.withConnection { connection in
        let program = try await fixture.start(until: place, connection)
        let isMade = Flag()
        let changed = Task {
          defer { isMade.set() }
          try await fixture.execute(change.make)
        }
        while !isMade.isSet {
          if try await connection.hasLockWait() { break }
        }
        try await fixture.release(place, connection)
        try await changed.value
        let result = await program.ended()
        if result.code != 0 {
          let named = try #require(change.named, "\(result.stderr)")
          #expect(result.stderr.contains(named), "\(result.stderr)")
          #expect([1, 5, 75].contains(result.code), "\(result.stderr)")
        }
        if place.trigger != nil { try await connection.execute("DROP SCHEMA hold CASCADE") }
      }
      try await fixture.execute(change.undo)
      #expect(try await fixture.damagedRows() == 0)
      let next = try await Program.run(
        "lethe", ["run", try fixture.definitionFile()], environment: fixture.environment)
      #expect(next.code == 0, "\(next.stderr)")
      #expect(try await fixture.rowsThatDiffer() == 0, "\(next.stderr)")
    }
  }
}

extension Connection {
  /// Whether a session of this database waits for the lock of a table.
  fileprivate func hasLockWait() async throws -> Bool {
    try await query(
      """
      SELECT count(*) > 0 FROM pg_locks
      WHERE NOT granted AND locktype = 'relation'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      """
    ).onlyRow(as: Bool.self)
  }
}
