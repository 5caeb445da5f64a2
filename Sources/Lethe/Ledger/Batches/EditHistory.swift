package import SQLText

/// The edits of posts that a dataset has already applied.
package struct EditHistory: Sendable {
  let origin: BatchOrigin
  /// Whether event records might have been pruned. If so, the record of an edit can be missing, although a trace of the
  /// edit exists.
  let hasPrunedRecords: Bool

  package init(_ origin: BatchOrigin, hasPrunedRecords: Bool) {
    self.origin = origin
    self.hasPrunedRecords = hasPrunedRecords
  }

  /// The condition that the dataset has not applied the edit before. A dataset applies an edit only once, because the
  /// post might already have been fetched again after the edit. Edits of a post with the same time from the platform
  /// are the same edit. All edits of a post without any time are treated as one edit. Records of this batch are
  /// ignored.
  ///
  /// - Parameter label: the label of the change that an edit makes to rows. Nil for the change that only queues the ID.
  package func isNewEdit(label: String?) -> SQL {
    let wasMade = label.map { " OR e.changed ? \($0)" as SQL } ?? ""
    return """
      NOT EXISTS (
        SELECT FROM lethe.event AS e
        JOIN lethe.chunk AS ec ON ec.chunk_id = e.chunk_id
        JOIN lethe.run AS er ON er.run_id = ec.run_id
        WHERE e.id = s.id AND e.reason = s.reason AND \(isSameEdit("e.created_at", "e.redacted_at"))
          AND e.cause_id IS NULL AND e.superseded_by IS NULL
          AND (e.action = 'rehydrate'\(wasMade))
          AND ec.dataset = \(origin.dataset)
          AND er.pipeline = \(origin.pipeline)
          AND NOT (e.chunk_id = \(origin.chunkID)
                   AND e.batch = \(origin.number)::integer))
      \(hasPrunedRecords ? "AND \(isNotTraced)" as SQL : "")
      """
  }

  /// The condition that an earlier answer has the same time as the event `s`. It compares the time of the edit or, if
  /// the platform does not return that time, the time of the post.
  private func isSameEdit(_ createdAt: SQL, _ redactedAt: SQL) -> SQL {
    """
    \(redactedAt) IS NOT DISTINCT FROM s.redacted_at
          AND (s.redacted_at IS NOT NULL OR \(createdAt) IS NOT DISTINCT FROM s.created_at)
    """
  }

  /// The condition that the last result with an answer for the ID of the event `s` has left no trace of the same edit.
  /// A trace is enough, even if the record that it repeats was pruned.
  private var isNotTraced: SQL {
    """
    NOT EXISTS (
      SELECT FROM lethe.coverage AS v JOIN lethe.trace AS t ON t.chunk_id = v.chunk_id,
           LATERAL (SELECT \(PastEvents.position(of: "s.id", in: "t")) AS place) AS p
      WHERE v.pipeline = \(origin.pipeline)
        AND v.dataset = \(origin.dataset)
        AND v.first_id <= s.id AND v.last_id >= s.id AND t.reason = s.reason AND t.action = 'rehydrate'
        AND t.first_id <= s.id AND t.last_id >= s.id AND p.place IS NOT NULL
        AND \(isSameEdit("t.created_at[p.place]", "t.redacted_at[p.place]")))
    """
  }
}
