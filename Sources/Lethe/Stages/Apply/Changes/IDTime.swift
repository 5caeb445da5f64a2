import Foundation
import Ledger
import PostgreSQL
import Vocabulary
import Warehouse

/// The condition on a time column that follows from the times in the IDs of a range. PostgreSQL uses it
/// for partition pruning.
enum IDTime {
  static func condition(
    _ column: WarehouseTable.Column, _ range: EventRange
  ) -> SQL {
    let slack = PostIDTime.slackSeconds
    let through = max(range.through, PostIDTime.firstIDWithTime)
    let latest: SQL = "\(text(PostIDTime.seconds(in: through) + 1 + slack))"
    // The upper limit is inclusive, because a value of a date column stands for a whole day.
    let upper: SQL = "t.\(column.sql) <= \(latest)::\(column.typeSQL)"
    guard range.after >= PostIDTime.firstIDWithTime else { return upper }
    let earliest: SQL = "\(text(PostIDTime.seconds(in: range.after) - slack))"
    return "t.\(column.sql) >= \(earliest)::\(column.typeSQL) AND \(upper)"
  }

  private static func text(_ seconds: Int64) -> String {
    Date(timeIntervalSince1970: Double(seconds)).formatted(.iso8601)
  }
}
