import TestSupport
import Testing

@testable import LetheCommands

/// Compares docs/reference/exit-codes.md with the program.
@Suite struct ExitCodeReferenceTests {
  @Test func thePageHasEachExitCodeWithItsName() throws {
    let rows = try Page("docs/reference/exit-codes.md").section("The codes").rows
    let documented = rows.map { "\($0[0]) \(quoted($0[1]).first ?? "")" }
    #expect(documented == ExitStatus.allCases.map { "\($0.rawValue) \($0.word)" })
  }

  @Test func theHelpNamesTheSameExitCodes() async throws {
    let help = try await Program.run("lethe", ["--help"]).stdout.split(whereSeparator: \.isNewline)
      .joined(separator: " ")
    for status in ExitStatus.allCases {
      #expect(help.contains(try Regex("[ :]\(status.rawValue) [a-z]")), "\(status.rawValue)")
    }
  }
}
