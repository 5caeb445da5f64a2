/// Why an ID needs action.
///
/// Source: X's Batch Compliance integration guide. `scrub_geo` and `geo_scrubbed` are one reason, and
/// it always means the location only, even where an old result says `delete` beside it.
public enum Reason: String, Sendable, Hashable, Codable, CaseIterable {
  case deleted
  case bounced
  case suspended
  case deactivated
  case protected
  case geoScrubbed = "geo_scrubbed"
  case tweetEdited = "tweet_edited"

  /// Reads the API's or a definition's word; nil for one that is not known.
  public init?(word: some StringProtocol) {
    if word == "scrub_geo" {
      self = .geoScrubbed
    } else {
      self.init(rawValue: String(word))
    }
  }

  /// Whether an ID that comes with this reason is not protected: a result has one event for an ID, the
  /// heaviest, and `delete`, which `protected` comes with, outweighs `rehydrate` and `scrub_geo`.
  public var isOutweighedByProtected: Bool {
    switch self {
    case .geoScrubbed, .tweetEdited: true
    case .deleted, .bounced, .suspended, .deactivated, .protected: false
    }
  }

  /// The labels of those.
  public static let outweighedByProtected = allCases.filter(\.isOutweighedByProtected)
    .map(\.rawValue)

  /// What the results of a job of this type can say. A definition must answer each of them.
  public static func documented(for type: JobType) -> [Reason] {
    switch type {
    case .tweets: allCases
    case .users: [.deleted, .suspended, .deactivated, .protected]
    }
  }
}
