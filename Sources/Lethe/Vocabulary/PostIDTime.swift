/// The time in a post's ID.
///
/// Source: the layout of X's IDs since November 2010: 41 bits of milliseconds since 2010-11-04T01:42:54.657Z,
/// then 22 other bits. Earlier IDs contain no time.
public enum PostIDTime {
  /// The epoch of post IDs: the time at which the milliseconds in an ID are 0. In milliseconds since 1970.
  public static let epochMilliseconds: Int64 = 1_288_834_974_657
  /// The bits below the milliseconds.
  public static let otherBits = 22
  public static let firstIDWithTime: Int64 = 29_700_859_247
  /// How far a stored time may differ from the ID's time, because the column may contain a date in another time zone.
  public static let slackSeconds: Int64 = 26 * 60 * 60

  /// The time in an ID that has one, in whole seconds since 1970, rounded down.
  public static func seconds(in id: Int64) -> Int64 {
    ((id >> otherBits) + epochMilliseconds) / 1000
  }
}
