import PostgreSQL
import TestSupport

/// Small sample data: posts and users, with changes of every documented kind. Plain SQL computes the required content
/// of the warehouse from the platform's data.
extension PipelineFixture {
  /// Fills warehouse and platform, and keeps a copy of the warehouse in the schema `before`.
  ///
  /// - Parameters:
  ///   - posts: the number of posts. The platform has all of their authors, and the warehouse has some of them.
  ///   - users: the number of accounts on the platform.
  ///   - editedPostsLoseLocations: whether some posts were edited and also lost their location. The two profiles
  ///     report such a post differently. The native profile reports the edit. The legacy profile cannot
  ///     report edits, and reports the lost location. A run with the legacy profile uses data without such posts.
  ///     The data still has many edited posts and many posts without their location.
  func addSamples(
    posts: Int = 2000, users: Int = 60, editedPostsLoseLocations: Bool = true
  ) async throws {
    try await execute(
      """
      INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
      SELECT u, 'user' || u, now() - interval '1 year',
             (CASE u % 11 WHEN 1 THEN 'protected' WHEN 2 THEN 'suspended' WHEN 3 THEN 'deactivated'
                          WHEN 4 THEN 'deleted' ELSE 'active' END)::platform.account_state,
             now() - interval '1 day'
      FROM generate_series(1, \(literal: users)) AS u;

      -- Every fourth account is only on the platform.
      INSERT INTO warehouse.users (user_id, username, created_at)
      SELECT account_id, username, created_at FROM platform.accounts WHERE account_id % 4 <> 0;

      INSERT INTO platform.posts
        (post_id, author_id, created_at, deleted_at, edited_at, geo_removed_at)
      SELECT p * 1000, 1 + (p * 7) % \(literal: users), now() - interval '1 month',
             CASE WHEN p % 17 = 0 THEN now() END, CASE WHEN p % 19 = 0 THEN now() END,
             CASE WHEN p % 13 = 0 AND (\(trusted: "\(editedPostsLoseLocations)")
               OR p % 19 <> 0) THEN now() END
      FROM generate_series(1, \(literal: posts)) AS p;

      -- In the warehouse, every tenth post has an ID that the platform does not have. So the post is clean.
      INSERT INTO warehouse.posts
        (post_id, author_id, text, latitude, longitude, place_id, created_at)
      SELECT post_id + CASE WHEN post_id % 10000 = 0 THEN 1 ELSE 0 END, author_id,
             'text of ' || post_id, 51.5, -0.1, 'london', created_at
      FROM platform.posts;

      INSERT INTO warehouse.post_media (post_id, media_key, url)
      SELECT post_id, 'key', 'https://media.example/' || post_id FROM warehouse.posts
      WHERE post_id % 3 = 0;

      INSERT INTO warehouse.reposts (repost_id, reposted_post_id, author_id, text, created_at)
      SELECT 900000000 + post_id, post_id, 1, text, created_at FROM warehouse.posts
      WHERE post_id % 7 = 0;
      """)
    try await keepCopy()
    try await execute("VACUUM ANALYZE")
  }

  /// Replaces the copy of the warehouse in the schema `before`.
  func keepCopy() async throws {
    try await execute(
      """
      DROP SCHEMA IF EXISTS before CASCADE;
      CREATE SCHEMA before;
      CREATE TABLE before.posts AS TABLE warehouse.posts;
      CREATE TABLE before.users AS TABLE warehouse.users;
      CREATE TABLE before.post_media AS TABLE warehouse.post_media;
      CREATE TABLE before.reposts AS TABLE warehouse.reposts;
      """)
  }

  /// The number of rows, in all tables, that do not match the platform.
  func rowsThatDiffer() async throws -> Int {
    try await value(SQL(trusted: Self.differences), as: Int.self)
  }

  /// The number of damaged rows in all tables. These are rows of clean IDs that changed, and rows of any ID that
  /// lost more than the platform requires. Unfinished work does not count as damage.
  func damagedRows() async throws -> Int {
    try await value(SQL(trusted: Self.damage), as: Int.self)
  }

