import ApplyStage
import ChunkFiles
import Definitions
import ExportStage
import Foundation
import Ledger
import Logging
import PostgreSQL
import SystemPackage
import TestSupport
import Testing
import Vocabulary
import Warehouse

@testable import CollectStage

/// Two processes that work on two chunks. Each outcome is computed from the same state of one database: one process works
/// after the other, in both orders, or they work at the same time in a forced order.
struct TwoChunks: Sendable {
  /// The answers about one chunk of a pipeline.
  struct Part: Sendable {
    let pipeline: String
    /// The datasets of the definition, in YAML.
    var datasets: String
    /// The dataset of the chunk.
    let dataset: String
    /// The answers. An ID that is not in the dictionary is clean.
    let reasons: [Int64: String]

    init(
      _ dataset: String, _ reasons: [Int64: String], of pipeline: String = "shop",
      datasets: String
    ) {
      self.pipeline = pipeline
      self.datasets = datasets
      self.dataset = dataset
      self.reasons = reasons
    }
  }

  let database: TestDatabase
  private let directory: FilePath
  private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  init(_ database: TestDatabase, directory: FilePath) {
    self.database = database
    self.directory = directory
  }

  // MARK: Preparation

  /// Exports and collects the chunk of each part, in this order. The jobs' creation times have the same order.
  /// - Returns: the chunks.
  func collect(_ parts: [Part], firstJob: Int = 1) async throws -> [CollectedChunk] {
    let chunks = try await complete(parts, firstJob: firstJob)
    try await database.withConnection { connection in
      for (part, chunk) in zip(parts, chunks) { try await chunk.collect(part, connection) }
    }
    return chunks
  }

  /// Exports the chunk of each part and completes its job.
  func complete(_ parts: [Part], firstJob: Int = 1) async throws -> [CollectedChunk] {
    try await database.withConnection { connection in
      try await connection.waitForOtherDatabases()
      var chunks: [CollectedChunk] = []
      for part in parts { chunks.append(try await export(part, connection)) }
      for (index, chunk) in chunks.enumerated() {
        try await chunk.complete(job: firstJob + index, connection)
      }
      return chunks
    }
  }

