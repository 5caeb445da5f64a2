public import Testing

extension String {
  /// Returns the text with a part replaced. Records an issue unless the part occurs exactly once, or as often as given.
  /// An edit that changes nothing, or more than it names, would let a test pass that shows nothing.
  public func editing(
    _ part: String, to other: String, occurrences: Int = 1,
    sourceLocation: SourceLocation = #_sourceLocation
  ) -> String {
    let count = ranges(of: part).count
    if count != occurrences {
      Issue.record("\(part) occurs \(count) times", sourceLocation: sourceLocation)
    }
    return replacing(part, with: other)
  }
}
