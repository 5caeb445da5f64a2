/// The words of a result. X documents two sets of them and does not say which it emits.
///
/// docs/reference/result-words.md has both as a table.
public enum ResultVocabulary: String, Sendable, CaseIterable {
  /// Those that the overview page of the API names. Where it names none, as for an edit or the action of a line,
  /// those of the guide.
  case overview
  /// Those of the integration guide of September 2026.
  case guide

  /// Whether a result says that a post was edited. What came through Google Cloud Storage was older than edits.
  func knowsEdits(_ profile: WireProfile) -> Bool {
    switch self {
    case .overview: profile == .native
    case .guide: true
    }
  }

  /// A line's action and reason, between an ID and a time.
  func words(_ verdict: Verdict, _ profile: WireProfile) -> StaticString {
    switch (verdict, self) {
    case (.bounced, .overview): #"","action":"delete","reason":"bounced"#
    case (.deleted, _), (.bounced, .guide), (.authorDeleted, _):
      #"","action":"delete","reason":"deleted"#
    case (.authorSuspended, _): #"","action":"delete","reason":"suspended"#
    // The overview names it for users only; their posts have no other word.
    case (.authorDeactivated, _): #"","action":"delete","reason":"deactivated"#
    case (.authorProtected, _): #"","action":"delete","reason":"protected"#
    case (.edited, _): #"","action":"rehydrate","reason":"tweet_edited"#
    case (.geoRemoved, .guide): #"","action":"scrub_geo","reason":"geo_scrubbed"#
    case (.geoRemoved, .overview):
      switch profile {
      case .native: #"","action":"scrub_geo","reason":"scrub_geo"#
      // A trap: the action says delete where only the location goes.
      case .gcs: #"","action":"delete","reason":"scrub_geo"#
      }
    }
  }
}