  private static let differences =
    requiredTables + """
      SELECT (SELECT count(*) FROM ((TABLE posts EXCEPT ALL TABLE warehouse.posts)
                UNION ALL (TABLE warehouse.posts EXCEPT ALL TABLE posts)) AS d)
           + (SELECT count(*) FROM ((TABLE users EXCEPT ALL TABLE warehouse.users)
                UNION ALL (TABLE warehouse.users EXCEPT ALL TABLE users)) AS d)
           + (SELECT count(*) FROM ((TABLE post_media EXCEPT ALL TABLE warehouse.post_media)
                UNION ALL (TABLE warehouse.post_media EXCEPT ALL TABLE post_media)) AS d)
           + (SELECT count(*) FROM ((TABLE reposts EXCEPT ALL TABLE warehouse.reposts)
                UNION ALL (TABLE warehouse.reposts EXCEPT ALL TABLE reposts)) AS d)
      """

  /// Counts the rows that are missing, and the rows with a value that is neither the former nor the required one.
  private static let damage =
    requiredTables + """
      SELECT (SELECT count(*) FROM posts AS p JOIN before.posts AS b USING (post_id)
              LEFT JOIN warehouse.posts AS w USING (post_id)
              WHERE w.post_id IS NULL OR w.text IS DISTINCT FROM b.text OR w.raw::text IS DISTINCT FROM b.raw::text
                 OR (w.latitude IS DISTINCT FROM b.latitude AND w.latitude IS DISTINCT FROM p.latitude)
                 OR (w.longitude IS DISTINCT FROM b.longitude AND w.longitude IS DISTINCT FROM p.longitude)
                 OR (w.place_id IS DISTINCT FROM b.place_id AND w.place_id IS DISTINCT FROM p.place_id)
                 OR (w.visibility IS DISTINCT FROM b.visibility AND w.visibility IS DISTINCT FROM p.visibility))
           + (SELECT count(*) FROM users AS u JOIN before.users AS b USING (user_id)
              LEFT JOIN warehouse.users AS w USING (user_id)
              WHERE w.user_id IS NULL OR w.username IS DISTINCT FROM b.username
                 OR (w.visibility IS DISTINCT FROM b.visibility AND w.visibility IS DISTINCT FROM u.visibility))
           + (SELECT count(*) FROM (TABLE post_media EXCEPT ALL TABLE warehouse.post_media) AS d)
           + (SELECT count(*) FROM (TABLE reposts EXCEPT ALL TABLE warehouse.reposts) AS d)
      """

  /// The tables with their required content.
  private static let requiredTables = """
    WITH gone_user AS (
      SELECT account_id FROM platform.accounts JOIN before.users ON user_id = account_id
      WHERE state IN ('deleted', 'suspended', 'deactivated')
    ), protected_user AS (
      SELECT account_id FROM platform.accounts JOIN before.users ON user_id = account_id
      WHERE state = 'protected'
    ), post_answer AS (
      SELECT p.post_id, CASE
          WHEN p.deleted_at IS NOT NULL OR a.state IN ('deleted', 'suspended', 'deactivated') THEN 'gone'
          WHEN a.state = 'protected' THEN 'protected'
          WHEN p.edited_at IS NOT NULL THEN 'edited'
          WHEN p.geo_removed_at IS NOT NULL THEN 'geo' END AS answer
      FROM platform.posts AS p JOIN platform.accounts AS a ON a.account_id = p.author_id
    ), gone_post AS (
      SELECT post_id FROM before.posts
      WHERE author_id IN (SELECT account_id FROM gone_user)
         OR post_id IN (SELECT post_id FROM post_answer WHERE answer = 'gone')
    ), posts AS (
      SELECT b.post_id, author_id, text,
             CASE WHEN a.answer = 'geo' THEN NULL ELSE latitude END AS latitude,
             CASE WHEN a.answer = 'geo' THEN NULL ELSE longitude END AS longitude,
             CASE WHEN a.answer = 'geo' THEN NULL ELSE place_id END AS place_id,
             CASE WHEN a.answer = 'protected' OR author_id IN (SELECT account_id FROM protected_user)
                  THEN 'protected' ELSE visibility END AS visibility,
             created_at, ingested_at, raw
      FROM before.posts AS b LEFT JOIN post_answer AS a USING (post_id)
      WHERE b.post_id NOT IN (SELECT post_id FROM gone_post)
    ), users AS (
      SELECT user_id, username, display_name, location,
             CASE WHEN user_id IN (SELECT account_id FROM protected_user)
                  THEN 'protected' ELSE visibility END AS visibility,
             created_at, ingested_at, raw
      FROM before.users WHERE user_id NOT IN (SELECT account_id FROM gone_user)
    ), post_media AS (
      SELECT * FROM before.post_media WHERE post_id NOT IN (SELECT post_id FROM gone_post)
    ), reposts AS (
      SELECT * FROM before.reposts WHERE reposted_post_id NOT IN (SELECT post_id FROM gone_post)
    )

    """

