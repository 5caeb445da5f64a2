/// The actions and reasons of result lines. X documents two sets, and does not document which set it uses.
///
/// docs/reference/result-words.md has a table with both sets.
public enum ResultVocabulary: String, Sendable, CaseIterable {
  /// The set of the API's overview page. The page has no reason for edits and no actions. For these, the native profile
  /// uses the guide's words.
  case overview
  /// The set of the integration guide of September 2026.
  case guide

  /// Whether results include edits. With `overview`, gcs results have no edits, because results had none while the API
  /// used Google Cloud Storage.
  func knowsEdits(_ profile: WireProfile) -> Bool {
    switch self {
    case .overview: profile == .native
    case .guide: true
    }
  }

  /// Returns the JSON of a line's action and reason, between the ID and the time.
  func words(_ verdict: Verdict, _ profile: WireProfile) -> StaticString {
    switch (verdict, self) {
    case (.bounced, .overview): #"","action":"delete","reason":"bounced"#
    case (.deleted, _), (.bounced, .guide), (.authorDeleted, _):
      #"","action":"delete","reason":"deleted"#
    case (.authorSuspended, _): #"","action":"delete","reason":"suspended"#
    // The overview page documents `deactivated` for users only, but has no other reason for the posts of these users.
    case (.authorDeactivated, _): #"","action":"delete","reason":"deactivated"#
    case (.authorProtected, _): #"","action":"delete","reason":"protected"#
    case (.edited, _): #"","action":"rehydrate","reason":"tweet_edited"#
    case (.geoRemoved, .guide): #"","action":"scrub_geo","reason":"geo_scrubbed"#
    case (.geoRemoved, .overview):
      switch profile {
      case .native: #"","action":"scrub_geo","reason":"scrub_geo"#
      // Recorded results contain the action `delete`, although only the location must be removed.
      case .gcs: #"","action":"delete","reason":"scrub_geo"#
      }
    }
  }
}
