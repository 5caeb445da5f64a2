import PostgreSQL
import Warehouse

/// Whether somebody else has written a row since the export: told by the row's version, where that can be
/// trusted.
struct RowVersions {
  /// What the export of the chunk could see, as `pg_current_snapshot()` writes it; nil if that was not
  /// recorded.
  let exportedSnapshot: String?
  /// The cluster that the export was in, and the one of now; nil where it is not known.
  let exportedCluster: Int64?
  let cluster: Int64?

  /// Numbers of another cluster's transactions say nothing.
  private var isComparable: Bool { cluster != nil && cluster == exportedCluster }

  /// The condition that a row's version is from before the export, or Lethe's own. Everything below the
  /// snapshot's xmin had ended by then; of what is above, a subtransaction's number does not tell whether
  /// it had.
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
