import Definitions
import Foundation
import PostgreSQL
import Vocabulary

/// Targets of runs in the ledger. Their runs wrote records and tombstones of one type, but the current definition gives
/// the rows another type.
struct WrongTypeTargets {
  /// A kind of event record: the runs and the dataset that wrote it, and the change that it names.
  struct Suspect: Hashable {
    /// The IDs, separated by commas.
    let runIDs: String
    let dataset: String
    /// `delete warehouse.lists`.
    let label: String
    let table: String
    /// The type of the rows, according to the records.
    let type: String
    /// False if the current definition gives the rows no type or several types, so that it cannot be decided.
    let isWrong: Bool
  }

  private(set) var suspects: Set<Suspect> = []
  /// Runs whose definition this version cannot read.
  private(set) var unreadableRuns = 0

  /// The types that the current definition gives to the IDs in a table's column.
  private let types: [IDColumn: Set<RowType>]
  private let pipeline: String

  private struct IDColumn: Hashable {
    let table: TableName
    let id: String
  }

  private struct StoredDefinition: Decodable {
    /// The datasets without defaults filled in. In definitions that an older version of Lethe stored with its runs,
    /// targets have no type.
    let datasets: [Dataset]
  }

  init(of definition: Definition, on session: some Session) async throws {
    pipeline = definition.name
    var types: [IDColumn: Set<RowType>] = [:]
    for dataset in definition.datasets {
      if let type = RowType(rawValue: dataset.type.rawValue) {
        types[IDColumn(table: dataset.table, id: dataset.id.column), default: []].insert(type)
      }
      for target in dataset.allTargets {
        guard let id = target.id, let type = target.type else { continue }
        types[IDColumn(table: target.table, id: id.column), default: []].insert(type)
      }
    }
    self.types = types
    let runs = try await session.query(
      """
      SELECT pipeline, definition::text, pg_catalog.string_agg(run_id::text, ',' ORDER BY run_id), count(*)
      FROM lethe.run GROUP BY 1, 2
      """
    ).rows(as: String.self, String.self, String.self, Int.self)
    for (pipeline, json, ids, count) in runs {
      guard let stored = try? JSONDecoder().decode(StoredDefinition.self, from: Data(json.utf8))
      else {
        unreadableRuns += count
        continue
      }
      add(stored, of: pipeline, runIDs: ids)
    }
  }

  private enum Verdict {
    case right
    case wrong
    case undecided
  }

  private mutating func add(_ stored: StoredDefinition, of pipeline: String, runIDs: String) {
    for dataset in stored.datasets {
      struct Key: Hashable {
        let label: String
        let table: String
        let type: String
      }
      var verdicts: [Key: [Verdict]] = [:]
      for target in dataset.allTargets {
        guard target.id != nil, let type = (target.type ?? .tweets).jobType else { continue }
        let verdict = verdict(target, as: type, among: stored.datasets, of: pipeline)
        for word in Set(target.actions.values.filter(\.isRemoving).map(\.word)) {
          let key = Key(
            label: "\(word) \(target.table)", table: "\(target.table)", type: type.rawValue)
          verdicts[key, default: []].append(verdict)
        }
      }
      // Records of two targets with the same table look the same. If the type of one of the targets is right, the
      // records are not suspect.
      for (key, verdicts) in verdicts where !verdicts.contains(.right) {
        suspects.insert(
          Suspect(
            runIDs: runIDs, dataset: dataset.name, label: key.label, table: key.table,
            type: key.type, isWrong: !verdicts.contains(.undecided)))
      }
    }
  }

  private func verdict(
    _ target: Target, as type: JobType, among datasets: [Dataset], of pipeline: String
  ) -> Verdict {
    // For the rows of another pipeline, that pipeline's own definition counts.
    if target.type != nil, pipeline != self.pipeline { return .right }
    let stated = target.id.flatMap { types[IDColumn(table: target.table, id: $0.column)] } ?? []
    if let current = stated.first, stated.count == 1 {
      return current.jobType == type ? .right : .wrong
    }
    if stated.contains(where: { $0.jobType == type }) { return .right }
    let isOfDataset = datasets.contains {
      $0.type == type && $0.table == target.table && $0.id.column == target.id?.column
    }
    return target.type != nil || isOfDataset || pipeline != self.pipeline ? .right : .undecided
  }

  // MARK: SQL

  /// `suspect`, a CTE: (run_id, dataset, label, table_name, type, is_wrong).
  var cte: SQL {
    let all = suspects.sorted {
      ($0.runIDs, $0.dataset, $0.label) < ($1.runIDs, $1.dataset, $1.label)
    }
    return """
      suspect AS MATERIALIZED (
        SELECT run.id::bigint AS run_id, s.dataset, s.label, s.table_name, s.type::lethe.job_type,
               s.is_wrong::boolean
        FROM unnest(\(all.map(\.runIDs))::text[], \(all.map(\.dataset))::text[],
          \(all.map(\.label))::text[],
                    \(all.map(\.table))::text[], \(all.map(\.type))::text[],
                      \(all.map { "\($0.isWrong)" })::text[])
               AS s (run_ids, dataset, label, table_name, type, is_wrong),
             string_to_table(s.run_ids, ',') AS run (id)
      )
      """
  }
}
