import Foundation
public import SystemPackage

/// Migrations in the order of their versions: from a directory, or embedded in the program.
public struct MigrationSet: Sendable {
  public let directory: FilePath
  public let migrations: [Migration]

  /// Reads embedded migrations.
  /// - Parameter label: the name for messages, in place of a directory.
  public init(_ label: String, files: [(name: String, text: String)]) throws {
    let directory = FilePath(label)
    self.directory = directory
    migrations = try files.map { file in
      try Migration(file: directory.appending(file.name), text: file.text)
    }
  }

  /// Reads every `.sql` file of the directory, without its subdirectories.
  /// - Throws: `MigrationError`, which names the directory or file.
  public init(directory: FilePath) throws {
    let names: [String]
    do {
      names = try FileManager.default.contentsOfDirectory(atPath: directory.string)
    } catch {
      throw MigrationError(
        file: directory.string, line: nil, message: "cannot read the migrations directory",
        remedy: "name an existing directory with --migrations-dir")
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
