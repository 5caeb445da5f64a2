import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing

/// Rows whose ID cannot be sent to the API. Each report of a run has the number of these rows.
@Suite struct LeftOutTests {
  /// An ID column and its values. The `cause` of a value is the reason why Lethe leaves out the row. It is nil if Lethe
  /// asks about the ID.
  struct Column: Sendable, CustomTestStringConvertible {
    var type: String
    var setupSQL = ""
    var values: [(value: String, cause: String?)]

    var testDescription: String { type }

    /// The number of left-out rows for each cause.
    var expected: [String: Int] {
      Dictionary(grouping: values.compactMap(\.cause)) { $0 }.mapValues(\.count)
    }

    var inserts: String {
      values.map { "INSERT INTO items (item) VALUES (\($0.value));" }.joined(separator: "\n")
    }
  }

  private static let texts: [(value: String, cause: String?)] = [
    ("'15'", nil), ("'9223372036854775807'", nil), ("'1460323737035677698'", nil),
    ("' 16'", "blanks"), ("E'17\\r'", "blanks"), ("E'\\t18\\n'", "blanks"), ("' 019 '", "blanks"),
    ("E'20\\x0B'", "blanks"), ("'021'", "leading_zeros"),
    ("'0000000000000000000022'", "leading_zeros"),
    ("'0'", "out_of_range"), ("'-5'", "out_of_range"), ("'+5'", "out_of_range"),
    ("'9223372036854775808'", "out_of_range"), ("' 99999999999999999999'", "out_of_range"),
    ("'1.5'", "fraction"), ("''", "not_a_number"), ("' '", "not_a_number"),
    ("'abc'", "not_a_number"), ("'1 5'", "not_a_number"), ("'１５'", "not_a_number"),
    ("E'15\\u00A0'", "not_a_number"), ("'1e3'", "not_a_number"), ("NULL", "missing"),
    ("NULL", "missing"),
  ]

  private static let numbers: [(value: String, cause: String?)] = [
    ("15", nil), ("9223372036854775807", nil), ("0", "out_of_range"), ("-1", "out_of_range"),
    ("NULL", "missing"),
  ]

  static let columns: [Column] = [
    Column(type: "text", values: texts), Column(type: "character varying(40)", values: texts),
    Column(type: "label", setupSQL: "CREATE DOMAIN label AS text;", values: texts),
    Column(
      type: "text COLLATE loose",
      setupSQL:
        """
        CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        """,
      values: texts),
    Column(type: "bigint", values: numbers),
    Column(type: "bigint UNIQUE", values: numbers),
    Column(
      type: "integer NOT NULL", values: [("15", nil), ("16", nil), ("-1", "out_of_range")]),
    Column(
      type: "numeric",
      values: numbers + [
        ("16.00", nil), ("1.5", "fraction"), ("'NaN'", "not_a_number"),
        ("'Infinity'", "out_of_range"), ("9223372036854775808", "out_of_range"),
        ("0.5", "fraction"),
      ]),
    Column(
      type: "numeric(20,0)",
      values: numbers + [
        ("9223372036854775808", "out_of_range"), ("'NaN'", "not_a_number"), ("16", nil),
      ]),
  ]

  static func definition(limits: String = "", keys: String = "", others: String = "") -> String {
    """
    name: shop
    warehouse: ${DATABASE_URL}
    api: {base_url: "${COMPLIANCE_API_URL}", bearer_token: t, poll_seconds: 0.02, poll_seconds_max: 0.05}
    limits: {max_redacted_percent: 100, allow_whole_chunks: true\(limits)}
    datasets:
      items:
        type: tweets
        table: shop.items
        id: item
        actions: {deleted: delete, bounced: delete, suspended: delete, deactivated: delete,
                  protected: ignore, geo_scrubbed: ignore, tweet_edited: ignore}
    \(keys)
    \(others)
    """
  }

  static func tables(_ column: Column) -> String {
    """
    \(column.setupSQL)
    CREATE TABLE items (item \(column.type), key serial PRIMARY KEY, is_new boolean NOT NULL DEFAULT true);
    \(column.inserts)
    """
  }

