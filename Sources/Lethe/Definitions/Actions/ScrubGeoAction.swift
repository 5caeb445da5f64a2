package import DefinitionFiles
package import SQLText

/// Takes the location out of the row, and keeps the rest.
package struct ScrubGeoAction: RowAction {
  package static let word = "scrub_geo"
  package static let frozenKey = "scrubGeo"
  package static let fault: (message: String, remedy: String)? = (
    "scrub_geo names no columns", "write {scrub_geo: [column, …]}"
  )

  private let location: Erasure

  package init(_ location: Erasure) { self.location = location }

  package static func read(_ map: YAMLMap) -> ScrubGeoAction? {
    Erasure(map, word).map { ScrubGeoAction($0) }
  }

  package var written: String { "{\(Self.word): \(location.written)}" }
  package var columns: [String] { location.columns }

  package func renamingColumns(_ name: (String) -> String) -> ScrubGeoAction {
    ScrubGeoAction(location.renamingColumns(name))
  }

  package init(frozen container: KeyedDecodingContainer<FrozenKey>) throws {
    location = try container.decode(Erasure.self, forKey: "_0")
  }

  package func freeze(into container: inout KeyedEncodingContainer<FrozenKey>) throws {
    try container.encode(location, forKey: "_0")
  }

  package static let isRedacting = true
  package var erasure: Erasure? { location }
  package var requirements: [ActionRequirement] { location.requirements }
  package var operation: RowOperation? { .update }
  package var columnsSet: [String] { location.columns }
  package func assignments(_ row: some RowSQL) -> [SQL] { location.assignments(row) }
  package func needsChange(_ row: some RowSQL) -> SQL? { location.needsChange(row) }
}

extension Action {
  public static func scrubGeo(_ location: Erasure) -> Action { Action(ScrubGeoAction(location)) }
}
