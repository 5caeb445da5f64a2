import Foundation
import PostgreSQL
import TestSupport
import Testing

/// Tests of faults of the work directory and its files. Each test ends the fault, and expects that the next run finishes
/// with a correct warehouse, and without files that are left over.
@Suite(.endedIfItHangs) struct WorkDirectoryFaultTests {
  static let stages = ["export", "submit", "await"]

  // MARK: A full disk

  /// The chunks that fit on the disk are in the ledger, and the export continues after them. No other run begins.
  @Test(.enabled("mounting a file system is not allowed here", PrivateNamespace.canMount))
  func anExportContinuesWhenTheDiskHasSpaceAgain() async throws {
    try await RefusalFixture.with { fixture in
      let file = try fixture.file()
      try await PrivateMount.with(at: fixture.base.workDirectory, kilobytes: 20) { disk in
        let export = try await fixture.lethe(["export", file, "--output", "json"], on: disk)
        try expectFailure(export, 75, naming: fixture.base.workDirectory, "No space left", "free")
        // The files of the exported chunks fill the disk.
        let exported = try await fixture.base.value(
          "SELECT count(*) FROM lethe.chunk", as: Int.self)
        #expect((1...9).contains(exported))
        #expect(try disk.contents().filter { $0.hasSuffix(".partial") } == [])
        for _ in 1...4 {
          let result = try await fixture.lethe(["run", file, "--output", "json"], on: disk)
          try expectFailure(result, 75, naming: fixture.base.workDirectory, "No space left", "free")
        }
        try await disk.remount("size=1m")
        let result = try await fixture.lethe(["run", file], on: disk)
        #expect(result.code == 0, "\(result.stderr)")
        #expect(try disk.contents() == [])
        // One was unfinished, and one is new.
        let runs = try await fixture.base.value("SELECT count(*) FROM lethe.run", as: Int.self)
        #expect(runs == 2)
      }
      try await fixture.expectFinished(attempts: 1)
    }
  }

  /// Where the disk is full.
  enum FullDisk: String, CaseIterable, Sendable {
    case beforeTheFirstFile
    case beforeTheDownload
    case inTheDownload
  }

