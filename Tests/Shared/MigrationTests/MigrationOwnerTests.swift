import Foundation
import Migrations
import SystemPackage
import TestSupport
import Testing

/// Tests that the owner of a set of migrations is recognized by the objects that its files create.
@Suite struct MigrationOwnerTests {
  private static let folders: [MigrationOwner: String] = [
    .ledger: "migrations", .service: "migrations/platform", .demo: "migrations/warehouse",
  ]

  private static func files(of owner: MigrationOwner) throws -> [String: String] {
    let folder = FilePath(repositoryRootPath).appending(FilePath(folders[owner] ?? "").components)
    let set = try MigrationSet(directory: folder)
    return try Dictionary(
      uniqueKeysWithValues: set.migrations.map {
        (
          $0.file.lastComponent?.string ?? "",
          try String(contentsOfFile: $0.file.string, encoding: .utf8)
        )
      })
  }

  private static func refused(
    _ owner: MigrationOwner, in files: [String: String]
  ) async throws -> ForeignMigrations? {
    try await withMigrationSet(files) { set in
      do {
        try set.refuse([owner: "use another folder"], in: "this program")
        return nil
      } catch let error as ForeignMigrations {
        return error
      }
    }
  }

  @Test(arguments: MigrationOwner.allCases)
  func aSetHasOneOwner(owner: MigrationOwner) async throws {
    let files = try Self.files(of: owner)
    for other in MigrationOwner.allCases {
      let refusal = try await Self.refused(other, in: files)
      #expect((refusal != nil) == (owner == other), "\(other)")
    }
    let refusal = try #require(try await Self.refused(owner, in: files))
    #expect(refusal.message.contains(owner.rawValue))
    #expect(refusal.message.contains("not for this program"))
    #expect(refusal.remedy == "use another folder")
  }

  /// The migrations are copied into a directory with other files, with or without new names.
  @Test(arguments: [MigrationOwner.ledger, .service], [true, false])
  func aCopyAmongOtherFilesIsRecognized(owner: MigrationOwner, isRenamed: Bool) async throws {
    var files = [
      "1_own.sql": "-- migrate:up\nCREATE TABLE own ();\n-- migrate:down\nDROP TABLE own;\n"
    ]
    for (number, file) in try Self.files(of: owner).sorted(by: { $0.key < $1.key }).enumerated() {
      let text = file.value.replacing("CREATE SCHEMA lethe", with: "create  schema\n\"lethe\"")
      files[isRenamed ? "\(number + 2)_copy.sql" : file.key] = text
    }
    #expect(try await Self.refused(owner, in: files) != nil)
  }

  /// A set that only uses similar names does not belong to Lethe.
  @Test(arguments: [
    "CREATE SCHEMA platform; CREATE TABLE platform.accounts ()",
    "CREATE SCHEMA compliance; CREATE TABLE compliance.jobs (id int)",
    "CREATE SCHEMA warehouse; CREATE TABLE warehouse.posts (); CREATE TABLE warehouse.reposts ()",
    "CREATE SCHEMA lethe_reports; CREATE TABLE lethe_reports.a ()",
    "CREATE VIEW tombstones AS SELECT * FROM lethe.tombstone",
    "-- like CREATE SCHEMA lethe;\nCREATE SCHEMA lethes",
    "CREATE TYPE platform.account_states AS ENUM ()",
    "COMMENT ON SCHEMA lethe IS 'ours'; GRANT USAGE ON SCHEMA lethe TO reader",
  ])
  func otherMigrationsAreAccepted(sql: String) async throws {
    let files = ["20260101000000_own.sql": "-- migrate:up\n\(sql);\n-- migrate:down\nSELECT 1;\n"]
    for owner in MigrationOwner.allCases {
      #expect(try await Self.refused(owner, in: files) == nil, "\(owner)")
    }
  }
}
