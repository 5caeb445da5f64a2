package import SQLText

/// A part of a chunk's events: the events with IDs above `after`, up to and including `through`.
package struct EventRange: Sendable {
  package let chunkID: Int64
  package var after: Int64
  package var through: Int64
  /// The labels of `lethe.reason` that the events have. The set can contain further labels. Nil if the labels are
  /// unknown.
  package var reasons: Set<String>?
  /// False only if it is known that no event of the range ends a protection.
  package var mayRestore: Bool
  /// False only if it is known that no event of the range is partly applied.
  package var mayBePartlyApplied: Bool

  package init(
    chunkID: Int64, after: Int64, through: Int64, reasons: Set<String>? = nil,
    mayRestore: Bool = true, mayBePartlyApplied: Bool = true
  ) {
    self.chunkID = chunkID
    self.after = after
    self.through = through
    self.reasons = reasons
    self.mayRestore = mayRestore
    self.mayBePartlyApplied = mayBePartlyApplied
  }

  /// All events of a chunk.
  package init(all chunk: Chunk) {
    self.init(chunkID: chunk.id, after: chunk.firstID - 1, through: chunk.lastID)
  }

  /// False only if it is known that no event of the range has one of the reasons.
  package func mayContain(_ reasons: [String]) -> Bool {
    self.reasons.map { !$0.isDisjoint(with: reasons) } ?? true
  }

  /// A part of the range.
  package func from(_ after: Int64, through: Int64) -> EventRange {
    var part = self
    (part.after, part.through) = (after, through)
    return part
  }

  /// The condition that an event `s` is in the range.
  package var all: SQL {
    "s.chunk_id = \(chunkID) AND s.id > \(after) AND s.id <= \(through)"
  }

  /// The condition that an event `s` is in the range and no newer answer has superseded it.
  package var current: SQL { "\(all) AND s.superseded_by IS NULL" }
}
