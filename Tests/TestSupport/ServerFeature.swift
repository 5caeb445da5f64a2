import PostgreSQL

/// An optional feature of a PostgreSQL build.
public enum ServerFeature: String, Sendable {
  // The collation `unicode` exists in every build, even without ICU.
  case icu = """
    SELECT EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i' AND collname <> 'unicode')
    """
  case xml = "SELECT '<a/>'::xml IS NOT NULL"

  /// Whether the tests' server has the feature. Always true if `isNeeded` is false.
  public func isAvailable(ifNeeded isNeeded: Bool = true) async throws -> Bool {
    guard isNeeded else { return true }
    let url = try TestServer.fromEnvironment().url(database: "postgres")
    return try await Connection.withConnection(ConnectionString(url)) { connection in
      do {
        return try await connection.query(SQL(trusted: rawValue)).onlyRow(as: Bool.self)
      } catch let error as PostgreSQLError where error.state?.conditionClass == "0A" {
        return false
      }
    }
  }
}
