import PostgreSQL
import Warehouse

/// Decides by a row's version whether another writer has changed the row since the export, if the version can
/// be trusted.
struct RowVersions {
  /// The transactions that the export of the chunk saw, in the format of `pg_current_snapshot()`. Nil if they
  /// were not recorded.
  let exportedSnapshot: String?
  /// The cluster of the export, and the current cluster. Nil if they are unknown.
  let exportedCluster: Int64?
  let cluster: Int64?

  /// Transaction IDs of different clusters cannot be compared.
  private var isComparable: Bool { cluster != nil && cluster == exportedCluster }

  /// The condition that a row's version is from before the export, or is Lethe's own. All transactions below
  /// the snapshot's xmin had ended by then. For a higher number, this is unknown, because it may be the
  /// number of a subtransaction.
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