  /// A subquery that decodes the ledger's traces into events. Its columns are chunk_id, batch, type, reason, action,
  /// id, created_at and redacted_at. Only edits have times.
  static let tracedEvents = """
    (SELECT t.chunk_id, t.batch, t.type, t.reason, t.action, t.created_at[n + 1] AS created_at,
            t.redacted_at[n + 1] AS redacted_at,
            (SELECT t.first_id + sum(get_byte(t.distances, n * w + b) * 256::numeric ^ (w - 1 - b))
             FROM generate_series(0, w - 1) AS b)::bigint AS id
     FROM lethe.trace AS t, LATERAL (SELECT octet_length(t.distances) / t.events AS w) AS v,
          generate_series(0, t.events - 1) AS n)
    """

  /// The violations of the ledger's rules. The rules must be true after any number of interruptions: each chunk's
  /// events are recorded once, no event and no job is left over, and the totals are correct.
  func ledgerFaults() async throws -> [String] {
    try await database.withConnection { connection in
      try await connection.query(
        """
        WITH record AS (
          SELECT chunk_id, id, cause_id, reason FROM lethe.event
          UNION ALL SELECT chunk_id, id, NULL, reason FROM \(trusted: Self.tracedEvents) AS t
        )
        SELECT 'an event is recorded twice: ' || id FROM record
        GROUP BY chunk_id, id, cause_id HAVING count(*) > 1
        UNION ALL
        SELECT 'chunk ' || c.chunk_id || ' has ' || count(e.id) || ' records of ' || max(c.events)
        FROM lethe.chunk AS c
        LEFT JOIN record AS e ON e.chunk_id = c.chunk_id AND e.cause_id IS NULL
        WHERE c.state = 'applied' AND e.reason IS DISTINCT FROM 'clean'
        GROUP BY c.chunk_id
        HAVING count(e.id) + (SELECT count(*) FROM lethe.refusal AS f
                              WHERE f.chunk_id = c.chunk_id AND f.reason <> 'clean'
                                AND f.resolution IS DISTINCT FROM 'retried') <> max(c.events)
        UNION ALL
        SELECT 'a refused event has a record: ' || f.id
        FROM lethe.refusal AS f JOIN record AS e USING (chunk_id, id)
        WHERE e.cause_id IS NULL AND f.resolution IS DISTINCT FROM 'retried'
        UNION ALL
        SELECT DISTINCT 'a collected event is left over' FROM lethe.collected
        UNION ALL
        SELECT 'job ' || job_id || ' is alive' FROM lethe.job WHERE ended_at IS NULL
        UNION ALL
        SELECT 'chunk ' || chunk_id || ' is ' || state FROM lethe.chunk WHERE state <> 'applied'
        UNION ALL
        SELECT 'chunk ' || chunk_id || ' counts ' || max(counted.rows) || ' rows, its events ' || sum(n.value::bigint)
        FROM (
          SELECT chunk_id, changed FROM lethe.event WHERE cause_id IS NULL
          UNION ALL
          -- The rows that an event changed before the event was refused.
          SELECT chunk_id, event -> 'changed' FROM lethe.refusal
          WHERE resolution IS DISTINCT FROM 'retried' AND event -> 'changed' <> 'null'
        ) AS event, jsonb_each_text(changed) AS n,
             LATERAL (SELECT sum(rows) AS rows FROM lethe.change AS h
                      WHERE h.chunk_id = event.chunk_id) AS counted
        GROUP BY chunk_id HAVING max(counted.rows) <> sum(n.value::bigint)
        UNION ALL
        SELECT 'batch ' || number || ' of chunk ' || chunk_id || ' has records that do not match its digest'
        FROM lethe.batch AS b, lethe.event_digest(chunk_id, number) AS d
        WHERE (b.records, b.sha256) IS DISTINCT FROM (d.records, d.sha256)
        UNION ALL
        SELECT 'run ' || run_id || ' is ' || status FROM lethe.run
        WHERE status <> 'done'
          AND NOT (status = 'failed' AND run_id IN (
                SELECT run_id FROM lethe.refusal JOIN lethe.chunk USING (chunk_id)
                WHERE resolution IS DISTINCT FROM 'retried'))
        """
      ).rows(as: String.self)
    }
  }
}
