/// The time that is in a post's ID.
///
/// Source: the layout of X's IDs since November 2010, 41 bits of milliseconds since
/// 2010-11-04T01:42:54.657Z above 22 others. Earlier IDs hold no time.
public enum PostIDTime {
  /// What the milliseconds in an ID count from, as milliseconds since 1970.
  public static let epochMilliseconds: Int64 = 1_288_834_974_657
  /// The bits below the milliseconds.
  public static let otherBits = 22
  public static let firstIDWithTime: Int64 = 29_700_859_247
  /// How far a stored time may be from the ID's: it may be a day in another zone.
  public static let slackSeconds: Int64 = 26 * 60 * 60

  /// The time in an ID that has one, in seconds since 1970, cut to whole ones.
  public static func seconds(in id: Int64) -> Int64 {
    ((id >> otherBits) + epochMilliseconds) / 1000
  }
}
