/// The action that removes the location from the row, and keeps the rest.
package struct ScrubGeoAction: ErasingAction {
  package static let word = "scrub_geo"
  package static let storedKey = "scrubGeo"

  package let content: Erasure

  package init(_ content: Erasure) { self.content = content }
}

extension Action {
  public static func scrubGeo(_ location: Erasure) -> Action { Action(ScrubGeoAction(location)) }
}
