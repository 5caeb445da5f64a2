import SQLText
import Testing

/// Tests of the text and the parameters of statements. `PostgreSQLTests` test the values on a server.
@Suite struct SQLTests {
  private static func texts(_ parameters: [Parameter]) -> [String] {
    parameters.map { "\($0)" }
  }

  @Test func placeholdersAreNumberedInOrder() {
    let range: SQL = "id > \(7) AND id <= \(9)"
    let (text, parameters) = ("SELECT \("x")::text WHERE \(range) AND y = \(true)" as SQL).statement
    #expect(text == "SELECT $1::text WHERE id > $2 AND id <= $3 AND y = $4")
    #expect(
      Self.texts(parameters)
        == Self.texts([.text("x"), .integer(7), .integer(9), .bool(true)]))
  }

  @Test func aRepeatedPartKeepsItsPlaceholder() {
    let id: SQL = "\(5)"
    let (text, parameters) = ("a = \(id) OR b = \(id) OR c = \(5)" as SQL).statement
    #expect(text == "a = $1 OR b = $1 OR c = $2")
    #expect(parameters.count == 2)
  }

  @Test func nilIsBoundAsNull() {
    let (name, number): (String?, Int64?) = (nil, nil)
    let parameters = ("\(name), \(number)" as SQL).statement.parameters
    #expect(Self.texts(parameters) == Self.texts([.null, .null]))
  }

  @Test(
    arguments: [
      ("plain", "'plain'"), ("it's", "'it''s'"), ("", "''"), ("a\\b", " E'a\\\\b'"),
      ("\\'", " E'\\\\'''"),
    ])
  func aLiteralIsQuoted(text: String, literal: String) {
    #expect(("\(literal: text)" as SQL).description == literal)
  }

  @Test func namesAreQuotedAndTrustedTextIsNot() {
    let sql: SQL = "\(identifier: "a \"b\"") \(trusted: "c \"d\" $1") \(literal: -3)"
    #expect(sql.description == "\"a \"\"b\"\"\" c \"d\" $1 (-3)")
  }

  @Test func partsAreJoined() {
    let parts: [SQL] = ["a = \(1)", "", "b = \(2)"]
    #expect(parts.joined(separator: " AND ").description == "a = $1 AND  AND b = $2")
    #expect([SQL]().joined(separator: ", ").isEmpty)
    #expect(("" as SQL).isEmpty && !(" " as SQL).isEmpty)
    #expect(("a = \(1)" as SQL + " OR b = \(2)").description == "a = $1 OR b = $2")
  }

  /// A description has placeholders and no values, because values can be secret.
  @Test func noDescriptionHasAValue() {
    let sql: SQL = "SELECT \("hunter2")::text"
    var dumped = ""
    dump(sql, to: &dumped)
    for text in [sql.description, sql.debugDescription, String(reflecting: sql), dumped] {
      #expect(text.contains("SELECT $1::text") && !text.contains("hunter2"))
    }
  }
}
