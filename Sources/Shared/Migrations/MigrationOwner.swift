public import Failures

/// Whose a set of migrations is, by what its files create.
///
/// A folder may be a copy, under other names, and may hold somebody's own files beside them.
public enum MigrationOwner: String, Sendable, CaseIterable {
  case ledger = "Lethe's ledger"
  case service = "compliance-server's platform and jobs"
  /// The reference warehouse, which only demos and tests want.
  case demo = "the demo's warehouse"

  /// Whether a file of theirs is the one that begins it all.
  func begins(with migration: Migration) -> Bool {
    let sql = migration.up.sql.replacing(/--[^\n]*/, with: "").lowercased()
    func creates(_ what: Regex<Substring>) -> Bool { sql.firstMatch(of: what) != nil }
    return switch self {
    case .ledger: creates(/\bcreate\s+schema\s+(?:if\s+not\s+exists\s+)?"?lethe"?(?![\w$"])/)
    case .service:
      // Schemas with such names are everybody's; these two objects are not.
      creates(/\bcreate\s+type\s+"?platform"?\."?account_state"?(?![\w$])/)
        || creates(/\bcreate\s+table\s+"?compliance"?\."?signing_key"?(?![\w$])/)
    case .demo:
      // Its tables are a model for other people's own.
      migration.version == "20261123090100"
        && creates(/\bcreate\s+schema\s+(?:if\s+not\s+exists\s+)?"?warehouse"?(?![\w$"])/)
    }
  }
}

/// A program was given migrations that are not for it. Nothing was done.
public struct ForeignMigrations: ExplainedError, Sendable {
  public let message: String
  public let remedy: String
  public var disposition: Disposition { .usage }
}

extension MigrationSet {
  /// - Parameter remedies: whose migrations are refused, and what to do about each.
  /// - Throws: `ForeignMigrations`, naming the file.
  public func refuse(
    _ remedies: KeyValuePairs<MigrationOwner, String>, in program: String
  ) throws {
    for (owner, remedy) in remedies {
      guard let migration = migrations.first(where: owner.begins) else { continue }
      throw ForeignMigrations(
        message: """
          \(directory) has the migrations of \(owner.rawValue), such as \
          \(migration.version)_\(migration.name): they are not for \(program)
          """, remedy: remedy)
    }
  }
}
