import Definitions
import PostgreSQL
import TestSupport
import Testing
import Vocabulary
import Warehouse

/// Tests of values that Lethe evaluates, and of values that only look like constants.
@Suite struct ValueExpressionTests {
  enum ExpectedFinding: Sendable {
    case nothing
    case error(String)
    case warning(String)
  }

  struct Case: Sendable, CustomTestStringConvertible {
    let type: String
    let value: String
    let expected: ExpectedFinding

    var testDescription: String { "\(type) \(value)" }

    init(_ type: String, _ value: String, _ expected: ExpectedFinding = .nothing) {
      self.type = type
      self.value = value
      self.expected = expected
    }
  }

  private static let times = ["timestamptz", "timestamp", "date", "shop.moment"]

  private static let allowed: [Case] =
    times.flatMap { type in
      [
        "now()", "NOW()", "Now()", "' now() '", "\"\\tnow()\\n\"", "current_date", "CURRENT_DATE",
        "'  Current_Date '", "'2020-01-01'", "infinity", "'-infinity'", "epoch", "EPOCH",
        "'January 8, 1999'", "null",
      ].map { Case(type, $0) }
    } + [
      Case("timestamptz", "'2020-01-01 10:00+00'"),
      Case("timestamptz", "'1999-01-08 04:05 America/New_York'"),
      Case("timestamptz(0)", "now()"), Case("timestamptz(0)", "current_date"),
      Case("text", "today"), Case("text", "now"), Case("text", "tomorrow"),
      Case("text", "yesterday"),
      Case("text", "timeofday"), Case("text", "'hidden until now() is called'"),
      Case("varchar(20)", "allballs"), Case("text[]", "'{now,today}'"),
      Case("time", "'10:00'"), Case("time", "allballs"), Case("interval", "'1 day'"),
      Case("tstzrange", "'[2020-01-01,)'"), Case("jsonb", "'\"now\"'"),
    ]

  private static let changing: [Case] =
    times.flatMap { type in
      [
        ("now", "now"), ("NOW", "now"), ("'now'", "now"), ("' Today '", "today"),
        ("tomorrow", "tomorrow"), ("YESTERDAY", "yesterday"), ("now( )", "now"),
        ("'(now())'", "now"), ("now() + 1", "now"), ("'now() - interval ''1 day'''", "now"),
        ("'today 10:00'", "today"), ("'10:00 tomorrow'", "tomorrow"), ("'today10:00'", "today"),
        ("'!yesterday;'", "yesterday"), ("pg_catalog.now()", "now"), ("'now(),'", "now"),
      ].map { Case(type, $0.0, .error(": \($0.1) means a different time in each run")) }
    } + [
      Case("time", "now", .error(": now means a different time")),
      Case("timetz", "now()", .error(": now means a different time")),
      Case("timestamptz[]", "'{now,2020-01-01}'", .error(": now means a different time")),
      Case("shop.moment[]", "'{today}'", .error(": today means a different time")),
      Case("tstzrange", "'[now,)'", .error(": now means a different time")),
      Case("datemultirange", "'{[today,)}'", .error(": today means a different time")),
      Case("shop.pair", "'(1,tomorrow)'", .error(": tomorrow means a different time")),
    ]

  private static let calls: [Case] =
    times.flatMap { type in
      [
        "CURRENT_TIMESTAMP", "current_timestamp(3)", "localtimestamp", "LocalTimestamp (0)",
        "transaction_timestamp()", "statement_timestamp()", "clock_timestamp( )", "timeofday()",
        "sysdate", "current_time", "getdate()", "pg_catalog.clock_timestamp()",
      ].map { Case(type, $0, .error("cannot be set to \($0): it is not evaluated in a literal")) }
    } + [
      Case(
        "time", "localtime", .error("cannot be set to localtime: it is not evaluated in a literal")),
      Case("timestamptz", "'2020-01-01 allballs'", .error(": allballs is a word for 00:00 UTC")),
      Case("date", "allballs", .error(": allballs is a word for 00:00 UTC")),
      Case("text", "now()", .warning("gets the text now(), not a time")),
      Case("varchar", "' NOW() '", .warning("gets the text  NOW() , not a time")),
      Case("shop.words", "current_date", .warning("gets the text current_date, not a time")),
      Case("char(20)", "CURRENT_TIMESTAMP", .warning("gets the text CURRENT_TIMESTAMP")),
      Case("text", "timeofday()", .warning("gets the text timeofday(), not a time")),
      Case("bigint", "now()", .error("is bigint and refuses the value now()")),
      Case("timestamptz", "nowadays", .error("refuses the value nowadays")),
      Case("shop.past", "now()", .error("is shop.past and refuses the value now()")),
    ]

  private static let tables =
    CatalogCheckTests.tables + """
      CREATE DOMAIN shop.instant AS timestamptz; CREATE DOMAIN shop.moment AS shop.instant;
      CREATE DOMAIN shop.past AS timestamptz CHECK (VALUE < '2020-01-01');
      CREATE DOMAIN shop.words AS text;
      CREATE TYPE shop.pair AS (number int, at timestamptz);
      """

