import PostgreSQL
import Warehouse

/// Decides whether another writer has changed a row since the export. It uses the row's version `xmin`, which is the ID
/// of the transaction that wrote the row. If the versions cannot be trusted, no row counts as unchanged.
struct RowVersions {
  /// The transactions that the export of the chunk saw, in the format of `pg_current_snapshot()`. Nil if they
  /// were not recorded.
  let exportedSnapshot: String?
  /// The database cluster of the export, and the current database cluster. Nil if they are unknown.
  let exportedCluster: Int64?
  let cluster: Int64?

  /// Transaction IDs of different clusters cannot be compared.
  private var isComparable: Bool { cluster != nil && cluster == exportedCluster }

  /// The condition that a row's version is older than the export, or was written by Lethe. All transactions with
  /// an ID below the snapshot's xmin had ended before the export. For a higher ID, this is unknown, because it may
  /// be the ID of a subtransaction.
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
