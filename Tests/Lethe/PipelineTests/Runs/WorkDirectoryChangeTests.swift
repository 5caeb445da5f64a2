import Foundation
import PostgreSQL
import TestSupport
import Testing

/// Tests of runs that begin in one work directory and continue in another.
@Suite struct WorkDirectoryChangeTests {
  enum Files: String, CaseIterable, Sendable {
    case areKept
    case areLost
    /// The operator moved the files to the new work directory.
    case areMoved
  }

  private func lethe(
    _ fixture: RefusalFixture, _ arguments: [String], workDirectory: String
  ) async throws -> Program.Ending {
    try await Program.run(
      "lethe", arguments,
      environment: fixture.base.environment.merging([
        "COMPLIANCE_API_URL": fixture.url, "LETHE_WORK_DIR": workDirectory,
      ]) { $1 })
  }

  @Test(arguments: Files.allCases, ["export", "submit", "await"])
  func aRunContinuesInTheGivenWorkDirectory(files: Files, cutOffAfter last: String) async throws {
    try await RefusalFixture.with { fixture in
      let file = try fixture.file(ids: 40)
      let (old, new) = (fixture.base.directory + "/old", fixture.base.directory + "/new")
      for stage in ["export", "submit", "await"] {
        #expect(try await lethe(fixture, [stage, file], workDirectory: old).code == 0)
        if stage == last { break }
      }
      switch files {
      case .areKept: break
      case .areLost: try FileManager.default.removeItem(atPath: old)
      case .areMoved: try FileManager.default.moveItem(atPath: old, toPath: new)
      }
      // Nothing can be created in the old work directory any more.
      if files != .areKept { try Data().write(to: URL(filePath: old)) }
      let ending = try await Program.run(
        "lethe", ["run", file, "--resume-only", "--work-dir", new],
        environment: fixture.base.environment.merging(["COMPLIANCE_API_URL": fixture.url]) { $1 })
      #expect(ending.code == 0, "\(ending.stderr)")
      #expect(try await fixture.postsNotDone() == [])
      #expect(try await fixture.base.ledgerFaults() == [])
      // A job is created again only if the file that it was created from is lost.
      let attempts = try await fixture.base.value(
        "SELECT max(attempt) FROM lethe.job", as: Int.self)
      #expect(attempts == (files == .areLost && last != "export" ? 2 : 1))
      let kept = try await fixture.base.value(
        "SELECT count(*) FROM lethe.run WHERE work_directory NOT LIKE '%/new/%'", as: Int.self)
      #expect(kept == 0)
      #expect(try FileManager.default.subpathsOfDirectory(atPath: new).isEmpty)
      if files == .areKept {
        #expect(try FileManager.default.subpathsOfDirectory(atPath: old).isEmpty)
      }
    }
  }

  @Test func aFolderThatCannotBeCreatedIsReportedWithARemedy() async throws {
    try await RefusalFixture.with { fixture in
      let file = try fixture.file(ids: 40)
      let old = fixture.base.directory + "/old"
      #expect(try await lethe(fixture, ["export", file], workDirectory: old).code == 0)
      try FileManager.default.removeItem(atPath: old)
      try Data().write(to: URL(filePath: old))
      for _ in 1...2 {
        let ending = try await lethe(
          fixture, ["run", file, "--resume-only", "--output", "json"], workDirectory: old)
        #expect(ending.code == 1, "\(ending.stderr)")
        let error = try #require(ending.json["error"] as? [String: Any])
        #expect((error["message"] as? String)?.contains(old) == true, "\(error)")
        #expect((error["remedy"] as? String)?.contains("--work-dir") == true, "\(error)")
      }
      // The environment variable has the same effect as the option.
      let elsewhere = fixture.base.directory + "/elsewhere"
      let ending = try await lethe(
        fixture, ["run", file, "--resume-only"], workDirectory: elsewhere)
      #expect(ending.code == 0, "\(ending.stderr)")
      #expect(try await fixture.postsNotDone() == [])
    }
  }

  @Test func aRunStaysInItsWorkDirectoryByDefault() async throws {
    try await RefusalFixture.with { fixture in
      let file = try fixture.file(ids: 40)
      let old = fixture.base.directory + "/old"
      #expect(try await lethe(fixture, ["export", file], workDirectory: old).code == 0)
      var environment = fixture.base.environment.merging([
        "COMPLIANCE_API_URL": fixture.url, "XDG_STATE_HOME": fixture.base.directory + "/state",
      ]) { $1 }
      environment["LETHE_WORK_DIR"] = nil
      let ending = try await Program.run(
        "lethe", ["run", file, "--resume-only"], environment: environment)
      #expect(ending.code == 0, "\(ending.stderr)")
      let kept = try await fixture.base.value(
        "SELECT count(*) FROM lethe.run WHERE work_directory LIKE '%/old/%'", as: Int.self)
      #expect(kept == 1)
    }
  }
}
