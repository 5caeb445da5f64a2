import FaultPlans
import Foundation
import SystemPackage
import TestSupport
import Testing

@testable import ComplianceService

@Suite struct ResultLineInserterTests {
  /// The ID of an invalid line can be any text.
  @Test(arguments: [#"5"#, #"a\"b"#, #"a\\"#, #"\\\""#, ""])
  func anAddedLineHasTheSameID(id: String) throws {
    try withTemporaryDirectory { directory in
      let (result, copy) = (directory.appending("result"), directory.appending("copy"))
      try (#"{"id":"\#(id)","error":"invalid_id"}"# + "\n").write(
        toFile: result.string, atomically: false, encoding: .utf8)
      var inserter = try ResultLineInserter(result)
      inserter.add(.unknownLines(1))
      _ = try inserter.write(to: copy)
      let lines = try String(contentsOfFile: copy.string, encoding: .utf8).split(separator: "\n")
      let ids = try lines.map {
        try JSONDecoder().decode([String: String].self, from: Data($0.utf8))["id"]
      }
      #expect(ids.count == 2 && ids[0] == ids[1], "\(lines)")
    }
  }
}
