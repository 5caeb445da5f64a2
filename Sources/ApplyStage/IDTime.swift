import Foundation
import PostgreSQL
import Warehouse

/// The condition that the time in the IDs of a range puts on a column: what a partitioned table is
/// pruned by.
///
/// Source: the layout of X's IDs since November 2010, 41 bits of milliseconds since
/// 2010-11-04T01:42:54.657Z above 22 others. Earlier IDs hold no time.
enum IDTime {
  private static let epochMilliseconds: Int64 = 1_288_834_974_657
  private static let firstIDWithTime: Int64 = 29_700_859_247
  /// A stored time may be cut to seconds, or be a day in another zone.
  private static let slackSeconds: Int64 = 26 * 60 * 60

  static func condition(
    _ column: WarehouseTable.Column, _ range: EventRange, _ bound: inout BoundStatement
  ) -> String {
    let through = max(range.through, firstIDWithTime)
    let latest = bound.bind(.text(text(seconds(in: through) + 1 + slackSeconds)))
    let upper = "t.\(column.sql) < \(latest)::\(column.type)"
    guard range.after >= firstIDWithTime else { return upper }
    let earliest = bound.bind(.text(text(seconds(in: range.after) - slackSeconds)))
    return "t.\(column.sql) >= \(earliest)::\(column.type) AND \(upper)"
  }

  private static func seconds(in id: Int64) -> Int64 { ((id >> 22) + epochMilliseconds) / 1000 }

  private static func text(_ seconds: Int64) -> String {
    Date(timeIntervalSince1970: Double(seconds)).formatted(.iso8601)
  }
}
