import Foundation
import Migrations
import SystemPackage
import TestSupport
import Testing

@Suite struct MigrationFileTests {
  private static func parse(
    _ text: String, name: String = "20261123090000_made_up.sql"
  ) throws -> Migration {
    try Migration(file: FilePath("sets/" + name), text: text)
  }

  @Test func aFileHasAVersionANameAndTwoBlocks() throws {
    let migration = try Self.parse(
      """
      -- What it is for.

      -- migrate:up
      CREATE TABLE a (b text);
      SELECT 1;
      -- migrate:down
      DROP TABLE a;
      """)
    #expect(migration.version == "20261123090000")
    #expect(migration.name == "made_up")
    #expect(migration.file == "sets/20261123090000_made_up.sql")
    #expect(migration.up.sql == "CREATE TABLE a (b text);\nSELECT 1;")
    #expect(migration.up.firstLine == 4)
    #expect(migration.up.inTransaction)
    #expect(migration.down.sql == "DROP TABLE a;")
    #expect(migration.down.firstLine == 7)
    #expect(migration.down.inTransaction)
  }

  @Test(arguments: [
    ("--migrate:up\nA\n--migrate:down\nB", true, true),
    ("--   migrate:up   \nA\n--\tmigrate:down\t\nB", true, true),
    ("-- migrate:up transaction:false\nA\n-- migrate:down\nB", false, true),
    ("-- migrate:up\ttransaction:false\nA\n-- migrate:down  transaction:false \nB", false, false),
    ("-- migrate:up transaction:true\nA\n-- migrate:down\nB", true, true),
    ("-- migrate:up other:1 transaction:false\nA\n-- migrate:down\nB", false, true),
  ])
  func markersAreReadAsDbmateReadsThem(text: String, up: Bool, down: Bool) throws {
    for text in [text, text.replacing("\n", with: "\r\n")] {
      let migration = try Self.parse(text)
      #expect(migration.up.inTransaction == up)
      #expect(migration.down.inTransaction == down)
      #expect(migration.up.sql.trimmingCharacters(in: .whitespacesAndNewlines) == "A")
      #expect(migration.down.sql.trimmingCharacters(in: .whitespacesAndNewlines) == "B")
      #expect(migration.up.firstLine == 2)
      #expect(migration.down.firstLine == 4)
    }
  }

  @Test(arguments: [
    " -- migrate:up", "-- migrate:upwards", "-- migrate: up", "-- Migrate:up",
    "/* -- migrate:up */",
  ])
  func aSimilarLineIsNotAMarker(line: String) throws {
    let migration = try Self.parse("-- migrate:up\n\(line)\n-- migrate:down\n")
    #expect(migration.up.sql == line)
  }

  /// A literal may contain characters that Swift treats as newlines. The server must get them unchanged.
  @Test func theSQLIsUnchanged() throws {
    let sql = "SELECT '\r\n \u{2028} \u{85} \u{B} \u{C}\te\u{301}';"
    let migration = try Self.parse("-- migrate:up\n\(sql)\n-- migrate:down\n\(sql)\n")
    #expect(Array(migration.up.sql.utf8) == Array(sql.utf8))
    #expect(Array(migration.down.sql.utf8) == Array((sql + "\n").utf8))
    #expect(migration.down.firstLine == 5)
  }

  @Test(
    arguments: [
      ("", nil, "there is no -- migrate:up"),
      ("-- nothing but a comment\n", nil, "there is no -- migrate:up"),
      ("-- migrate:up\nA\n", nil, "there is no -- migrate:down"),
      ("-- migrate:down\nA\n", nil, "there is no -- migrate:up"),
      ("-- migrate:up\nA\n-- migrate:up\nB\n-- migrate:down\n", 3, "a second -- migrate:up"),
      (
        "-- migrate:up\n-- migrate:down\nA\n\n-- migrate:down\n", 5, "a second -- migrate:down"
      ),
      ("\n-- migrate:down\nA\n-- migrate:up\nB\n", 4, "-- migrate:up comes after -- migrate:down"),
      (
        "-- why\n\nSELECT 1;\n-- migrate:up\n-- migrate:down\n", 3,
        "a statement before -- migrate:up"
      ),
      ("-- why\r\n\r\nSELECT 1;\r\n-- migrate:up\r\n", 3, "a statement before -- migrate:up"),
    ] as [(String, Int?, String)])
  func aFileInAnotherFormatIsRefusedWithTheLine(text: String, line: Int?, message: String) {
    do {
      _ = try Self.parse(text)
      Issue.record("the file was accepted")
    } catch let error as MigrationError {
      #expect(error.file == "sets/20261123090000_made_up.sql")
      #expect(error.line == line)
      #expect(error.message == message)
      #expect(!error.remedy.isEmpty)
      let position = line.map { ":\($0)" } ?? ""
      #expect("\(error)" == "\(error.file)\(position): \(message)\n  remedy: \(error.remedy)")
    } catch {
      Issue.record("\(error)")
    }
  }

  @Test(arguments: ["made_up.sql", "_1.sql", "v1_made_up.sql", "٣_made_up.sql"])
  func aFileWithoutAVersionIsRefused(name: String) {
    do {
      _ = try Self.parse("-- migrate:up\n-- migrate:down\n", name: name)
      Issue.record("the file was accepted")
    } catch let error as MigrationError {
      #expect(error.message == "the file's name has no version")
      #expect(error.file == "sets/" + name)
    } catch {
      Issue.record("\(error)")
    }
  }

  // MARK: Sets

  private static func withSet<R>(
    _ names: [String], _ body: (FilePath) throws -> R
  ) throws -> R {
    try withTemporaryDirectory { directory in
      for name in names {
        try Data("-- migrate:up\n-- migrate:down\n".utf8)
          .write(to: URL(fileURLWithPath: directory.appending(name).string))
      }
      return try body(directory)
    }
  }

  @Test func aSetIsSortedByVersion() throws {
    try Self.withSet(["3_c.sql", "1_b.sql", "2_a.sql", "README.md", "4_d.sql.bak"]) { directory in
      try FileManager.default.createDirectory(
        atPath: directory.appending("inner").string, withIntermediateDirectories: true)
      let set = try MigrationSet(directory: directory)
      #expect(set.migrations.map(\.name) == ["b", "a", "c"])
      #expect(set.directory == directory)
    }
  }

  @Test func aDuplicateVersionIsRefused() throws {
    try Self.withSet(["1_a.sql", "2_b.sql", "2_c.sql"]) { directory in
      do {
        _ = try MigrationSet(directory: directory)
        Issue.record("the set was accepted")
      } catch let error as MigrationError {
        let files = Set([
          directory.appending("2_b.sql").string, directory.appending("2_c.sql").string,
        ])
        #expect(files.contains(error.file))
        let other = files.subtracting([error.file])
        #expect(error.message == "has the same version as \(other.first ?? "")")
      }
    }
  }

  @Test func theErrorNamesAFolderThatCannotBeRead() {
    #expect {
      _ = try MigrationSet(directory: "/nowhere/migrations")
    } throws: { error in
      (error as? MigrationError)?.file == "/nowhere/migrations"
    }
  }

  @Test func theErrorNamesAFileThatIsNotUTF8() throws {
    try withTemporaryDirectory { directory in
      let file = directory.appending("1_a.sql").string
      try Data([0x2D, 0x2D, 0xFF, 0xFE]).write(to: URL(fileURLWithPath: file))
      #expect {
        _ = try MigrationSet(directory: directory)
      } throws: { error in
        (error as? MigrationError)?.file == file
      }
    }
  }
}
