import Foundation
public import SystemPackage

/// Migrations in the order of their versions: those of one directory, or those that a program brings.
public struct MigrationSet: Sendable {
  public let directory: FilePath
  public let migrations: [Migration]

  /// Reads what a program brings.
  /// - Parameter label: what messages have in the place of the directory.
  public init(_ label: String, files: [(name: String, text: String)]) throws {
    let directory = FilePath(label)
    self.directory = directory
    migrations = try files.map { file in
      try Migration(file: directory.appending(file.name), text: file.text)
    }
  }

  /// Reads every `.sql` file of the directory itself; a folder in it is a set of its own.
  /// - Throws: `MigrationError` naming the directory or file.
  public init(directory: FilePath) throws {
    let names: [String]
    do {
      names = try FileManager.default.contentsOfDirectory(atPath: directory.string)
    } catch {
      throw MigrationError(
        file: directory.string, line: nil, message: "cannot read the migrations directory",
        remedy: "name it with --migrations-dir, or run from where it lies")
    }
    self.directory = directory
    migrations = try names.filter { $0.hasSuffix(".sql") }
      .map { name in
        let file = directory.appending(name)
        guard let text = try? String(contentsOfFile: file.string, encoding: .utf8) else {
          throw MigrationError(
            file: file.string, line: nil, message: "cannot read the file as UTF-8",
            remedy: "check its permissions and its encoding")
        }
        return try Migration(file: file, text: text)
      }
      .sorted { $0.version < $1.version }
    for (first, second) in zip(migrations, migrations.dropFirst())
    where first.version == second.version {
      throw MigrationError(
        file: second.file.string, line: nil,
        message: "has the same version as \(first.file.string)", remedy: "rename one of them")
    }
  }
}
