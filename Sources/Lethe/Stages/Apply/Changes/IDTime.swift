import Foundation
import PostgreSQL
import Vocabulary
import Warehouse

/// The condition that the time in the IDs of a range puts on a column: what a partitioned table is
/// pruned by.
enum IDTime {
  static func condition(
    _ column: WarehouseTable.Column, _ range: EventRange, _ bound: inout BoundStatement
  ) -> String {
    let slack = PostIDTime.slackSeconds
    let through = max(range.through, PostIDTime.firstIDWithTime)
    let latest = bound.bind(.text(text(PostIDTime.seconds(in: through) + 1 + slack)))
    // With the end itself: as a date it is the whole of its day.
    let upper = "t.\(column.sql) <= \(latest)::\(column.type)"
    guard range.after >= PostIDTime.firstIDWithTime else { return upper }
    let earliest = bound.bind(.text(text(PostIDTime.seconds(in: range.after) - slack)))
    return "t.\(column.sql) >= \(earliest)::\(column.type) AND \(upper)"
  }

  private static func text(_ seconds: Int64) -> String {
    Date(timeIntervalSince1970: Double(seconds)).formatted(.iso8601)
  }
}
