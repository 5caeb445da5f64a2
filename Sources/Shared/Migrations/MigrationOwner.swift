public import Failures

/// The owner of a set of migrations, recognized by the objects that the files create.
///
/// File names are not enough: a directory may be a renamed copy, or contain other files, too.
public enum MigrationOwner: String, Sendable, CaseIterable {
  case ledger = "Lethe's ledger"
  case service = "compliance-server's platform and jobs"
  /// The reference warehouse, for demos and tests only.
  case demo = "the demo's warehouse"

  /// Whether the migration is the first one of this owner's set.
  func begins(with migration: Migration) -> Bool {
    let sql = migration.up.sql.replacing(/--[^\n]*/, with: "").lowercased()
    func creates(_ what: Regex<Substring>) -> Bool { sql.firstMatch(of: what) != nil }
    return switch self {
    case .ledger: creates(/\bcreate\s+schema\s+(?:if\s+not\s+exists\s+)?"?lethe"?(?![\w$"])/)
    case .service:
      // Schemas with these names are common; these two objects are not.
      creates(/\bcreate\s+type\s+"?platform"?\."?account_state"?(?![\w$])/)
        || creates(/\bcreate\s+table\s+"?compliance"?\."?signing_key"?(?![\w$])/)
    case .demo:
      // The version is required, too, because users copy these tables for their own warehouses.
      migration.version == "20261123090100"
        && creates(/\bcreate\s+schema\s+(?:if\s+not\s+exists\s+)?"?warehouse"?(?![\w$"])/)
    }
  }
}

/// The error that the migrations belong to another program. Nothing was changed.
public struct ForeignMigrations: ExplainedError, Sendable {
  public let message: String
  public let remedy: String
  public var disposition: Disposition { .usage }
}

extension MigrationSet {
  /// - Parameter remedies: the owners whose migrations are refused, and the remedy for each.
  /// - Throws: `ForeignMigrations`, which names the file.
  public func refuse(
    _ remedies: KeyValuePairs<MigrationOwner, String>, in program: String
  ) throws {
    for (owner, remedy) in remedies {
      guard let migration = migrations.first(where: owner.begins) else { continue }
      throw ForeignMigrations(
        message: """
          \(directory) has the migrations of \(owner.rawValue), such as \
          \(migration.version)_\(migration.name), which are not for \(program)
          """, remedy: remedy)
    }
  }
}