  private func export(_ part: Part, _ connection: Connection) async throws -> CollectedChunk {
    let definition = try Pipeline.parse(
      yaml: part.yaml, file: "\(part.pipeline).yaml", environment: [:]
    ).definition
    let dataset = try #require(definition.dataset(named: part.dataset))
    let lease = Lease()
    let catalog = try await Catalog(of: definition, on: connection)
    let run = try await RunLedger(connection: connection)
      .begin(definition, in: directory.string, lease: lease)
    try FileManager.default.createDirectory(
      atPath: run.workDirectory, withIntermediateDirectories: true)
    try await database.withConnection { copying in
      try await ExportStage(
        connection: copying, ledger: ExportLedger(connection: connection, run: run, lease: lease),
        catalog: catalog, workDirectory: FilePath(run.workDirectory), logger: Self.logger
      ).export(dataset) { _ in }
    }
    let chunk = try #require(
      try await ChunkLedger(connection: connection, lease: lease)
        .chunks(of: run.id, in: [.exported]).first)
    return CollectedChunk(id: chunk.id, lease: lease, definition: definition, dataset: dataset)
  }

  /// Applies a chunk in the database itself.
  func apply(_ chunk: CollectedChunk) async throws {
    try await database.withConnection { try await chunk.apply($0) }
  }

  // MARK: Outcomes

  /// What one process does.
  typealias Work = @Sendable (Connection) async throws -> Void

  /// The state after one process has worked after the other.
  /// - Returns: also the gates that the first process passes.
  func outcome(of works: [Work]) async throws -> (state: [String], gates: [BatchGate]) {
    try await database.withConnection { connection in
      try await Self.restoreTables(connection)
      try await connection.runScript(BatchGate.recordingScript)
      try await works[0](connection)
      let gates = try await connection.query("SELECT DISTINCT name FROM gate.passed")
        .rows(as: String.self)
      try await connection.execute("DROP SCHEMA gate CASCADE")
      for work in works.dropFirst() { try await work(connection) }
      return (
        try await Self.state(connection), BatchGate.allCases.filter { gates.contains("\($0)") }
      )
    }
  }

  /// The state after both processes have worked at the same time. The first one is stopped at the gate until the other
  /// one waits for it or has finished.
  func outcome(
    of first: @escaping Work, stoppedAt gate: BatchGate, beside other: @escaping Work
  ) async throws -> [String] {
    try await database.withConnection { keeper in
      try await Self.restoreTables(keeper)
      try await keeper.runScript(gate.script)
      try await keeper.execute("SELECT pg_advisory_lock(4711)")
      try await database.withConnection { one in
        try await database.withConnection { two in
          let both = [try await one.backend(), try await two.backend()]
          for connection in [one, two] {
            try await connection.execute("SET deadlock_timeout = '20ms'")
          }
          try await one.execute("SET lethe_test.stops = 'on'")
          let hasEnded = [Flag(), Flag()]
          async let firstEnd: Void = Self.run(first, one, hasEnded[0])
          let isStopped = try await keeper.wait(for: both[0], orFor: hasEnded[0])
          async let otherEnd: Void = Self.run(other, two, hasEnded[1])
          _ = try await keeper.wait(for: both[1], orFor: hasEnded[1])
          try await keeper.execute("SELECT pg_advisory_unlock(4711)")
          try await firstEnd
          try await otherEnd
          #expect(isStopped, "\(gate) was not passed")
        }
      }
      try await keeper.execute("DROP SCHEMA gate CASCADE")
      return try await Self.state(keeper)
    }
  }

  // MARK: The state of the tables

  /// A loop over the tables of the ledger and the shop. `name` is the table and `copy` is its copy.
  private static func forEachTable(_ statements: SQL) -> SQL {
    """
    DO $script$
    DECLARE
      name regclass;
      copy text;
    BEGIN
      FOR name, copy IN
        SELECT c.oid::regclass, format('saved.%I', c.relnamespace::regnamespace || '_' || c.relname) FROM pg_class AS c
        WHERE c.relnamespace IN ('lethe'::regnamespace, 'shop'::regnamespace) AND c.relkind IN ('r', 'p')
          AND NOT c.relispartition
      LOOP
        \(statements)
      END LOOP;
    END $script$
    """
  }

  /// Copies all tables. Each outcome begins with this state.
  func saveTables() async throws {
    try await database.withConnection {
      try await $0.execute("CREATE SCHEMA saved")
      try await $0.execute(
        Self.forEachTable("EXECUTE format('CREATE TABLE %s AS TABLE %s', copy, name);"))
    }
  }

  /// The rows get a new version, so the exports are set to a snapshot that this transaction precedes.
  private static func restoreTables(_ connection: Connection) async throws {
    try await connection.withTransaction { transaction in
      try await transaction.execute("SET LOCAL session_replication_role = replica")
      try await transaction.execute(
        forEachTable(
          """
          EXECUTE format('DELETE FROM %s', name);
          EXECUTE format('INSERT INTO %s OVERRIDING SYSTEM VALUE TABLE %s', name, copy);
          """))
      try await transaction.execute(
        """
        UPDATE lethe.chunk SET exported_snapshot = format('%1$s:%1$s:', pg_current_xact_id()::text::bigint + 1)::pg_snapshot
        """)
    }
  }

  private static func run(
    _ work: Work, _ connection: Connection, _ hasEnded: Flag
  ) async throws {
    defer { hasEnded.set() }
    try await work(connection)
  }

  /// The rows, holds, holders, protections without holds, tombstones and refusals, as lines of text. The holders' columns
  /// are those that the hold still has. It does not matter which of two events changed a row, or left its tombstone.
  static func state(_ connection: Connection) async throws -> [String] {
    try await connection.query(
      """
      SELECT line FROM (
        SELECT 'user ' || to_jsonb(t)::text AS line FROM shop.users AS t
        UNION ALL SELECT 'post ' || to_jsonb(t)::text FROM shop.posts AS t
        UNION ALL SELECT 'repost ' || to_jsonb(t)::text FROM shop.reposts AS t
        UNION ALL SELECT concat_ws(' ', 'hold', table_name, row_key, former, set_to, ignores_writers, row_type, row_id)
          FROM lethe.hold
        UNION ALL SELECT concat_ws(' ', 'holder', h.table_name, h.row_key, r.type, r.id, r.pipeline, r.dataset,
          ARRAY (SELECT c FROM unnest(r.columns) AS c WHERE h.set_to ? c ORDER BY c))
          FROM lethe.holder AS r JOIN lethe.hold AS h USING (hold_id)
        UNION ALL SELECT concat_ws(' ', 'protection', pipeline, dataset, id) FROM lethe.protection
        UNION ALL SELECT concat_ws(' ', 'tombstone', type, id) FROM lethe.tombstone
        UNION ALL SELECT concat_ws(' ', 'rows', table_name, sum(rows)) FROM lethe.change
          WHERE action = 'delete' GROUP BY table_name
        UNION ALL SELECT concat_ws(' ', 'chunk', chunk_id, state) FROM lethe.chunk
        UNION ALL SELECT concat_ws(' ', 'refusal', chunk_id, id, why) FROM lethe.refusal
      ) AS lines ORDER BY line COLLATE "C"
      """
    ).rows(as: String.self)
  }
}

