import Definitions
import Ledger
import SQLText
import Warehouse

/// Writes holds for rows that are hidden by protections without holds, if an event of the batch also protects
/// them. The hold has the values of `restore` as former values, because no other values are known.
extension Change {
  /// - Parameter protections: the paths on which IDs protected without holds may hide rows.
  /// - Returns: nil if the change writes no holds, if the definition has no values to restore, or if none of the
  ///   paths leads to the change's table.
  func formerHolds(
    of range: EventRange, in context: BatchContext, protections: [ProtectionPath]
  ) -> SQL? {
    guard let hiding = kind.hiding, case .former(let fallback, _) = hiding.restore,
      let key = holdKey
    else { return nil }
    let values = fallback.filter { value in hiding.set.contains { $0.column == value.column } }
    let paths = protections.filter { $0.resolvedTable == target.table.resolvedName }
    guard !values.isEmpty, !paths.isEmpty else { return nil }
    func object(_ text: (ColumnValue) -> SQL) -> SQL {
      let pairs = values.map { "\(literal: $0.column), (\(text($0)))::text" as SQL }
      return "pg_catalog.jsonb_build_object(\(pairs.joined(separator: ", ")))"
    }
    let former = object { row.value($0) }
    let setTo = object { row.column($0.column) }
    let conditions =
      matchingRows(range, context) + hiding.set.map { row.isAsSet($0) } + [key.isNotHeld]
      + [.any(paths.map { "NOT \($0.isFree("t"))" })]
    let rowID = rowIDExpression.map { ", \($0) AS row_id" as SQL } ?? ""
    let (type, id) = rowSubject(context)
    return key.statements(context.origin).holdFormer(
      """
      SELECT s.id AS event_id\(rowID), \(key.json(of: "t")) AS row_key,
             \(former) AS former, \(setTo) AS set_to
      FROM \(target.join.from), \(target.table.sql) AS t
      WHERE \(conditions.joined(separator: "\n  AND "))
      """, columns: values.map(\.column), ignoresWriters: hiding.restore.ignoresWriters,
      type: type, id: id)
  }
}
