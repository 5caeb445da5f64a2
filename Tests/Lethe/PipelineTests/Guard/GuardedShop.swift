import Definitions
import Ledger
import PostgreSQL
import TestSupport
import Vocabulary
import Warehouse

/// A database with a table `shop.posts` that a test guards. The post IDs 7 and 1007007007007007007 have tombstones.
struct GuardedShop: Sendable {
  let database: TestDatabase
  let connection: Connection
  static let posts = TableName(schema: "shop", name: "posts")

  static func with(
    _ script: SQL, _ body: @Sendable (GuardedShop) async throws -> Void
  ) async throws {
    try await withTestDatabase(.ledger) { database in
      try await database.withConnection { connection in
        try await connection.runScript(
          """
          INSERT INTO lethe.tombstone (type, id, reason, job_id, deleted_at)
          VALUES ('tweets', 7, 'deleted', 1, '2026-01-02T03:04:05Z'),
                 ('tweets', 1007007007007007007, 'deleted', 1, '2026-01-02T03:04:05Z');
          CREATE SCHEMA shop;
          SET search_path = shop, public;
          \(script)
          """)
        try await body(GuardedShop(database: database, connection: connection))
      }
    }
  }

  var guards: IngestGuards { IngestGuards(connection: connection, lockTimeoutSeconds: 3) }

  func guarding(_ onReturn: IngestGuard.OnReturn = .skip) -> IngestGuard {
    IngestGuard(table: Self.posts, id: "post_id", type: .tweets, onReturn: onReturn)
  }

  @discardableResult
  func install(
    _ onReturn: IngestGuard.OnReturn = .skip, acknowledging names: [String]? = nil
  ) async throws -> GuardProof {
    try await guards.install(
      guarding(onReturn), acknowledging: names, tombstone: ProbeTombstone.make)
  }

  func prove() async throws -> GuardProof {
    try await guards.prove(guarding(), tombstone: ProbeTombstone.make)
  }

  func value<Value: ColumnDecodable & Sendable>(_ sql: SQL, as type: Value.Type) async throws
    -> Value
  {
    try await connection.query(sql).onlyRow(as: Value.self)
  }

  /// Everything that the proof could leave behind: tombstones, triggers, functions, and the number of rows.
  func snapshot() async throws -> String {
    try await value(
      """
      SELECT concat_ws(' | ',
        (SELECT string_agg(type || ' ' || id, ', ' ORDER BY type, id) FROM lethe.tombstone),
        (SELECT string_agg(pg_get_triggerdef(t.oid) || t.tgenabled::text, ', ' ORDER BY t.tgrelid, t.tgname)
         FROM pg_trigger AS t WHERE NOT t.tgisinternal),
        (SELECT string_agg(proname, ', ' ORDER BY proname) FROM pg_proc WHERE proname LIKE 'guard\\_%'),
        (SELECT count(*) FROM posts))
      """, as: String.self)
  }
}
