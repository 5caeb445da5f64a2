import PostgreSQL
import SystemPackage
import TestSupport

/// One random case: a few runs over a dozen posts, in the case's own range of IDs.
struct ModelCase {
  let base: Int64
  let connection: Connection
  private let writer: ModelWriter
  private var driver: ModelDriver
  private var model = WarehouseModel()
  private var plan: ModelPlan
  private var random: SeededGenerator
  private var uncollected: [Int] = []
  private var unapplied: [Int] = []
  private var setAside: Set<Int> = []
  /// Whether Lethe can apply one event in several transactions. Such a case has no unwritable rows. With them, the
  /// changes before a refusal would remain in the warehouse, but the model applies or refuses an event as a whole.
  private let hasParts: Bool

  /// The SQL that `ModelTests` runs on the reference warehouse before the first case.
  static let tables = """
    ALTER TABLE warehouse.posts DROP CONSTRAINT posts_visibility_check,
      ALTER visibility DROP NOT NULL, ADD searchable boolean NOT NULL DEFAULT true,
      ADD stale boolean NOT NULL DEFAULT false, ADD likes integer NOT NULL DEFAULT 0;
    ALTER TABLE warehouse.users DROP CONSTRAINT users_visibility_check,
      ALTER visibility DROP NOT NULL, ADD likes integer NOT NULL DEFAULT 0;
    ALTER TABLE warehouse.reposts ADD visibility text, ADD likes integer NOT NULL DEFAULT 0;
    CREATE TABLE warehouse.unwritable (id bigint PRIMARY KEY);
    CREATE FUNCTION warehouse.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF EXISTS (SELECT FROM warehouse.unwritable AS s
                 WHERE s.id = (to_jsonb(OLD)->>TG_ARGV[0])::bigint) THEN
        RAISE EXCEPTION 'nobody may write this row';
      END IF;
      RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END $$;
    CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON warehouse.posts
      FOR EACH ROW EXECUTE FUNCTION warehouse.refuse('post_id');
    CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON warehouse.reposts
      FOR EACH ROW EXECUTE FUNCTION warehouse.refuse('repost_id');
    """

  init(
    number: Int, seed: UInt64, connection: Connection, copying: Connection, directory: FilePath
  ) {
    random = SeededGenerator(seed: seed)
    base = Int64(number) * 1000
    self.connection = connection
    writer = ModelWriter(connection: connection, base: base)
    plan = .random(base: base, isAtomic: random.happens(0.2), &random)
    let chunk = Int.random(in: 2...20, using: &random)
    let batch = random.one(of: ["1", "2\n    batch_rows: 1", "3\n    batch_rows: 2", "100"])
    hasParts = !plan.isAtomic && batch.contains("batch_rows")
    driver = ModelDriver(
      name: "m\(number)",
      sizes: "chunk: {ids: \(chunk)}" + "\n    "
        + (plan.isAtomic ? "atomic: chunk" : "batch: \(batch)"),
      on: connection, copying: copying, directory: directory)
  }

  /// Runs the case.
  /// - Returns: the differences from the model.
  mutating func run() async throws -> [String] {
    for _ in 0..<20 { try await writer.write(&model, &random) }
    for run in 0..<Int.random(in: 2...5, using: &random) {
      if run > 0, random.happens(0.4, .edits) {
        plan.edit(isQuiet: uncollected.isEmpty && unapplied.isEmpty && setAside.isEmpty, &random)
      }
      try await export()
      for _ in 0..<Int.random(in: 0...4, using: &random) { try await writer.write(&model, &random) }
      try await setUnwritable(random.happens(0.3, .refusals) && !hasParts)
      try await work(share: ModelKind.late.isUsed && random.happens(0.6) ? 0.75 : 1)
      if random.happens(0.1, .giving_up) { try await giveUp() }
      if random.happens(0.5) { try await retry() }
    }
    try await setUnwritable(false)
    try await work(share: 1)
    try await retry()
    return try await ModelOutcome(connection: connection, base: base).differences(model)
  }

  private mutating func export() async throws {
    let first = model.chunks.count
    for exported in try await driver.export(plan) {
      model.chunks.append(
        ModelChunk(
          type: exported.type, ids: exported.ids, range: exported.range,
          exportedAt: model.clock, askedAt: model.chunks.count + 1, plan: plan,
          lines: .random(exported.type, exported.ids, foreign: base + 998, &random)))
    }
    for index in first..<model.chunks.count {
      try await driver.ask(index, askedAt: model.chunks[index].askedAt)
      uncollected.append(index)
    }
  }

  /// Collects and applies a share of the waiting chunks, in any order, with other writers in between.
  private mutating func work(share: Double) async throws {
    if ModelKind.late.isUsed && random.happens(0.5) { uncollected.shuffle(using: &random) }
    for index in uncollected where random.happens(share) {
      try await driver.collect(index, model.chunks[index])
      model.collect(index)
      uncollected.removeAll { $0 == index }
      if model.chunks[index].isCollected { unapplied.append(index) }
    }
    if ModelKind.late.isUsed && random.happens(0.5) { unapplied.shuffle(using: &random) }
    for index in unapplied where random.happens(share) {
      if random.happens(0.5) { try await writer.write(&model, &random) }
      try await driver.apply(index)
      model.apply(index)
      unapplied.removeAll { $0 == index }
      if !model.chunks[index].waiting.isEmpty { setAside.insert(index) }
    }
  }

  // MARK: Refusals

  /// Makes writes to some rows fail (the unwritable rows), or allows all writes again.
  private mutating func setUnwritable(_ hasUnwritableRows: Bool) async throws {
    try await connection.execute("DELETE FROM warehouse.unwritable")
    model.unwritable = []
    guard hasUnwritableRows else { return }
    for id in Array(base + 100...base + 111) + Array(base + 500...base + 507)
    where random.happens(0.2) {
      try await connection.execute("INSERT INTO warehouse.unwritable VALUES (\(literal: id))")
      model.unwritable.insert("\(id)")
    }
  }

  private mutating func retry() async throws {
    for index in setAside.sorted() {
      try await driver.retry(index)
      model.apply(index)
      if model.chunks[index].waiting.isEmpty { setAside.remove(index) }
    }
  }

  /// Gives up a run that still has waiting chunks.
  private mutating func giveUp() async throws {
    guard let chosen = (unapplied + uncollected).randomElement(using: &random) else { return }
    try await driver.giveUp(runOf: chosen)
    for index in model.chunks.indices where driver.belongToSameRun(chosen, index) {
      model.chunks[index].isGivenUp = true
      setAside.remove(index)
      unapplied.removeAll { $0 == index }
      uncollected.removeAll { $0 == index }
    }
  }
}

extension [ModelChunk.Line] {
  static func random(
    _ type: String, _ ids: Set<Int64>, foreign: Int64, _ random: inout SeededGenerator
  ) -> Self {
    ModelChunk.Line.random(type, ids, foreign: foreign, &random)
  }
}