/// A chunk of a run with one dataset.
struct CollectedChunk: Sendable {
  let id: Int64
  let lease: Lease
  let definition: Definition
  let dataset: Dataset

  private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  private func stored(_ catalog: Catalog) -> StoredIDs {
    ExportStage.stored(in: dataset, catalog: catalog)
  }

  /// - Parameter job: the job's number in the order of the creation times.
  func complete(job: Int, _ connection: Connection) async throws {
    let ledger = ChunkLedger(connection: connection, lease: lease)
    let attempt = try await ledger.jobIntended(for: ledger.chunk(id))
    let created = try await ledger.jobCreated(
      attempt, of: ledger.chunk(id), apiID: "\(id)",
      at: Timestamp(microsecondsSince2000: Int64(job) * 1_000_000))
    try await ledger.fileUploaded(created, of: ledger.chunk(id))
    try await ledger.jobCompleted(created, of: ledger.chunk(id))
  }

  /// Collects a result with the part's reasons.
  func collect(_ part: TwoChunks.Part, _ connection: Connection) async throws {
    let ledger = ChunkLedger(connection: connection, lease: lease)
    let chunk = try await ledger.chunk(id)
    let attempt = try #require(try await ledger.liveAttempt(at: chunk))
    let path = FilePath(chunk.path + ".result")
    let lines = part.reasons.sorted { $0.key < $1.key }.map { id, reason in
      let action = ["geo_scrubbed": "scrub_geo", "tweet_edited": "rehydrate"][reason] ?? "delete"
      return CollectTests.event(id, action, reason)
    }
    let text = lines.joined()
    try text.write(toFile: path.string, atomically: false, encoding: .utf8)
    let ids = try ChunkIndex(verifying: chunk.file)
    let stored = stored(try await Catalog(of: definition, on: connection))
    _ = try await connection.withTransaction { transaction in
      let (lines, kept) = try await ResultLoad(
        transaction: transaction, ledger: ledger, chunk: chunk, attempt: attempt, stored: stored
      ).run(path: path, bytes: text.utf8.count, index: ids)
      return try await ledger.resultCollected(
        attempt, of: chunk,
        .init(bytes: 0, lines: lines, quarantined: kept, sha256: [UInt8](repeating: 0, count: 32)),
        on: transaction)
    }
  }

