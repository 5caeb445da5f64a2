extension SQL {
  /// The precision of a time's text.
  public enum TimePrecision: Sendable {
    case seconds
    case milliseconds
    case microseconds
  }

  /// A time as ISO 8601 in UTC. For the years 1 to 9999, texts of the same precision have the same sort order as the
  /// times.
  public static func utc(_ time: SQL, _ precision: TimePrecision = .seconds) -> SQL {
    let fraction: SQL =
      switch precision {
      case .seconds: ""
      case .milliseconds: ".MS"
      case .microseconds: ".US"
      }
    let format: SQL = #"'YYYY-MM-DD"T"HH24:MI:SS\#(fraction)"Z"'"#
    return "pg_catalog.to_char(\(time) AT TIME ZONE 'UTC', \(format))"
  }
}
