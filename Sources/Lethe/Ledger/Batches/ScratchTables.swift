package import SQLText

/// The temporary tables of a session that applies batches. Each table is empty when a transaction begins.
package enum ScratchTables {
  /// - `lethe_touched`: the number of changed rows by action, table and event. The column `id` is NULL if the event's
  ///   record already contains the count.
  /// - `lethe_restored`: the protections without holds that the batch ends.
  package static let ofBatches: SQL = """
    CREATE TEMP TABLE IF NOT EXISTS lethe_touched (
        action lethe.action NOT NULL, table_name text NOT NULL, id bigint, reason lethe.reason NOT NULL,
        rows bigint NOT NULL
    ) ON COMMIT DELETE ROWS;
    CREATE TEMP TABLE IF NOT EXISTS lethe_restored (
        id bigint PRIMARY KEY, chunk_id bigint NOT NULL, protected_at timestamptz NOT NULL,
        asked_at timestamptz NOT NULL
    ) ON COMMIT DELETE ROWS;
    \(ofReleases)
    """

  /// - `lethe_ending`: the holders that are released.
  /// - `lethe_due`: the holds of these holders, each with its outcome.
  package static let ofReleases: SQL = """
    CREATE TEMP TABLE IF NOT EXISTS lethe_ending (
        hold_id bigint NOT NULL, id bigint NOT NULL, reason lethe.reason NOT NULL, table_name text,
        PRIMARY KEY (hold_id, id)
    ) ON COMMIT DELETE ROWS;
    CREATE TEMP TABLE IF NOT EXISTS lethe_due (
        hold_id bigint PRIMARY KEY, table_name text NOT NULL, key text[] NOT NULL, id bigint NOT NULL,
        reason lethe.reason NOT NULL, held text[] NOT NULL, columns text[] NOT NULL, outcome text
    ) ON COMMIT DELETE ROWS
    """

  /// Empties the tables between batches that are parts of one transaction.
  package static let empty: SQL =
    "TRUNCATE lethe_touched, lethe_restored, lethe_ending, lethe_due"
}
