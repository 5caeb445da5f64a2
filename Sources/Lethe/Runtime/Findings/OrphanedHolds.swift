public import Definitions
import Ledger
public import PostgreSQL
public import Vocabulary
import Warehouse

/// The holds of IDs that no dataset exports any more. No answer releases them. Only an operator can.
public struct OrphanedHolds: Sendable {
  private let connection: Connection
  private let current: [Definition]

  public struct Counts: Sendable, Equatable, Codable {
    public let ids: Int
    /// How many rows these IDs hold.
    public let rows: Int

    init(ids: Int, rows: Int) {
      (self.ids, self.rows) = (ids, rows)
    }
  }

  /// - Parameter current: the current definitions. For each other pipeline that has started a run in the last 30 days,
  ///   the definition of its newest run is used.
  public init(current: [Definition], on connection: Connection) {
    self.connection = connection
    self.current = current
  }

  /// - Throws: `LedgerError` `.unreadable` if another pipeline's definition cannot be read. Then it is unknown
  ///   which IDs that pipeline exports.
  private func definitions() async throws -> [Definition] {
    let others = try await RunLedger(connection: connection)
      .newestDefinitions(excluding: current.map(\.name))
    return current + others
  }

  public func counts() async throws -> Counts {
    // A part for each type, because PostgreSQL makes no anti-join of conditions that are joined by OR.
    var parts: [SQL] = []
    for type in JobType.allCases {
      parts.append(
        """
        SELECT r.type, r.id, r.hold_id FROM lethe.holder AS r
        WHERE r.type = \(type.rawValue)::lethe.job_type AND \(try await isOrphaned(type))
        """)
    }
    // IDs of both types can hold the same row.
    let (ids, rows) = try await connection.query(
      """
      SELECT count(DISTINCT (type, id)), count(DISTINCT hold_id)
      FROM (\(parts.joined(separator: "\nUNION ALL\n"))) AS orphaned
      """
    ).onlyRow(as: Int.self, Int.self)
    return Counts(ids: ids, rows: rows)
  }

  /// The counts. Nil if a pipeline's definition cannot be read, or if a table of a dataset cannot be queried.
  public func countsIfKnown() async throws -> Counts? {
    do {
      return try await counts()
    } catch let error as LedgerError where error.code == .unreadable {
      return nil
    } catch let error as PostgreSQLError where !error.isTemporary {
      return nil
    }
  }

  /// The first `limit` IDs above `after` that hold rows and that no dataset exports, in ascending order.
  public func ids(of type: JobType, after: Int64, limit: Int) async throws -> [Int64] {
    try await connection.query(
      """
      SELECT DISTINCT r.id FROM lethe.holder AS r
      WHERE r.type = \(type.rawValue)::lethe.job_type AND r.id > \(after) AND \(try await isOrphaned(type))
      ORDER BY r.id LIMIT \(limit)
      """
    ).rows(as: Int64.self)
  }

  /// The condition that no dataset of a type exports the ID `r.id`. A dataset exports nothing if its table or its ID
  /// column is missing, or if the column cannot store IDs.
  private func isOrphaned(_ type: JobType) async throws -> SQL {
    var conditions: [SQL] = ["true"]
    for definition in try await definitions() {
      let catalog = try await Catalog(of: definition, on: connection)
      for dataset in definition.datasets where dataset.type == type {
        guard let table = catalog.table(dataset.table), let id = table.id(dataset.id),
          id.column.idKind != nil
        else { continue }
        let condition: SQL = dataset.condition.map { " AND (\(trusted: $0)\n)" } ?? ""
        conditions.append(
          """
          NOT EXISTS (SELECT FROM \(table.sql)
                      WHERE \(id.equals("r.id", of: .integer))\(condition))
          """)
      }
    }
    return conditions.joined(separator: "\n  AND ")
  }
}
