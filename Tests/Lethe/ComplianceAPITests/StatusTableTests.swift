import Foundation
import TestSupport
import Testing

@testable import ComplianceAPI

/// Compares docs/reference/api-outcomes.md with the program.
@Suite struct StatusTableTests {
  private static let outcomes: [String: APIError.Kind] = [
    "again": .temporary, "rate limit": .rateLimited, "cap reached": .capped,
    "no credits": .creditsDepleted, "credentials": .credentials, "leads elsewhere": .redirected,
    "request refused": .invalidRequest, "job unknown": .notFound, "job refused": .jobRefused,
    "URL refused": .urlRefused, "no result": .noResult, "too large": .tooLarge,
    "slot taken": .conflict,
  ]

  private static let calls: [String: Endpoint] = [
    "create": .create, "list": .list, "get": .get, "cancel": .cancel, "upload": .upload,
    "session": .session, "part": .part, "download": .download,
  ]

  /// Returns the cells of each row of a table. The table's first row begins with `heading`.
  private static func table(_ heading: String) throws -> [[String]] {
    let text = try String(
      contentsOfFile: "\(repositoryRootPath)/docs/reference/api-outcomes.md", encoding: .utf8)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
      .drop { !$0.hasPrefix("| \(heading) |") }.prefix { $0.hasPrefix("|") }
    let rows = lines.map { line in
      line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
    }
    return [rows[0]] + rows.dropFirst(2)
  }

  @Test func everyStatusHasTheOutcomeOnThePage() throws {
    let rows = try Self.table("status")
    #expect(rows.count > 15)
    for row in rows.dropFirst() {
      let isErrorList = row[0].contains("errors")
      let statuses: [Int?] =
        isErrorList
        ? [nil] : row[0].split(separator: ",").map { Int($0.trimmingCharacters(in: .whitespaces)) }
      for (name, outcome) in zip(rows[0], row).dropFirst() {
        let call = try #require(Self.calls[name])
        for status in statuses {
          let comment: Comment = "\(name) \(row[0])"
          if let status, StatusTable.isSuccess(status, of: call) {
            #expect(outcome == "done", comment)
          } else if isErrorList, call.carriesBytes {
            #expect(outcome == "done", comment)
          } else {
            #expect(Self.outcomes[outcome] == StatusTable.kind(status, nil, for: call), comment)
          }
        }
      }
    }
  }

  @Test func everyProblemHasTheOutcomeOnThePage() throws {
    let rows = try Self.table("word")
    #expect(rows[0].count == 4)
    for row in rows.dropFirst() {
      for word in row[0].split(separator: ",").map({ $0.trimmingCharacters(in: .whitespaces) }) {
        let bodies =
          Int(word) != nil
          ? [#"{"errors":[{"code":\#(word),"message":"m"}]}"#]
          : [
            #"{"type":"https://api.twitter.com/2/problems/\#(word)","title":"t"}"#,
            #"{"errors":[{"value":"1","type":"https://api.x.com/2/problems/\#(word)"}]}"#,
            "<?xml version='1.0'?><Error><Code>\(word)</Code><Message>m</Message></Error>",
            #"{"reason":"\#(word)"}"#, #"{"title":"\#(word)","detail":[1],"status":"x"}"#,
          ]
        for body in bodies {
          let problem = Problem(body: Array(body.utf8), secrets: [])
          for (names, cell) in zip(rows[0], row).dropFirst() {
            for name in names.split(separator: ",").map({ $0.trimmingCharacters(in: .whitespaces) })
            {
              let call = try #require(Self.calls[name])
              for status in [nil, 200, 400, 403, 404, 429] {
                let kind = StatusTable.kind(status, problem.cause, for: call)
                let bare = StatusTable.kind(status, nil, for: call)
                #expect(kind == (cell == "-" ? bare : Self.outcomes[cell]), "\(name) \(body)")
              }
            }
          }
        }
      }
    }
  }

  /// The page explains each outcome that its two tables contain.
  @Test func everyOutcomeIsExplained() throws {
    let text = try String(
      contentsOfFile: "\(repositoryRootPath)/docs/reference/api-outcomes.md", encoding: .utf8)
    let consequences = text.split(separator: "## What becomes of it").last ?? ""
    for outcome in Self.outcomes.keys {
      #expect(consequences.contains(outcome), "\(outcome)")
    }
  }
}
