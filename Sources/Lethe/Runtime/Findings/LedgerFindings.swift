public import Definitions
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// Checks of the ledger, the role and the database before anything runs.
extension PipelineRuntime {
  /// - Returns: one error if the ledger is missing or incomplete, or is older or newer than this program. Otherwise an
  ///   error for each missing privilege.
  static func ledgerFindings(on connection: Connection) async throws -> [Finding] {
    if let fault = try await LedgerSchema.fault(on: connection) {
      return [
        Finding(
          severity: .error, path: "warehouse", message: fault.message, remedy: fault.remedy)
      ]
    }
    let names = try await connection.roleAndDatabase()
    return try await Privileges(LedgerSchema.privileges(on: connection)).missing(on: connection)
      .findings(path: "warehouse", role: names.role, database: names.database)
  }

  /// The GRANTs that a role needs to run the pipeline, without those that PUBLIC has.
  /// - Parameter role: nil for the role of the connection. The role does not have to exist.
  /// - Throws: `LedgerSchemaError` if the ledger is missing or incomplete, or is older or newer than this program;
  ///   `LedgerError` if a table of the definition is missing.
  public static func grants(for role: String?, of pipeline: Pipeline) async throws -> [String] {
    try await Connection.withConnection(pipeline.warehouse, refusingPoolers: true) { connection in
      try await LedgerSchema.require(on: connection)
      let catalog = try await Catalog(of: pipeline.definition, on: connection)
      for name in pipeline.definition.tablesNamed where catalog.table(name) == nil {
        throw LedgerError(
          code: .missing, message: "there is no table \(name)",
          remedy: "create it, or correct its name; lethe check shows the line")
      }
      let needed =
        try await LedgerSchema.privileges(on: connection)
        + (try catalog.privileges(of: pipeline.definition))
      let names = try await connection.roleAndDatabase()
      let grantee = role ?? names.role
      return try await Privileges(needed).missing(for: Privileges.everybody, on: connection)
        .grants(to: grantee, database: names.database)
        + (pipeline.pace.replicaLagMax == nil
          ? [] : ["GRANT pg_read_all_stats TO \(Identifier(grantee).quoted)"])
    }
  }

  /// Findings on names and texts of the definition with characters that the database's encoding does not have.
  static func encodingFindings(
    of definition: Definition, on connection: Connection
  ) async throws -> [Finding] {
    let encoding = try await connection.query("SELECT current_setting('server_encoding')")
      .onlyRow(as: String.self)
    guard encoding != "UTF8", encoding != "SQL_ASCII" else { return [] }
    var findings: [Finding] = []
    for (path, text) in definition.texts where !text.utf8.allSatisfy({ $0 < 0x80 }) {
      do {
        _ = try await connection.query("SELECT \(text)::text")
      } catch let error as PostgreSQLError where error.state?.rawValue == "22P05" {
        findings.append(
          Finding(
            severity: .error, path: path,
            message: """
              the database's encoding \(encoding) does not have all characters of this text: \
              \(text.asciiEscaped)
              """,
            remedy: "use other characters, or a database with the encoding UTF8"))
      }
    }
    return findings
  }
}

extension String {
  /// The text with `\u{…}` for characters that are not ASCII.
  var asciiEscaped: String {
    unicodeScalars.map { $0.isASCII ? "\($0)" : "\\u{\(String($0.value, radix: 16))}" }.joined()
  }
}

extension Definition {
  /// The tables of the datasets and of all their targets.
  var tablesNamed: [TableName] {
    func names(_ targets: [Target]) -> [TableName] {
      targets.flatMap { [$0.table] + names($0.targets) }
    }
    return datasets.flatMap { [$0.table] + names($0.targets) }
  }

  /// Every text of the definition that is sent to the database, with its path in the definition.
  fileprivate var texts: [(path: String, text: String)] {
    [("name", name)] + datasets.map { ("datasets.\($0.name)", $0.name) }
      + entries.map { ($0.path, $0.text) }
  }
}