  func apply(_ connection: Connection) async throws {
    let ledger = ChunkLedger(connection: connection, lease: lease)
    let outcome = try await ApplyStage(
      connection: connection, ledger: ledger,
      catalog: Catalog(of: definition, on: connection), definition: definition,
      logger: Self.logger
    ).apply(ledger.chunk(id), dataset: dataset)
    #expect(outcome == .applied)
  }
}

extension TwoChunks.Part {
  var yaml: String {
    """
    name: \(pipeline)
    warehouse: postgresql:///unused
    api: {base_url: "http://127.0.0.1:1", bearer_token: t}
    limits: {max_redacted_percent: 100, max_redacted_rows: 100000, allow_whole_chunks: true}
    datasets:
    \(datasets)
    """
  }
}

/// The place where a test stops a batch.
enum BatchGate: String, CaseIterable, Sendable, CustomTestStringConvertible {
  case repostsStatement = "BEFORE UPDATE OR DELETE ON shop.reposts FOR EACH STATEMENT"
  case postsStatement = "BEFORE UPDATE OR DELETE ON shop.posts FOR EACH STATEMENT"
  case post = "BEFORE UPDATE OR DELETE ON shop.posts FOR EACH ROW"
  case postIsWritten = "AFTER UPDATE OR DELETE ON shop.posts FOR EACH ROW"
  case hold = "BEFORE INSERT OR UPDATE OR DELETE ON lethe.hold FOR EACH ROW"
  case holdIsWritten = "AFTER INSERT OR UPDATE OR DELETE ON lethe.hold FOR EACH ROW"
  case holderIsWritten = "AFTER INSERT OR UPDATE OR DELETE ON lethe.holder FOR EACH ROW"
  case batchIsRecorded = "AFTER INSERT ON lethe.batch FOR EACH ROW"
  case resultIsCollected =
    "BEFORE UPDATE ON lethe.chunk FOR EACH ROW WHEN (OLD.state = 'complete' AND NEW.state = 'collected')"

  var testDescription: String { "\(self)" }

  /// Triggers that write the name of each passed gate to a table.
  static var recordingScript: SQL {
    let triggers = allCases.map {
      "CREATE TRIGGER gate_\($0) \($0.rawValue) EXECUTE FUNCTION gate.note('\($0)')"
    }
    return """
      CREATE SCHEMA gate;
      CREATE TABLE gate.passed (name text);
      CREATE FUNCTION gate.note() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        INSERT INTO gate.passed VALUES (TG_ARGV[0]);
        RETURN coalesce(NEW, OLD);
      END $$;
      \(trusted: triggers.joined(separator: ";\n"))
      """
  }

  /// A trigger that stops the sessions with the setting `lethe_test.stops` until the lock 4711 is free.
  var script: SQL {
    """
    CREATE SCHEMA gate;
    CREATE FUNCTION gate.stop() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF current_setting('lethe_test.stops', true) = 'on' THEN PERFORM pg_advisory_xact_lock_shared(4711); END IF;
      RETURN coalesce(NEW, OLD);
    END $$;
    CREATE TRIGGER gate \(trusted: rawValue) EXECUTE FUNCTION gate.stop()
    """
  }
}

extension Connection {
  func backend() async throws -> Int {
    try await query("SELECT pg_backend_pid()").onlyRow(as: Int.self)
  }

  /// Waits until the session waits for another session, or the flag is set.
  /// - Returns: whether the session waits.
  func wait(for backend: Int, orFor hasEnded: Flag) async throws -> Bool {
    while !hasEnded.isSet {
      if try await query("SELECT cardinality(pg_blocking_pids(\(backend)::integer)) > 0")
        .onlyRow(as: Bool.self)
      {
        return true
      }
      try await pollingPause()
    }
    return false
  }
}