  struct CommandOutput: Decodable {
    struct Dataset: Decodable {
      var dataset: String?
      var ids: Int
      var left_out: [String: Int]
    }
    struct Finding: Decodable {
      var severity: String
      var path: String
      var message: String
      var remedy: String
    }
    struct Run: Decodable {
      var left_out: [String: [String: Int]]
    }
    struct Failure: Decodable {
      var code: String
      var message: String
    }
    var findings: [Finding]?
    var runs: [Run]?
    var error: Failure?
  }

  struct RunOutput: Decodable {
    var datasets: [String: CommandOutput.Dataset]
    var error: CommandOutput.Failure?
  }

  struct PlanOutput: Decodable {
    var datasets: [CommandOutput.Dataset]
  }

  private static func json<Value: Decodable>(
    _ type: Value.Type, _ result: Program.Result
  ) throws -> Value {
    let line = try #require(result.stdout.split(separator: "\n").last, "\(result)")
    return try JSONDecoder().decode(type, from: Data(line.utf8))
  }

  @Test(arguments: columns)
  func rowsThatAreLeftOutAreCounted(column: Column) async throws {
    let isLoose = column.type.contains("loose")
    guard try await ServerFeature.icu.isAvailable(ifNeeded: isLoose) else { return }
    let ids = column.values.filter { $0.cause == nil }.count
    let definition = Self.definition()
    try await NightlyFixture.with(definition: definition, tables: Self.tables(column)) { nights in
      let total = "\(column.expected.values.reduce(0, +)) of \(column.values.count) rows"
      let check = try await nights.lethe("check", "PIPELINE", "--output", "json")
      let findings = try Self.json(CommandOutput.self, check).findings ?? []
      #expect(check.code == 0, "\(check)")
      let finding = try #require(
        findings.first { $0.path == "datasets.items.id" && $0.message.contains("left out") })
      #expect(finding.severity == "warning" && finding.message.contains(total), "\(finding)")
      #expect(
        finding.remedy.contains("normalize: digits") == column.type.contains(/text|char|label/))

      let plan = try Self.json(
        PlanOutput.self, await nights.lethe("plan", "PIPELINE", "--output", "json"))
      #expect(plan.datasets.map(\.left_out) == [column.expected])
      #expect(plan.datasets.map(\.ids) == [ids])

      let json = try await nights.lethe("run", "PIPELINE", "--output", "json")
      #expect(json.code == 0, "\(json)")
      let items = try #require(try Self.json(RunOutput.self, json).datasets["items"])
      #expect(items.left_out == column.expected && items.ids == ids)

