import Results
import Testing
import Vocabulary

@Suite struct LineScannerTests {
  private static let created = Timestamp("2021-08-11T19:42:55.000Z")
  private static let redacted = Timestamp("2022-01-02T03:04:05+00:00")

  /// The actions and reasons in the API's guide and in its older editions.
  @Test(arguments: [
    (JobType.tweets, "delete", "deleted", Reason.deleted),
    (.tweets, "delete", "protected", .protected),
    (.tweets, "delete", "deactivated", .deactivated),
    (.tweets, "delete", "suspended", .suspended),
    (.tweets, "delete", "bounced", .bounced),
    (.tweets, "scrub_geo", "geo_scrubbed", .geoScrubbed),
    (.tweets, "scrub_geo", "scrub_geo", .geoScrubbed),
    (.tweets, "delete", "scrub_geo", .geoScrubbed),  // the post stays
    (.tweets, "delete", "geo_scrubbed", .geoScrubbed),
    (.tweets, "rehydrate", "tweet_edited", .tweetEdited),
    (.users, "delete", "deleted", .deleted),
    (.users, "delete", "protected", .protected),
    (.users, "delete", "deactivated", .deactivated),
    (.users, "delete", "suspended", .suspended),
  ])
  func everyDocumentedLineIsAnEvent(type: JobType, action: String, word: String, reason: Reason) {
    let line =
      #"{"id":"1234567890123456789","action":"\#(action)","created_at":"2021-08-11T19:42:55.000Z","#
      + #""redacted_at":"2022-01-02T03:04:05+00:00","reason":"\#(word)"}"#
    let event = Event(
      id: 1_234_567_890_123_456_789, reason: reason, createdAt: Self.created,
      redactedAt: Self.redacted)
    #expect(scan(line, type) == .event(event))
  }

