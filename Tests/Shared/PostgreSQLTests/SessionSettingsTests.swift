import PostgreSQL
import TestSupport
import Testing

/// Tests that settings of a database, a connection string or a role do not change Lethe's sessions.
@Suite struct SessionSettingsTests {
  struct Setting: CustomTestStringConvertible, Sendable {
    let name: String
    /// The value that the database or the connection string sets.
    let theirs: String
    /// The value that each of Lethe's sessions must have.
    let ours: String

    var testDescription: String { "\(name) = \(theirs)" }
  }

  private static let settings = [
    Setting(name: "bytea_output", theirs: "escape", ours: "hex"),
    Setting(name: "standard_conforming_strings", theirs: "off", ours: "on"),
    Setting(name: "backslash_quote", theirs: "on", ours: "safe_encoding"),
    Setting(name: "array_nulls", theirs: "off", ours: "on"),
    Setting(name: "transform_null_equals", theirs: "on", ours: "off"),
    Setting(name: "quote_all_identifiers", theirs: "on", ours: "off"),
    Setting(name: "statement_timeout", theirs: "20s", ours: "0"),
    Setting(name: "lock_timeout", theirs: "1s", ours: "0"),
    Setting(name: "idle_session_timeout", theirs: "30s", ours: "0"),
    Setting(name: "idle_in_transaction_session_timeout", theirs: "30s", ours: "1min"),
    Setting(name: "default_transaction_isolation", theirs: "serializable", ours: "read committed"),
    Setting(name: "default_transaction_read_only", theirs: "on", ours: "off"),
    Setting(name: "default_transaction_deferrable", theirs: "on", ours: "off"),
    Setting(name: "DateStyle", theirs: "SQL, DMY", ours: "ISO, YMD"),
    Setting(name: "TimeZone", theirs: "Asia/Kathmandu", ours: "UTC"),
    Setting(name: "IntervalStyle", theirs: "iso_8601", ours: "postgres"),
    Setting(name: "extra_float_digits", theirs: "0", ours: "1"),
    Setting(name: "lc_monetary", theirs: "C.UTF-8", ours: "C"),
    Setting(name: "xmlbinary", theirs: "hex", ours: "base64"),
    Setting(name: "xmloption", theirs: "document", ours: "content"),
    Setting(name: "row_security", theirs: "off", ours: "on"),
    Setting(name: "exit_on_error", theirs: "on", ours: "off"),
    Setting(name: "check_function_bodies", theirs: "off", ours: "on"),
    Setting(name: "jit", theirs: "on", ours: "off"),
    Setting(name: "session_replication_role", theirs: "replica", ours: "origin"),
  ]

  @Test(arguments: settings)
  func aSessionOverridesOtherSettings(setting: Setting) async throws {
    try await withTestDatabase { database in
      try await database.withConnection {
        try await $0.runScript(
          """
          ALTER DATABASE \(identifier: database.name)
          SET \(trusted: setting.name) = \(trusted: setting.theirs.contains(",") ? setting.theirs : "'\(setting.theirs)'")
          """)
      }
      let options =
        "?options=-c%20\(setting.name)%3D\(setting.theirs.replacing(" ", with: "%5C%20"))"
      for query in ["", options] {
        try await Connection.withConnection(ConnectionString(database.url + query)) {
          let value = try await $0.query("SELECT current_setting('\(trusted: setting.name)')")
            .onlyRow(as: String.self)
          #expect(value == setting.ours)
        }
      }
    }
  }

  /// With `session_replication_role = replica`, PostgreSQL checks no foreign keys and fires no ordinary triggers. This
  /// role has no privilege to change the setting, so `connect` throws.
  @Test func aRoleThatCannotChangeSessionReplicationRoleIsRefused() async throws {
    try await withTestDatabase { database in
      let role = "\(database.name)_role"
      try await database.withConnection {
        try await $0.runScript(
          """
          CREATE ROLE \(trusted: role) LOGIN;
          ALTER ROLE \(trusted: role) SET session_replication_role = 'replica'
          """)
      }
      let error = await #expect(throws: PostgreSQLError.self) {
        try await Connection.withConnection(ConnectionString(database.url + "?user=\(role)")) { _ in
        }
      }
      #expect(error?.code == .unusableSession)
      #expect(error?.message.contains("session_replication_role is replica") == true)
      try await database.withConnection { try await $0.runScript("DROP ROLE \(trusted: role)") }
    }
  }
}
