/// What the platform's state says of submitted IDs: the one place that decides.
extension JobType {
  /// Result lines for the IDs of the table `submitted`, in the order of their IDs.
  ///
  /// An ID that the platform does not know, or has nothing against, gets no line. Of several verdicts
  /// on a post the heaviest counts: its own deletion, its author's state, an edit, the loss of its
  /// location.
  var answersSQL: String {
    switch self {
    case .tweets:
      """
      SELECT \(Self.lineSQL) FROM (
        SELECT DISTINCT ON (post.post_id)
          post.post_id AS id, verdict.action, verdict.reason, post.created_at, verdict.since
        FROM submitted
        JOIN platform.posts post ON post.post_id = submitted.id
        JOIN platform.accounts author ON author.account_id = post.author_id
        CROSS JOIN LATERAL (
          SELECT * FROM (VALUES
            (1, 'delete', 'deleted', post.deleted_at),
            (2, 'delete', author.state::text,
              CASE WHEN author.state <> 'active' THEN author.state_changed_at END),
            (3, 'rehydrate', 'tweet_edited', post.edited_at),
            (4, 'scrub_geo', 'geo_scrubbed', post.geo_removed_at)
          ) verdict (weight, action, reason, since)
          WHERE since IS NOT NULL ORDER BY weight LIMIT 1
        ) verdict
        WHERE post.deleted_at IS NOT NULL OR author.state <> 'active'
          OR post.edited_at IS NOT NULL OR post.geo_removed_at IS NOT NULL
        ORDER BY post.post_id
      ) event ORDER BY id
      """
    case .users:
      """
      SELECT \(Self.lineSQL) FROM (
        SELECT DISTINCT ON (account.account_id)
          account.account_id AS id, 'delete' AS action, account.state::text AS reason,
          account.created_at, account.state_changed_at AS since
        FROM submitted
        JOIN platform.accounts account ON account.account_id = submitted.id
        WHERE account.state <> 'active'
        ORDER BY account.account_id
      ) event ORDER BY id
      """
    }
  }

  /// No value of it needs escaping, neither for JSON nor for COPY.
  private static let lineSQL = """
    '{"id":"' || id || '","action":"' || action || '","reason":"' || reason
      || '","created_at":"'
      || to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
      || '","redacted_at":"'
      || to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || '"}'
    """
}