  @Test(
    .enabled("mounting a file system is not allowed here", PrivateNamespace.canMount),
    arguments: FullDisk.allCases)
  func noChunkFailsBecauseOfAFullDisk(place: FullDisk) async throws {
    // A result of 40 kB: blank lines mean nothing.
    let blanks = String(repeating: "\n", count: 40_000)
    try await RefusalFixture.with({ RefusalFixture.answers($0) + blanks }) { fixture in
      let file = try fixture.file(ids: 40)
      try await PrivateMount.with(at: fixture.base.workDirectory, kilobytes: 64) { disk in
        if place == .beforeTheFirstFile { try disk.fill() }
        if place != .beforeTheFirstFile {
          #expect(try await fixture.lethe(["export", file], on: disk).code == 0)
          try disk.fill()
        }
        if place == .inTheDownload {
          try disk.remove("filler")
          try Data(count: 20_000).write(to: URL(filePath: disk.path + "/filler"))
        }
        for _ in 1...4 {
          let result = try await fixture.lethe(["run", file, "--output", "json"], on: disk)
          try expectFailure(
            result, 75, naming: fixture.base.workDirectory, "No space left", "--work-dir")
        }
        let (failed, attempts) = try await fixture.base.database.withConnection {
          try await $0.query(
            """
            SELECT (SELECT count(*) FROM lethe.chunk WHERE state = 'failed'),
                   (SELECT coalesce(max(attempt), 0) FROM lethe.job)
            """
          ).onlyRow(as: Int.self, Int.self)
        }
        #expect(failed == 0)
        #expect(attempts <= 1)
        #expect(
          try disk.contents().filter { $0.contains("partial") || $0.contains("result") } == [])
        try disk.remove("filler")
        let result = try await fixture.lethe(["run", file, "--resume-only"], on: disk)
        #expect(result.code == 0, "\(result.stderr)")
        #expect(try disk.contents() == [])
      }
      try await fixture.expectFinished(attempts: 1)
    }
  }

  // MARK: A read-only disk

  @Test(
    .enabled("mounting a file system is not allowed here", PrivateNamespace.canMount),
    arguments: sampled(["nothing", "export", "submit", "await", "collect"], 2))
  func aRunContinuesWhenTheDiskIsWritableAgain(lastStage: String) async throws {
    try await RefusalFixture.with { fixture in
      let file = try fixture.file(ids: 100)
      try await PrivateMount.with(at: fixture.base.workDirectory, kilobytes: 64) { disk in
        if lastStage != "nothing" {
          for stage in Self.stages + ["collect"] {
            #expect(try await fixture.lethe([stage, file], on: disk).code == 0)
            // Posts and users have a job each.
            if stage == lastStage { break }
          }
        }
        try await disk.remount("ro")
        let result = try await fixture.lethe(
          ["run", file, "--resume-only", "--output", "json"], on: disk)
        if lastStage == "collect" {
          // Apply needs no file. But the folder cannot be removed.
          #expect(result.code == 0, "\(result.stderr)")
          #expect(result.stderr.contains("cannot be removed"), "\(result.stderr)")
          #expect(try disk.contents() != [])
        } else if lastStage != "nothing" {
          try expectFailure(
            result, 1, naming: fixture.base.workDirectory, "Read-only", "writable")
        }
        if lastStage == "nothing" {
          let result = try await fixture.lethe(["run", file, "--output", "json"], on: disk)
          try expectFailure(
            result, 1, naming: fixture.base.workDirectory, "Read-only", "writable")
        }
        try await disk.remount("rw")
        let next = try await fixture.lethe(["run", file], on: disk)
        #expect(next.code == 0, "\(next.stderr)")
        #expect(try disk.contents() == [])
      }
      try await fixture.expectFinished(attempts: 1)
    }
  }

  // MARK: Changed files

  /// What somebody does to a chunk's file.
  enum Change: String, CaseIterable, Sendable {
    case isRemoved, isTruncated, hasAnotherByte, isAnotherChunks, isEmpty, isAFolder, isAPipe
    case isALinkToItself

    func make(to path: String, other: String) throws {
      let files = FileManager.default
      func replace(_ data: Data) throws { try data.write(to: URL(filePath: path)) }
      let content = try Data(contentsOf: URL(filePath: path))
      switch self {
      case .isTruncated: return try replace(content.dropLast(3))
      case .hasAnotherByte:
        // The second digit of the last ID: the file still contains as many lines.
        var changed = content
        changed[changed.count - 2] ^= 1
        return try replace(changed)
      case .isAnotherChunks: return try replace(Data(contentsOf: URL(filePath: other)))
      case .isEmpty: return try replace(Data())
      case .isRemoved, .isAFolder, .isAPipe, .isALinkToItself: try files.removeItem(atPath: path)
      }
      switch self {
      case .isAFolder:
        try files.createDirectory(atPath: path, withIntermediateDirectories: false)
      case .isAPipe: try #require(mkfifo(path, 0o600) == 0)
      case .isALinkToItself:
        try files.createSymbolicLink(atPath: path, withDestinationPath: path)
      case .isRemoved, .isTruncated, .hasAnotherByte, .isAnotherChunks, .isEmpty: break
      }
    }
  }

  @Test(arguments: sampled(Change.allCases, stages, 6))
  func aChangedFileIsWrittenAgain(change: Change, lastStage: String) async throws {
    try await RefusalFixture.with { fixture in
      let file = try fixture.file(ids: 40)
      for stage in Self.stages {
        #expect(try await fixture.lethe(stage, file).code == 0)
        if stage == lastStage { break }
      }
      let work = fixture.base.workDirectory
      let posts = try FileManager.default.subpathsOfDirectory(atPath: work).sorted()
        .filter { $0.contains("/posts-") }
      try #require(posts.count == 3)
      try change.make(to: "\(work)/\(posts[0])", other: "\(work)/\(posts[1])")
      let result = try await fixture.lethe("run", file, "--resume-only")
      #expect(result.code == 0, "\(result.stderr)")
      // A job that has or may have the changed file is replaced.
      try await fixture.expectFinished(attempts: lastStage == "export" ? 1 : 2)
      #expect(try FileManager.default.subpathsOfDirectory(atPath: work) == [])
    }
  }

  // MARK: A work directory that disappears

  static let points: [Place] = [
    .secondChunkIsBeingRecorded, .jobIsCreatedButNotRecorded, .uploadHasNoResponse,
    .jobIsNotProcessed, .resultIsNotDownloaded, .eventsAreBeingCollected,
    .firstBatchIsNotCommitted,
  ]

  @Test(arguments: sampled(points, 2))
  func aRunContinuesAfterItsWorkDirectoryIsDeleted(place: Place) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 1500, users: 40)
      let file = try fixture.definitionFile()
      try await fixture.database.withConnection { connection in
        if let trigger = place.trigger { try await fixture.hold(trigger, connection) }
        fixture.gate.hold { place.isReached(by: $0) }
        let program = try Program("lethe", ["run", file], environment: fixture.environment)
        let isReached = try await fixture.wait(connection, for: program) {
          if place.trigger == nil {
            return fixture.gate.history.contains { place.isReached(by: $0) }
          }
          return try await fixture.isHeld(connection)
        }
        #expect(isReached)
        // The export of another dataset may still write into the directory.
        let removed = fixture.directory + "/removed"
        try FileManager.default.moveItem(atPath: fixture.workDirectory, toPath: removed)
        fixture.gate.release()
        if place.trigger != nil { try await fixture.release(connection) }
        let result = await program.ended()
        #expect([0, 75].contains(result.code), "\(result.stderr)")
        if result.code == 75 {
          #expect(result.stderr.contains(fixture.workDirectory), "\(result.stderr)")
        }
      }
      let next = try await Program.run(
        "lethe", ["run", file, "--resume-only"], environment: fixture.environment)
      #expect(next.code == 0, "\(next.stderr)")
      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(try await fixture.ledgerFaults() == [])
      let left = try? FileManager.default.subpathsOfDirectory(atPath: fixture.workDirectory)
      #expect(left ?? [] == [])
    }
  }

  // MARK: Shared work directories

  @Test func twoPipelinesShareAWorkDirectory() async throws {
    try await RefusalFixture.with { fixture in
      let nightly = try fixture.file(ids: 20)
      let other = fixture.base.directory + "/other.yaml"
      try String(contentsOfFile: nightly, encoding: .utf8)
        .editing("name: night", to: "name: night-2")
        .write(toFile: other, atomically: true, encoding: .utf8)
      async let first = fixture.lethe("run", nightly)
      async let second = fixture.lethe("run", other)
      let results = try await [first, second]
      for result in results { #expect(result.code == 0, "\(result.stderr)") }
      #expect(try FileManager.default.subpathsOfDirectory(atPath: fixture.base.workDirectory) == [])
      try await fixture.expectFinished(attempts: 1)
    }
  }

  @Test func aPipelineIsRefusedInASecondWorkDirectory() async throws {
    try await RefusalFixture.with { fixture in
      let file = try fixture.file(ids: 40)
      let elsewhere = fixture.base.directory + "/elsewhere"
      try await fixture.base.withOtherWorker {
        let refused = try await fixture.lethe("run", file, "--work-dir", elsewhere)
        #expect(refused.code == 6, "\(refused.stderr)")
        #expect(!FileManager.default.fileExists(atPath: elsewhere))
      }
      let result = try await fixture.lethe("run", file, "--work-dir", elsewhere)
      #expect(result.code == 0, "\(result.stderr)")
      try await fixture.expectFinished(attempts: 1)
    }
  }

  // MARK: Other users

  /// Runs a program as the user of the database server, who can reach its socket.
  private static let otherUser = ["/usr/sbin/runuser", "-u", "postgres", "--"]

  @Sendable private static func canChangeUser() async throws -> Bool {
    guard geteuid() == 0, FileManager.default.fileExists(atPath: otherUser[0]) else { return false }
    return try await Program.external(otherUser + [Program.path("lethe"), "--version"]).code == 0
  }

  @Test(arguments: sampled(["0777", "0277", "0077", "0000"], 2))
  func theUmaskDoesNotMatter(umask: String) async throws {
    let user = try await Self.canChangeUser() ? Self.otherUser : []
    try await RefusalFixture.with { fixture in
      let file = try fixture.file(ids: 40)
      try fixture.openFolder()
      let result = try await fixture.lethe(
        ["run", file],
        launcher: user + ["/bin/bash", "-c", "umask \(umask); exec \"$0\" \"$@\""])
      #expect(result.code == 0, "\(result.stderr)")
      try await fixture.expectFinished(attempts: 1)
    }
  }

  /// What another user owns.
  enum Owned: String, CaseIterable, Sendable {
    /// Its files are not readable, and its folder is not writable.
    case theFolder
    /// Its files are not readable, but its folder is writable.
    case theFiles
  }

  @Test(
    .enabled("only root can run a program as another user", canChangeUser),
    arguments: sampled(stages, 1))
  func filesOfAnotherUserAreNotLost(lastStage: String) async throws {
    for owned in Owned.allCases {
      try await RefusalFixture.with { fixture in
        let file = try fixture.file(ids: 40)
        try fixture.openFolder()
        for stage in Self.stages {
          #expect(try await fixture.lethe(stage, file).code == 0)
          if stage == lastStage { break }
        }
        if owned == .theFiles {
          for folder in try FileManager.default.contentsOfDirectory(
            atPath: fixture.base.workDirectory)
          {
            chmod(fixture.base.workDirectory + "/" + folder, 0o777)
          }
        }
        // More runs than a chunk may have jobs.
        for _ in 1...4 {
          let result = try await fixture.lethe(
            ["run", file, "--resume-only", "--output", "json"], launcher: Self.otherUser)
          try expectFailure(
            result, 1, naming: fixture.base.workDirectory, "Permission denied", "runs as user")
        }
        let result = try await fixture.lethe("run", file, "--resume-only")
        #expect(result.code == 0, "\(result.stderr)")
        try await fixture.expectFinished(attempts: 1)
        #expect(
          try FileManager.default.subpathsOfDirectory(atPath: fixture.base.workDirectory) == [])
      }
    }
  }

  /// One chunk has no job yet, and its file cannot be read. All other chunks are applied.
  @Test(
    .enabled("only root can run a program as another user", canChangeUser),
    arguments: [
      ["run"], ["submit", "await", "submit", "await", "submit", "await", "collect", "apply"],
    ])
  func aFileThatCannotBeReadStopsOnlyItsChunk(commands: [String]) async throws {
    try await RefusalFixture.with { fixture in
      let file = try fixture.file(ids: 40)
      #expect(try await fixture.lethe("export", file).code == 0)
      let path = try await fixture.base.value(
        "SELECT path FROM lethe.chunk WHERE dataset = 'posts' AND number = 1", as: String.self)
      #expect(try fixture.base.openFiles { $0 == path } == 1)
      for command in commands {
        let result = try await fixture.lethe(
          [command, file] + (command == "run" ? ["--resume-only"] : []), launcher: Self.otherUser)
        let code: Int32 = ["run", "submit"].contains(command) ? 1 : 0
        #expect(result.code == code, "\(command): \(result.stderr)")
      }
      // The posts of the first chunk.
      #expect(try await fixture.unfinishedPosts() == Array(stride(from: 4, through: 40, by: 4)))
      #expect(try await fixture.usersLeft() == "1008 protected")
      #expect(try await fixture.lethe("run", file, "--resume-only").code == 0)
      try await fixture.expectFinished(attempts: 1)
    }
  }

  /// The process was killed when the chunk had a job, and the chunk's file cannot be read. The job keeps the slot of its
  /// type. Chunks of the other type are applied.
  @Test(
    .enabled("only root can run a program as another user", canChangeUser),
    arguments: [Place.jobIsCreatedButNotRecorded, .uploadHasNoResponse])
  func aFileThatCannotBeReadStopsOnlyItsType(place: Place) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 1500, users: 40)
      try await fixture.database.withConnection { connection in
        let killed = try await fixture.start(until: place, connection)
        killed.send(signal: SIGKILL)
        _ = await killed.ended()
        try await fixture.release(place, connection)
        if place.trigger != nil { try await connection.execute("DROP SCHEMA hold CASCADE") }
        let (type, path) = try await connection.query(
          """
          SELECT type::text, path FROM lethe.chunk JOIN lethe.job USING (chunk_id)
          WHERE state IN ('exported', 'created') AND ended_at IS NULL ORDER BY chunk_id
          """
        ).rows(as: String.self, String.self)[0]
        #expect(try fixture.openFiles { $0 == path } == 1)
        let result = try await Program.run(
          "lethe", ["run", try fixture.definitionFile(), "--resume-only"],
          environment: fixture.environment, launcher: Self.otherUser)
        #expect(result.code == 1, "\(result.stderr)")
        #expect(result.stderr.contains("Permission denied"), "\(result.stderr)")
        let (others, failed) = try await connection.query(
          """
          SELECT string_agg(DISTINCT state::text, ' ') FILTER (WHERE type::text <> \(type)),
                 count(*) FILTER (WHERE state = 'failed')
          FROM lethe.chunk
          """
        ).onlyRow(as: String.self, Int.self)
        #expect(others == "applied")
        #expect(failed == 0)
      }
      try await fixture.finishAndVerify()
    }
  }

  // MARK: Expectations

  private func expectFailure(
    _ result: Program.Result, _ code: Int32, naming path: String, _ cause: String, _ remedy: String
  ) throws {
    #expect(result.code == code, "\(result.stderr)")
    let error = try #require(result.json["error"] as? [String: Any], "\(result.stdout)")
    let message = try #require(error["message"] as? String)
    #expect(message.contains(path), "\(message)")
    #expect(message.contains(cause), "\(message)")
    #expect((error["remedy"] as? String)?.contains(remedy) == true, "\(error)")
  }
}