  /// The ways to set a column: a part of the definition, and its replacement. `VALUE` stands for the value.
  private static let ways = [
    ("{set: {visibility: hidden}, restore: {visibility: shown}}", "{set: {at: VALUE}}"),
    (
      "{set: {visibility: hidden}, restore: {visibility: shown}}",
      "{set: {at: null}, restore: {at: VALUE}}"
    ),
    ("scrub_geo: {scrub_geo: [latitude]}", "scrub_geo: {scrub_geo: {at: VALUE}}"),
    ("deleted: delete\n      bounced", "deleted: {redact: {at: VALUE}}\n      bounced"),
    ("tweet_edited: rehydrate", "tweet_edited: {rehydrate: {set: {at: VALUE}}}"),
  ]

  private static let all = allowed + changing + calls

  @Test(arguments: Set(all.map(\.type)).sorted())
  func aValueIsAcceptedOrRefusedByTheTypeOfItsColumn(type: String) async throws {
    let cases = Self.all.filter { $0.type == type }
    try await Self.check(cases, way: Self.ways[0], line: 15, type: type)
  }

  /// All ways to set a column accept the same values.
  @Test(arguments: zip(ways, [15, 15, 16, 11, 17]))
  func aValueIsAcceptedOrRefusedOnItsLine(way: (String, String), line: Int) async throws {
    let values = ["now()", "'2020-01-01'", "today", "NOW", "CURRENT_TIMESTAMP", "now() + 1"]
    let cases = Self.all.filter { $0.type == "timestamptz" && values.contains($0.value) }
    try #require(cases.count == 5)
    try await Self.check(cases, way: way, line: line, type: "timestamptz")
  }

  private static func check(
    _ cases: [Case], way: (part: String, other: String), line: Int, type: String
  ) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await connection.runScript(tables + "ALTER TABLE shop.posts ADD at \(trusted: type)")
        for testCase in cases {
          let yaml = CatalogCheckTests.yaml.editing(
            way.part, to: way.other.replacing("VALUE", with: testCase.value))
          try #require(yaml != CatalogCheckTests.yaml)
          let pipeline = try Samples.parse(yaml)
          let found = try await Catalog(of: pipeline.definition, on: connection)
            .check(pipeline.definition, on: connection)
          let (severity, message): (Finding.Severity?, String) =
            switch testCase.expected {
            case .nothing: (nil, "")
            case .error(let message): (.error, message)
            case .warning(let message): (.warning, message)
            }
          #expect(found.map(\.severity) == (severity.map { [$0] } ?? []), "\(testCase): \(found)")
          for finding in found {
            #expect(pipeline.line(of: finding.path) == line, "\(testCase): \(found)")
            #expect(finding.message.contains(message), "\(testCase): \(found)")
            #expect(finding.message.contains("shop.posts.at is "), "\(testCase): \(found)")
            #expect(!finding.remedy.isEmpty)
          }
        }
      }
    }
  }

  /// Lethe refuses `now`, `today`, `tomorrow` and `yesterday` as a date or timestamp literal, because their values
  /// change. PostgreSQL's other special literals have the same value in each transaction, so Lethe accepts them as
  /// constants.
  @Test(arguments: ["epoch", "infinity", "-infinity", "2020-01-01 allballs"])
  func aSpecialTimeLiteralWithAFixedValueIsAConstant(literal: String) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        let sql: SQL =
          """
          SELECT \(literal)::text::timestamp::text,
                 \(literal)::text::timestamp < now() - interval '1 day' OR \(literal)::text = 'infinity'
          """
        let first = try await connection.query(sql).onlyRow(as: String.self, Bool.self)
        #expect(first.1)
        #expect(
          try await connection.query(sql).onlyRow(as: String.self, Bool.self) == first)
      }
    }
  }

  @Test(
    arguments: [
      ("now()", ValueExpression.now), (" NOW() ", .now), ("\ncurrent_date\t", .currentDate),
      ("Current_Date", .currentDate), ("now", nil), ("now ()", nil), ("current_date()", nil),
      ("'now()'", nil), ("", nil), ("now()+1", nil),
    ] as [(String, ValueExpression?)])
  func onlyTwoExpressionsAreEvaluated(value: String, expression: ValueExpression?) async throws {
    try await withTestDatabase { database in
      try await database.withConnection { connection in
        try await connection.runScript(
          "CREATE TABLE times (a timestamptz, b timestamp, c date, d text, e time, f timestamptz[])"
        )
        let name = TableName(schema: nil, name: "times")
        let definition = Definition(
          name: "times", limits: RedactionLimits(maxRedactedPercent: 1, maxRedactedRows: 1),
          datasets: [
            Dataset(
              name: "times", type: .tweets, table: name, id: "d", condition: nil, chunkIDsMax: 1,
              chunkBytesMax: 20, actions: [:], targets: [], tombstones: true, batch: nil)
          ])
        let table = try #require(
          try await Catalog(of: definition, on: connection).table(name))
        for (column, isTime) in [
          "a": true, "b": true, "c": true, "d": false, "e": false, "f": false,
        ] {
          let column = try #require(table.columns[column])
          #expect(column.isTime == isTime)
          #expect(ValueExpression(value, column: column) == (isTime ? expression : nil))
          #expect(ValueExpression(nil, column: column) == nil)
        }
        if let expression {
          let isNow = try await connection.query(
            SQL("SELECT \(expression.sql)::timestamptz IN (now(), current_date)")
          ).onlyRow(as: Bool.self)
          #expect(isNow)
        }
      }
    }
  }
}
