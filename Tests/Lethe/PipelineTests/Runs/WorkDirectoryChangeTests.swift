import Foundation
import PostgreSQL
import TestSupport
import Testing

/// Tests of runs that begin in one work directory and continue in another.
@Suite struct WorkDirectoryChangeTests {
  /// What happens to the chunk files in the old work directory.
  enum Files: String, CaseIterable, Sendable {
    case areKept
    case areLost
    case oneIsLost
    /// The operator moved the files to the new work directory.
    case areMoved
  }

  private func lethe(
    _ fixture: RefusalFixture, _ arguments: [String], workDirectory: String
  ) async throws -> Program.Result {
    try await Program.run(
      "lethe", arguments,
      environment: fixture.base.environment.merging([
        "COMPLIANCE_API_URL": fixture.url, "LETHE_WORK_DIR": workDirectory,
      ]) { $1 })
  }

  @Test(arguments: sampled(Files.allCases, ["export", "submit", "await"], 4))
  func aRunContinuesInTheGivenWorkDirectory(files: Files, lastStage: String) async throws {
    try await RefusalFixture.with { fixture in
      let file = try fixture.file(ids: 40)
      let (old, new) = (fixture.base.directory + "/old", fixture.base.directory + "/new")
      for stage in ["export", "submit", "await"] {
        #expect(try await lethe(fixture, [stage, file], workDirectory: old).code == 0)
        if stage == lastStage { break }
      }
      switch files {
      case .areKept: break
      case .areLost: try FileManager.default.removeItem(atPath: old)
      case .oneIsLost:
        let paths = try FileManager.default.subpathsOfDirectory(atPath: old).sorted()
        let first = try #require(paths.first { $0.contains("/posts-") && $0.hasSuffix(".ids") })
        try FileManager.default.removeItem(atPath: old + "/" + first)
      case .areMoved: try FileManager.default.moveItem(atPath: old, toPath: new)
      }
      // A file with the name of the old work directory prevents its creation.
      let isOldGone = files == .areLost || files == .areMoved
      if isOldGone { try Data().write(to: URL(filePath: old)) }
      let result = try await Program.run(
        "lethe", ["run", file, "--resume-only", "--work-dir", new],
        environment: fixture.base.environment.merging(["COMPLIANCE_API_URL": fixture.url]) { $1 })
      #expect(result.code == 0, "\(result.stderr)")
      #expect(try await fixture.unfinishedPosts() == [])
      #expect(try await fixture.base.ledgerFaults() == [])
      // A job is created again only if the file that it was created from is lost.
      let attempts = try await fixture.base.value(
        "SELECT max(attempt) FROM lethe.job", as: Int.self)
      let isLost = files == .areLost || files == .oneIsLost
      #expect(attempts == (isLost && lastStage != "export" ? 2 : 1))
      let kept = try await fixture.base.value(
        "SELECT count(*) FROM lethe.run WHERE work_directory NOT LIKE '%/new/%'", as: Int.self)
      #expect(kept == 0)
      #expect(try FileManager.default.subpathsOfDirectory(atPath: new).isEmpty)
      if !isOldGone {
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
        let result = try await lethe(
          fixture, ["run", file, "--resume-only", "--output", "json"], workDirectory: old)
        #expect(result.code == 1, "\(result.stderr)")
        let error = try #require(result.json["error"] as? [String: Any])
        #expect((error["message"] as? String)?.contains(old) == true, "\(error)")
        #expect((error["remedy"] as? String)?.contains("--work-dir") == true, "\(error)")
      }
      // The environment variable has the same effect as the option.
      let elsewhere = fixture.base.directory + "/elsewhere"
      let result = try await lethe(
        fixture, ["run", file, "--resume-only"], workDirectory: elsewhere)
      #expect(result.code == 0, "\(result.stderr)")
      #expect(try await fixture.unfinishedPosts() == [])
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
      let result = try await Program.run(
        "lethe", ["run", file, "--resume-only"], environment: environment)
      #expect(result.code == 0, "\(result.stderr)")
      let kept = try await fixture.base.value(
        "SELECT count(*) FROM lethe.run WHERE work_directory LIKE '%/old/%'", as: Int.self)
      #expect(kept == 1)
    }
  }
}
