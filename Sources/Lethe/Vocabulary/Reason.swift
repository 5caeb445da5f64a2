/// Why an ID needs action.
///
/// Source: X's Batch Compliance integration guide. `scrub_geo` and `geo_scrubbed` are two words for one reason. This
/// reason concerns only the location, even if an old result pairs it with the action `delete`.
public enum Reason: String, Sendable, Hashable, Codable, CaseIterable {
  case deleted
  case bounced
  case suspended
  case deactivated
  case protected
  case geoScrubbed = "geo_scrubbed"
  case tweetEdited = "tweet_edited"

  /// Reads a reason from the API or a definition; nil if the reason is unknown.
  public init?(word: some StringProtocol) {
    if word == "scrub_geo" {
      self = .geoScrubbed
    } else {
      self.init(rawValue: String(word))
    }
  }

  /// Whether an event with this reason shows that its ID is not protected. A result has only one event for each ID:
  /// the event with the strongest action. `protected` has the action `delete`, which is stronger than `rehydrate` and
  /// `scrub_geo`. So an ID whose event has one of these two actions is not protected.
  public var isOutweighedByProtected: Bool {
    switch self {
    case .geoScrubbed, .tweetEdited: true
    case .deleted, .bounced, .suspended, .deactivated, .protected: false
    }
  }

  /// The reasons for which `isOutweighedByProtected` is true.
  public static let outweighedByProtected = allCases.filter(\.isOutweighedByProtected)
    .map(\.rawValue)

  /// The reasons that results of this job type can contain. A definition needs an action for each of them.
  public static func documented(for type: JobType) -> [Reason] {
    allCases.filter { $0.isDocumented(for: type) }
  }

  /// Whether results of this job type can contain the reason.
  public func isDocumented(for type: JobType) -> Bool {
    switch (type, self) {
    case (.tweets, _), (.users, .deleted), (.users, .suspended), (.users, .deactivated),
      (.users, .protected):
      true
    case (.users, .bounced), (.users, .geoScrubbed), (.users, .tweetEdited): false
    }
  }
}
