import PostgreSQL
import Warehouse

/// Tells from a row's version whether another writer has changed the row since the export, if the version can
/// be trusted.
struct RowVersions {
  /// Which transactions the export of the chunk saw, as `pg_current_snapshot()` writes it; nil if it was not
  /// recorded.
  let exportedSnapshot: String?
  /// The cluster of the export, and the present cluster; nil if it is not known.
  let exportedCluster: Int64?
  let cluster: Int64?

  /// Transaction IDs of another cluster say nothing.
  private var isComparable: Bool { cluster != nil && cluster == exportedCluster }

  /// The condition that a row's version is from before the export, or Lethe's own. All transactions below the
  /// snapshot's xmin had ended by then. For a number above it, a subtransaction's number does not tell
  /// whether it had ended.
  func isOlderThanExport(
    _ alias: SQL, of table: WarehouseTable
  ) -> SQL {
    guard isComparable, table.hasTrustedVersions, let exportedSnapshot, let cluster else {
      return "false"
    }
    let version: SQL = "lethe.full_xid(\(alias).xmin)"
    return """
      (\(version) < pg_snapshot_xmin(\(exportedSnapshot)::pg_snapshot)
       OR \(version) = pg_current_xact_id()
       OR EXISTS (SELECT FROM lethe.batch AS b
                  WHERE b.xid = \(version) AND b.cluster = \(cluster)))
      """
  }
}
