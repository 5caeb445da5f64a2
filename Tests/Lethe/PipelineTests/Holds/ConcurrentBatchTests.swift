import PostgreSQL
import TestSupport
import Testing

/// Two batches of different chunks change the same rows at the same time. The outcome must be the same as if they ran
/// one after the other.
@Suite struct ConcurrentBatchTests {
  /// What two chunks do to the post 9 of user 1, and to its repost 900.
  struct Pair: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// Whether 900 is a repost of the post 9. If it is not, the statements for reposts find no row, and no other
    /// statement before the one for the posts locks a row.
    var hasReposts = false
    /// Chunks that are applied before.
    var before: [TwoChunks.Part] = []
    let one: TwoChunks.Part
    let other: TwoChunks.Part
    /// SQL that runs before the pair is exported.
    var more = "SELECT"
  }

  static let rows = """
    INSERT INTO users VALUES (1, 'one'), (2, 'two');
    INSERT INTO posts (post_id, author_id, text, visibility, latitude, raw) VALUES
      (12, 1, 'third', 'friends', 3.5, NULL),
      (9, 1, 'secret', 'internal', 1.5, '{"geo": 1, "lang": "en"}'), (10, 2, 'other', 'public', 2.5, '{"geo": 2}');
    INSERT INTO reposts VALUES (900, 8, 2, 'copy', 'internal')
    """

  @Test(arguments: sampled(pairs, 8))
  func theOutcomeIsThatOfOneOrder(pair: Pair) async throws {
    try await Self.withChunks(pair) { chunks in
      let both = try await chunks.collect([pair.one, pair.other], firstJob: 10)
      try await Self.expectOneOrder(
        of: { try await both[0].apply($0) }, and: { try await both[1].apply($0) }, chunks)
    }
  }

  /// The newer result is silent about an ID that the older one protects. If the ID is protected before the newer result
  /// is collected, the newer result must release it.
  @Test func aProtectionThatIsAppliedWhileANewerResultIsCollectedEnds() async throws {
    let pair = Pair(
      testDescription: "", one: Self.posts([9: "protected"]),
      other: Self.posts([:], of: "archive"))
    try await Self.withChunks(pair) { chunks in
      let both = try await chunks.complete([pair.one, pair.other], firstJob: 10)
      try await chunks.database.withConnection { try await both[0].collect(pair.one, $0) }
      try await Self.expectOneOrder(
        of: { try await both[0].apply($0) },
        and: {
          try await both[1].collect(pair.other, $0)
          try await both[1].apply($0)
        }, chunks)
    }
  }

  private static func withChunks(
    _ pair: Pair, _ body: (TwoChunks) async throws -> Void
  ) async throws {
    try await withTestDatabase(.ledger) { database in
      try await withTemporaryDirectory { directory in
        try await database.withConnection {
          try await $0.runScript("CREATE SCHEMA shop; SET search_path = shop, public")
          try await $0.runScript(SQL(trusted: "\(Shop.tables)\n\(Self.rows)"))
          if pair.hasReposts { try await $0.execute("UPDATE reposts SET original_id = 9") }
        }
        let chunks = TwoChunks(database, directory: directory)
        for (index, part) in pair.before.enumerated() {
          try await chunks.apply(try await chunks.collect([part], firstJob: index + 1)[0])
        }
        try await database.withConnection { try await $0.runScript(SQL(trusted: pair.more)) }
        try await body(chunks)
      }
    }
  }

  /// Compares the outcomes of all forced orders with those of the two serial orders.
  private static func expectOneOrder(
    of one: @escaping TwoChunks.Work, and other: @escaping TwoChunks.Work, _ chunks: TwoChunks
  ) async throws {
    try await chunks.saveTables()
    let orders = [[one, other], [other, one]]
    var serial: [(state: [String], gates: [BatchGate])] = []
    for order in orders { serial.append(try await chunks.outcome(of: order)) }
    for (index, order) in orders.enumerated() {
      for gate in serial[index].gates {
        let outcome = try await chunks.outcome(of: order[0], stoppedAt: gate, beside: order[1])
        let differences = serial.map(\.state).map { expected in
          expected.filter { !outcome.contains($0) }.map { "- \($0)" }
            + outcome.filter { !expected.contains($0) }.map { "+ \($0)" }
        }
        #expect(
          differences.contains([]),
          """
          chunk \(index + 1) was stopped at \(gate); one, then the other: \(differences[0]); \
          the other, then one: \(differences[1])
          """)
      }
    }
  }
}
