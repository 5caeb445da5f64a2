import EmbeddedMigrations
import Foundation
import Migrations
import SystemPackage
import TestSupport
import Testing

/// Compares the embedded migrations with the files.
@Suite struct EmbeddedMigrationTests {
  @Test(arguments: ["migrations", "migrations/platform"])
  func theEmbeddedMigrationsEqualTheFiles(folder: String) throws {
    let directory = "\(repositoryRootPath)/\(folder)"
    let names = try FileManager.default.contentsOfDirectory(atPath: directory)
      .filter { $0.hasSuffix(".sql") }.sorted()
    let embedded = folder == "migrations" ? LedgerMigrations.files : PlatformMigrations.files
    #expect(embedded.map(\.name) == names, "run scripts/embed-migrations")
    for (name, text) in embedded {
      let file = try String(contentsOfFile: "\(directory)/\(name)", encoding: .utf8)
      #expect(text == file, "\(name): run scripts/embed-migrations")
    }
    let set = try MigrationSet("embedded", files: embedded)
    let read = try MigrationSet(directory: FilePath(directory))
    #expect(set.migrations.map(\.up) == read.migrations.map(\.up))
    #expect(set.migrations.map(\.version) == read.migrations.map(\.version))
  }
}
