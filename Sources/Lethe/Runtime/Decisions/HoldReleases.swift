public import ApplyStage
public import Definitions
import Ledger
import PostgreSQL
public import Vocabulary
import Warehouse

/// An operator's request to end holds, from `lethe holds release`.
public struct HoldRelease: Sendable {
  public typealias Outcome = OperatorRelease.Outcome

  public let type: JobType
  /// Nil for the IDs that no dataset exports any more: the first `idsMax` of them, in ascending order.
  public let ids: [Int64]?
  public let keepsHidden: Bool
  public let isForced: Bool
  public let isDryRun: Bool
  public let by: String
  public let note: String

  public init(
    type: JobType, ids: [Int64]?, keepsHidden: Bool, isForced: Bool, isDryRun: Bool, by: String,
    note: String
  ) {
    self.type = type
    self.ids = ids
    self.keepsHidden = keepsHidden
    self.isForced = isForced
    self.isDryRun = isDryRun
    self.by = by
    self.note = note
  }

  /// The largest number of IDs that are released together if `ids` is nil.
  static let idsMax = 1_000_000
  /// The largest number of IDs that an error message lists.
  static let namedIDsMax = 10
}

extension PipelineRuntime {
  /// Releases IDs from their holds by an operator's decision, in one transaction. A hold ends if no other ID holds the
  /// row. But a hold with the outcome `waits` stays unchanged.
  ///
  /// - Throws: `LedgerError` `.refused` if the newest answer about an ID is `protected`, unless the release is
  ///   forced.
  public static func release(
    _ release: HoldRelease, of pipeline: Pipeline
  ) async throws -> OperatorRelease.Report {
    try await Connection.withConnection(pipeline.warehouse, refusingPoolers: true) { connection in
      try await requireLedger(on: connection, pipeline)
      let ids =
        if let ids = release.ids { ids } else {
          try await OrphanedHolds(current: [pipeline.definition], on: connection)
            .ids(of: release.type, after: 0, limit: HoldRelease.idsMax)
        }
      if !release.isForced {
        try await requireReleasable(ids, release.type, on: connection)
      }
      let catalog = try await Catalog(of: pipeline.definition, on: connection)
      if !release.isDryRun {
        try await HoldKeys(connection: connection, catalog: catalog).followNames()
      }
      return try await OperatorRelease(
        connection: connection, catalog: catalog, definition: pipeline.definition
      ).run(
        .init(
          type: release.type, ids: ids, keepsHidden: release.keepsHidden, by: release.by,
          note: release.note), isDryRun: release.isDryRun)
    }
  }

  private static func requireReleasable(
    _ ids: [Int64], _ type: JobType, on connection: Connection
  ) async throws {
    let protected = try await HoldLedger(connection: connection)
      .stillProtected(type: type, ids: ids)
    guard !protected.isEmpty else { return }
    let named = protected.prefix(HoldRelease.namedIDsMax).map(String.init)
      .joined(separator: ", ")
    throw LedgerError(
      code: .refused,
      message: """
        the newest answer about \(protected.count) of these IDs is protected: \(named)\
        \(protected.count > HoldRelease.namedIDsMax ? ", …" : ""); nothing was changed
        """,
      remedy: "leave these IDs out; or use --force to show their rows anyway")
  }
}