      let run = try await nights.lethe("run", "PIPELINE")
      #expect(!run.stdout.contains("all are as intended"), "\(run)")
      #expect(run.stdout.contains("X was not asked about them"), "\(run)")
      let status = try Self.json(
        CommandOutput.self,
        await nights.lethe("status", "--database", nights.url, "--output", "json"))
      #expect(status.runs?.first?.left_out == ["items": column.expected])
      let text = try await nights.lethe("status", "--database", nights.url)
      #expect(text.stdout.contains("X was not asked about them"), "\(text)")
    }
  }

  @Test func nothingIsReportedIfNoRowIsLeftOut() async throws {
    let column = Column(type: "text", values: [("'15'", nil), ("'16'", nil)])
    try await NightlyFixture.with(definition: Self.definition(), tables: Self.tables(column)) {
      nights in
      let run = try await nights.lethe("run", "PIPELINE")
      #expect(run.stdout.contains("all are as intended"), "\(run)")
      let status = try await nights.lethe("status", "--database", nights.url)
      #expect(!status.stdout.contains("was not asked"), "\(status)")
    }
  }

  /// Rows that the operator's condition excludes do not count as left out.
  @Test func rowsOutsideTheConditionAreNotLeftOut() async throws {
    let column = Column(
      type: "text", values: [("'15'", nil), ("' 16'", "blanks"), ("'x'", "not_a_number")])
    let definition = Self.definition(keys: "    where: \"item <> 'x' -- no comment\"")
    try await NightlyFixture.with(definition: definition, tables: Self.tables(column)) { nights in
      let run = try Self.json(
        RunOutput.self, await nights.lethe("run", "PIPELINE", "--output", "json"))
      #expect(run.datasets["items"]?.left_out == ["blanks": 1])
    }
  }

  // MARK: The limit

  struct Limit: Sendable, CustomTestStringConvertible {
    /// The number of rows that Lethe can ask about.
    var good: Int
    /// The number of rows that Lethe leaves out.
    var bad: Int
    var limits: String
    var stops: Bool

    var testDescription: String { "\(good) and \(bad)\(limits)" }
  }

  static let limits = [
    Limit(good: 3, bad: 1, limits: "", stops: false),
    Limit(good: 1, bad: 999, limits: "", stops: false),
    Limit(good: 0, bad: 4, limits: "", stops: true),
    Limit(good: 0, bad: 0, limits: "", stops: false),
    Limit(good: 3, bad: 1, limits: ", max_skipped_percent: 25", stops: false),
    Limit(good: 3, bad: 1, limits: ", max_skipped_percent: 24.9", stops: true),
    Limit(good: 999, bad: 1, limits: ", max_skipped_percent: 0", stops: true),
    Limit(good: 5, bad: 0, limits: ", max_skipped_percent: 0", stops: false),
    Limit(good: 0, bad: 4, limits: ", max_skipped_percent: 100", stops: true),
  ]

  @Test(arguments: sampled(limits, ["text", "bigint"], limits.count))
  func aDatasetThatLeavesOutTooMuchStopsBeforeItsFirstJob(
    limit: Limit, type: String
  ) async throws {
    let bad = type == "text" ? "n || ' '" : "-n"
    let tables = """
      CREATE TABLE items (item \(type), key serial PRIMARY KEY);
      INSERT INTO items (item) SELECT n FROM generate_series(1, \(limit.good)) AS n;
      INSERT INTO items (item) SELECT \(bad) FROM generate_series(1, \(limit.bad)) AS n;
      CREATE TABLE people (id bigint PRIMARY KEY);
      INSERT INTO people VALUES (7)
      """
    let people = """
        people:
          type: users
          table: shop.people
          id: id
          actions: {deleted: delete, suspended: delete, deactivated: delete, protected: ignore}
      """
    let definition = Self.definition(limits: limit.limits, others: people)
    try await NightlyFixture.with(definition: definition, tables: tables) { nights in
      nights.answer([
        .init(type: "tweets", id: 1): "deleted", .init(type: "users", id: 7): "deleted",
      ])
      let check = try await nights.lethe("check", "PIPELINE")
      #expect(check.code == (limit.stops ? 2 : 0), "\(check)")
      let run = try await nights.lethe("run", "PIPELINE", "--output", "json")
      #expect(run.code == (limit.stops ? 3 : 0), "\(run)")
      let jobs = try await nights.rows(
        "SELECT count(*) FROM lethe.job JOIN lethe.chunk USING (chunk_id) WHERE type = 'tweets'")
      #expect(jobs == ["(\(limit.stops || limit.good == 0 ? 0 : 1))"])
      // The limit of one dataset does not stop the other dataset.
      #expect(try await nights.rows("SELECT FROM shop.people").count == 0)
      let left = try await nights.rows("SELECT FROM shop.items").count
      #expect(left == limit.good + limit.bad - (limit.stops || limit.good == 0 ? 0 : 1))
      let status = try await nights.lethe("status", "--database", nights.url)
      #expect(status.stdout.contains("items of shop was not exported") == limit.stops, "\(status)")
      guard limit.stops else { return }
      let error = try #require(try Self.json(RunOutput.self, run).error)
      #expect(error.code == "limit_stopped" && error.message.contains("items"), "\(error)")

      try await nights.execute(
        "DELETE FROM shop.items WHERE item::text !~ '^[0-9]+$'")
      let next = try await nights.lethe("run", "PIPELINE")
      #expect(next.code == 0, "\(next)")
    }
  }
}
