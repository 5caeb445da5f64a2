/// STUB
public enum ValueExpression: Sendable {
  case now
  case currentDate
  public init?(_ value: String?, column: WarehouseTable.Column) {
    switch value {
    case "now()": self = .now;
    case "current_date": self = .currentDate;
    default: return nil
    }
  }
  public var sql: String { self == .now ? "pg_catalog.now()" : "current_date" }
}