extension RefusalFixture {
  fileprivate func lethe(_ arguments: [String], on disk: PrivateMount) async throws
    -> Program.Result
  {
    try await lethe(arguments, launcher: disk.launcher)
  }

  fileprivate func lethe(_ arguments: [String], launcher: [String]) async throws -> Program.Result {
    try await Program.run(
      "lethe", arguments,
      environment: base.environment.merging(["COMPLIANCE_API_URL": url]) { $1 },
      launcher: launcher)
  }

  /// Lets other users write into the folder of the work directory.
  fileprivate func openFolder() throws {
    try FileManager.default.createDirectory(
      atPath: base.workDirectory, withIntermediateDirectories: true)
    for path in [base.directory, base.workDirectory] { chmod(path, 0o777) }
    chmod(base.directory + "/night.yaml", 0o644)
  }

  /// Expects that all posts match the answers, that no file is needed any more, and that no chunk used more jobs.
  fileprivate func expectFinished(attempts: Int) async throws {
    #expect(try await unfinishedPosts() == [])
    #expect(try await damagedPosts() == 0)
    #expect(try await base.ledgerFaults() == [])
    let (open, most) = try await base.database.withConnection {
      try await $0.query(
        """
        SELECT (SELECT count(*) FROM lethe.run WHERE status <> 'done'),
               (SELECT max(attempt) FROM lethe.job)
        """
      ).onlyRow(as: Int.self, Int.self)
    }
    #expect(open == 0)
    #expect(most == attempts)
  }
}

extension PipelineFixture {
  /// Lets other users read and write all files, except some that only their owner can read.
  /// - Returns: how many files stay closed.
  fileprivate func openFiles(except isClosed: (String) -> Bool) throws -> Int {
    for path in [directory, workDirectory] { chmod(path, 0o777) }
    chmod(directory + "/night.yaml", 0o644)
    var closed = 0
    for name in try FileManager.default.subpathsOfDirectory(atPath: workDirectory) {
      let path = workDirectory + "/" + name
      if isClosed(path) { closed += 1 }
      chmod(path, isClosed(path) ? 0o600 : 0o777)
    }
    return closed
  }
}