  @Test(arguments: [
    (JobType.tweets, "delete", "tweet_edited"), (.tweets, "rehydrate", "deleted"),
    (.tweets, "scrub_geo", "deleted"), (.tweets, "rehydrate", "geo_scrubbed"),
    (.tweets, "scrub_geo", "tweet_edited"), (.tweets, "protect", "protected"),
    (.tweets, "DELETE", "deleted"), (.tweets, "", "deleted"),
  ])
  func anUndocumentedPairIsRefused(type: JobType, action: String, word: String) {
    let line = #"{"id":"5","action":"\#(action)","reason":"\#(word)"}"#
    #expect(
      scan(line, type)
        == .refused("unknown action \"\(action)\" for the reason \(word)", id: 5))
  }

  @Test(arguments: ["bounced", "geo_scrubbed", "scrub_geo", "tweet_edited"])
  func aReasonOfPostsIsRefusedForUsers(word: String) {
    for action in ["delete", "scrub_geo", "rehydrate"] {
      #expect(
        scan(#"{"id":"5","action":"\#(action)","reason":"\#(word)"}"#, .users)
          == .refused("a job of type users cannot have the reason \(word)", id: 5))
    }
  }

  private static let plain = ScannedLine.event(
    Event(id: 5, reason: .deleted, createdAt: nil, redactedAt: nil))

  @Test(arguments: [
    #"{"id":"5","action":"delete","reason":"deleted"}"#,
    #"{"reason":"deleted","action":"delete","id":"5"}"#,
    #"{"action":"delete","id":5,"reason":"deleted"}"#,
    "  {\t\"id\" : \"5\" ,\r \"action\":\"delete\", \"reason\" :\t\"deleted\" } \r",
    #"{"id":"5","action":"delete","reason":"deleted","redacted_at":null,"created_at":null}"#,
    #"{"id":"5","action":"delete","reason":"deleted","error":null}"#,
    #"{"id":"5","action":"delete","reason":"deleted","deleted_at":null}"#,
    #"{"new":{"id":"6","a":[1,-0.5e+3,true,false,null,"]}"]},"id":"5","action":"delete","reason":"deleted"}"#,
    #"{"id":"5","action":"d\u0065lete","reason":"\u0064\u0065leted"}"#,
    #"{"id":"\u0035","action":"delete","reason":"deleted"}"#,
    #"{"\u0069d":"5","\u0061ction":"delete","reas\u006Fn":"deleted"}"#,
    #"{"id":"5","action":"delete","reason":"deleted","ID":"6","Action":"keep"," id":"7"}"#,
    #"{"id":"5","action":"delete","reason":"deleted","text":"\"\\\/\b\f\n\r\t\uD83D\uDE00 😀"}"#,
    #"{"id":"5","action":"delete","reason":"deleted","created_at":"","redacted_at":"soon"}"#,
    #"{"id":"005","action":"delete","reason":"deleted"}"#,
  ])
  func allSpellingsOfALineAreReadAsTheSameEvent(line: String) {
    #expect(scan(line) == Self.plain)
  }

  @Test func deletedAtIsAnAliasAndRedactedAtHasPriority() {
    func redactedAt(_ fields: String) -> Timestamp?? {
      guard
        case .event(let event) = scan(
          #"{"id":"5","action":"delete","reason":"deleted",\#(fields)}"#)
      else { return nil }
      return .some(event.redactedAt)
    }
    let first = "2022-01-02T03:04:05.000Z"
    let second = "2023-01-02T03:04:05.000Z"
    #expect(redactedAt(#""deleted_at":"\#(first)""#) == .some(Timestamp(first)))
    #expect(
      redactedAt(#""deleted_at":"\#(first)","redacted_at":"\#(second)""#)
        == .some(Timestamp(second)))
    #expect(
      redactedAt(#""redacted_at":null,"deleted_at":"\#(first)""#) == .some(Timestamp(first)))
    #expect(redactedAt(#""redacted_at":"2022-01-02T03:04:05\u005a""#) == .some(Timestamp(first)))
  }

  @Test(arguments: ["", " ", "\r", "\t \r"])
  func anEmptyLineIsBlank(line: String) {
    #expect(scan(line) == .blank)
  }

  @Test(arguments: [
    (#"{"action":"delete","reason":"deleted"}"#, "no id", nil as Int64?),
    (#"{"id":null,"action":"delete","reason":"deleted"}"#, "no id", nil),
    (#"{}"#, "no id", nil),
    (#"{"id":"5","reason":"deleted"}"#, "no action", 5),
    (#"{"id":"5","action":null,"reason":"deleted"}"#, "no action", 5),
    (#"{"id":"5","action":"delete"}"#, "no reason", 5),
    (#"{"id":"5","action":"delete","reason":"withheld"}"#, "unknown reason \"withheld\"", 5),
    (#"{"id":"5","action":"delete","reason":"Deleted"}"#, "unknown reason \"Deleted\"", 5),
    (#"{"id":"5","action":"delete","reason":""}"#, "unknown reason \"\"", 5),
    (#"{"id":["5"],"action":"delete","reason":"deleted"}"#, "id is not a string", nil),
    (#"{"id":true,"action":"delete","reason":"deleted"}"#, "id is not a string", nil),
    (#"{"id":5,"action":{"delete":1},"reason":"deleted"}"#, "action is not a string", nil),
    (#"{"id":"5","id":"6","action":"delete","reason":"deleted"}"#, "the key id appears twice", nil),
    (
      #"{"id":"5","\u0069d":"6","action":"delete","reason":"deleted"}"#, "the key id appears twice",
      nil
    ),
    (#"{"id":"5","reason":null,"reason":"deleted"}"#, "the key reason appears twice", nil),
    (
      #"{"id":"5","action":"delete","reason":"deleted"}{}"#, "something follows the JSON object",
      nil
    ),
    (
      #"{"id":"5","action":"delete","reason":"deleted"},"#, "something follows the JSON object", nil
    ),
    (#"["id"]"#, "not a JSON object", nil),
    (#""id""#, "not a JSON object", nil),
    ("null", "not a JSON object", nil),
    ("id,action,reason", "not a JSON object", nil),
    ("<html>", "not a JSON object", nil),
    ("\u{FEFF}{}", "not a JSON object", nil),
  ])
  func anUnusableLineIsRefusedWithTheReason(line: String, why: String, id: Int64?) {
    #expect(scan(line) == .refused(why, id: id))
  }

  /// In an error line, the API quotes the uploaded line that caused the error. Lethe takes the quoted text as an ID
  /// only if a chunk file could contain it as a line.
  @Test(
    arguments: [
      (#"{"id":"not_a_valid_id","error":"invalid_id"}"#, "invalid_id", nil),
      (#"{"id":"5","error":"invalid_id"}"#, "invalid_id", 5),
      (#"{"error":"invalid_id","id":5}"#, "invalid_id", 5),
      (#"{"id":"\u0035","error":"withheld","action":"delete","reason":"deleted"}"#, "withheld", 5),
      (#"{"id":"5","action":"delete","reason":"deleted","error":"odd"}"#, "odd", 5),
      (#"{"id":"5","action":"delete","reason":"deleted","\u0065rror":"odd"}"#, "odd", 5),
      (#"{"id":"05","error":"invalid_id"}"#, "invalid_id", nil),
      (#"{"id":" 5","error":"invalid_id"}"#, "invalid_id", nil),
      (#"{"id":"5\r","error":"invalid_id"}"#, "invalid_id", nil),
      (#"{"id":"","error":"invalid_id"}"#, "invalid_id", nil),
      (#"{"id":"9223372036854775808","error":"invalid_id"}"#, "invalid_id", nil),
    ] as [(String, String, Int64?)])
  func anErrorLineHasAnIDOnlyIfAChunkFileCouldContainIt(line: String, word: String, id: Int64?) {
    #expect(scan(line) == .error("the API says \(word)", id: id))
  }

  @Test func anErrorLineWithoutAnIDIsRefused() {
    for line in [#"{"error":"internal"}"#, #"{"error":"internal","id":null}"#] {
      #expect(scan(line) == .refused("the API says internal", id: nil))
    }
  }

  @Test(arguments: [
    "{", "{\"id\"", "{\"id\":", "{\"id\":\"5", "{\"id\":\"5\"", "{\"id\":\"5\",", "{\"id\":\"5\",}",
    "{,}", "{id:5}", "{'id':'5'}", "{\"id\" \"5\"}", "{\"id\":\"5\" \"action\":\"delete\"}",
    "{\"id\":05}", "{\"x\":.5}", "{\"x\":1.}", "{\"x\":-}", "{\"x\":+1}", "{\"x\":1e}",
    "{\"x\":tru}",
    "{\"x\":True}", "{\"x\":NaN}", "{\"x\":[1,]}", "{\"x\":[1}", "{\"x\":{\"y\"}}", "{\"x\":{1:2}}",
    "{\"x\":\"\t\"}", "{\"x\":\"\\x\"}", "{\"x\":\"\\u12g4\"}", "{\"x\":\"\\u123\"}",
    "{\"x\":\"\\\"}",
    "{\"x\":1}}}",
  ])
  func brokenJSONIsRefused(line: String) throws {
    let why = try #require(refusal(line))
    #expect(why.hasPrefix("malformed JSON: ") || why == "something follows the JSON object")
  }

  @Test(
    arguments: [
      [0xFF], [0xC0, 0xAF], [0xE2, 0x82], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0x80],
    ] as [[UInt8]])
  func invalidUTF8IsRefusedAtEveryPlace(bytes: [UInt8]) {
    for padding in 0..<9 {
      let line =
        Array(#"{"id":"5","action":"delete","reason":"deleted","x":""#.utf8)
        + Array(repeating: UInt8(ascii: "a"), count: padding) + bytes + Array("\"}".utf8)
      #expect(scan(line) == .refused("not UTF-8", id: nil))
    }
  }

  @Test(arguments: [
    ("1", 1 as Int64?), ("9007199254740993", 9_007_199_254_740_993),
    ("1999999999999999999", 1_999_999_999_999_999_999), ("9223372036854775807", Int64.max),
    ("9223372036854775808", nil), ("9999999999999999999", nil), ("18446744073709551621", nil),
    ("0", nil), ("00000000000000000005", nil),
  ])
  func idsHaveUpTo63BitsAndAreNotReadAsFloats(digits: String, id: Int64?) {
    let rest = #""action":"delete","reason":"deleted"}"#
    let expected =
      id.map {
        ScannedLine.event(Event(id: $0, reason: .deleted, createdAt: nil, redactedAt: nil))
      } ?? .refused("the id is not an integer from 1 to 9223372036854775807", id: nil)
    #expect(scan(#"{"id":"\#(digits)",\#(rest)"#) == expected)
    let escaped = digits.unicodeScalars.map { "\\u00" + String($0.value, radix: 16) }.joined()
    #expect(scan(#"{"id":"\#(escaped)",\#(rest)"#) == expected)
    if !digits.hasPrefix("0") || digits == "0" {
      #expect(scan(#"{"id":\#(digits),\#(rest)"#) == expected)
    }
  }

  @Test(arguments: [
    "-5", "+5", "5 ", " 5", "5.0", "5e3", "0x5", "５", "", "five", "5\\n", "\\u002b5",
  ])
  func anInvalidTextIsNotAnID(text: String) {
    #expect(
      scan(#"{"id":"\#(text)","action":"delete","reason":"deleted"}"#)
        == .refused("the id is not an integer from 1 to 9223372036854775807", id: nil))
  }

  @Test(arguments: ["-5", "5.0", "5e3", "5E0", "0.5"])
  func aNumberThatIsNotAnIDIsRefused(number: String) {
    #expect(
      scan(#"{"id":\#(number),"action":"delete","reason":"deleted"}"#)
        == .refused("id is not a string", id: nil))
  }

  @Test func aValueThatIsNestedTooDeeplyIsRefused() {
    func line(_ depth: Int) -> String {
      #"{"x":"# + String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        + #","id":"5","action":"delete","reason":"deleted"}"#
    }
    #expect(scan(line(16)) == Self.plain)
    #expect(refusal(line(17)) == "malformed JSON: a value is not well formed")
    #expect(refusal(line(60_000)) == "malformed JSON: a value is not well formed")
  }
}
