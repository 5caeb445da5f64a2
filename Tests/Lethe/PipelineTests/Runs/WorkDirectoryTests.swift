import Foundation
import PostgreSQL
import TestSupport
import Testing

/// Tests of how Lethe chooses the folder of the chunk files.
@Suite struct WorkDirectoryTests {
  /// `@` in a path stands for the test's own folder.
  struct Case: Sendable, CustomTestStringConvertible {
    let variables: [String: String]
    let option: String?
    /// Nil means `.local/state/lethe` in the home directory that `/etc/passwd` contains.
    let expected: String?

    var testDescription: String { "\(variables) \(option ?? "")" }

    init(_ variables: [String: String], option: String? = nil, _ expected: String?) {
      (self.variables, self.option, self.expected) = (variables, option, expected)
    }
  }

  private static let all = [
    "LETHE_WORK_DIR": "@/own", "XDG_STATE_HOME": "@/state", "HOME": "@/home",
  ]
  private static let cases: [Case] = [
    Case(all, "@/own"), Case(all, option: "@/option", "@/option"),
    Case(all.merging(["LETHE_WORK_DIR": ""]) { $1 }, "@/state/lethe"),
    Case(["XDG_STATE_HOME": "@/state", "HOME": "@/home"], "@/state/lethe"),
    Case(["XDG_STATE_HOME": "@/state"], "@/state/lethe"),
    // The XDG Base Directory Specification says: "All paths set in these environment variables must be absolute."
    Case(["XDG_STATE_HOME": "state", "HOME": "@/home"], "@/home/.local/state/lethe"),
    Case(["XDG_STATE_HOME": "", "HOME": "@/home"], "@/home/.local/state/lethe"),
    Case(["HOME": "@/home"], "@/home/.local/state/lethe"),
    Case(["HOME": ""], nil), Case(["HOME": "home"], nil), Case([:], nil),
  ]

  @Test(arguments: cases)
  func theWorkDirectoryIsChosenByTheOptionAndTheEnvironment(one: Case) async throws {
    try await PipelineFixture.with { fixture in
      func here(_ text: String) -> String { text.replacing("@", with: fixture.directory) }
      var environment = fixture.environment
      environment["LETHE_WORK_DIR"] = nil
      environment.merge(one.variables.mapValues(here)) { $1 }
      let unset = ["LETHE_WORK_DIR", "XDG_STATE_HOME", "HOME"].filter { one.variables[$0] == nil }
      let file = try fixture.definitionFile()
      let option = one.option.map { ["--work-dir", here($0)] } ?? []
      let result = try await Program.run(
        "lethe", ["export", file] + option, environment: environment, without: unset)
      #expect(result.code == 0, "\(result.stderr)")
      let used = try await fixture.value("SELECT work_directory FROM lethe.run", as: String.self)
      let home = try #require(getpwuid(geteuid())?.pointee.pw_dir.map { String(cString: $0) })
      let expected = one.expected.map(here) ?? home + "/.local/state/lethe"
      #expect(used.hasPrefix(expected + "/"), "\(used)")
      try? FileManager.default.removeItem(atPath: used)
    }
  }
}
