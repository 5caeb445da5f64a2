import Foundation
import PostgreSQL

/// A value in a record's content.
enum SealedValue: Decodable, Equatable, CustomStringConvertible {
  case text(String)
  case number(Decimal)
  case null

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let text = try? container.decode(String.self) {
      self = .text(text)
    } else if let number = try? container.decode(Decimal.self) {
      self = .number(number)
    } else {
      self = .null  // a list, such as a prune's partitions, which is not compared
    }
  }

  var description: String {
    switch self {
    case .text(let text): text
    case .number(let number): "\(number)"
    case .null: "null"
    }
  }
}

/// Compares a job's record with the current content of the ledger.
extension ChainVerifier {
  /// The values of a record's content. Nil if the content is not a JSON object.
  static func values(_ content: String) -> [String: SealedValue]? {
    try? JSONDecoder().decode([String: SealedValue].self, from: Data(content.utf8))
  }

  mutating func verifyJob(_ record: Record) async throws {
    if !record.isChunkOfJob {
      result.addFault(
        "lethe.seal", record.key, "its chunk_id is not the chunk_id of its job",
        writtenAt: record.sealedAt)
    }
    guard record.contentNow != record.content || !record.isCurrent else { return }
    guard let sealed = Self.values(record.content) else {
      result.addFault(
        "lethe.seal", record.key, "its content is not the content of a job",
        writtenAt: record.sealedAt)
      return
    }
    guard let text = record.contentNow, var now = Self.values(text) else {
      result.addFault(
        "lethe.job", "job_id = \(sealed["job_id"] ?? .null)",
        "the job of record \(record.number), its chunk or its run is missing",
        writtenAt: record.sealedAt)
      return
    }
    if !record.isCurrent { try await leaveOutLaterEvents(after: sealed, &now) }
    for (name, value) in sealed.sorted(by: { $0.key < $1.key }) {
      guard let valueNow = now[name], valueNow != value else { continue }
      let (table, key) = Self.row(of: name, sealed)
      result.addFault(
        table, key, "\(name) is \(valueNow), but record \(record.number) sealed \(value)",
        writtenAt: record.sealedAt)
    }
  }

  /// Leaves out the values that change when quarantined lines of the chunk are retried after the record was created.
  /// The batches that the record contains are still compared.
  private func leaveOutLaterEvents(
    after sealed: [String: SealedValue], _ now: inout [String: SealedValue]
  ) async throws {
    now["events"] = nil
    now["quarantined"] = nil
    guard case .number(let id) = now["chunk_id"], case .number(let batches) = sealed["batches"]
    else { return }
    let row = try await session.query(
      """
      SELECT count(*), coalesce(sum(records), 0)::bigint, encode(sha256(coalesce(
               pg_catalog.string_agg(int8send(after_id) || int8send(through_id) || timestamptz_send(applied_at)
                          || int8send(records) || sha256, '' ORDER BY number), '')), 'hex')
      FROM lethe.batch WHERE chunk_id = \(NSDecimalNumber(decimal: id).int64Value)
        AND number <= \(NSDecimalNumber(decimal: batches).int64Value)
      """
    ).onlyRow(as: Int64.self, Int64.self, String.self)
    now["batches"] = .number(Decimal(row.0))
    now["records"] = .number(Decimal(row.1))
    now["batches_sha256"] = .text(row.2)
  }

  /// The table and the row that contain a value of the content.
  private static func row(
    of name: String, _ sealed: [String: SealedValue]
  ) -> (table: String, key: String) {
    func key(_ column: String) -> String { "\(column) = \(sealed[column] ?? .null)" }
    switch name {
    case "job_id", "api_id", "name", "asked_at", "result_bytes", "result_lines", "result_sha256":
      return ("lethe.job", key("job_id"))
    case "batches", "records", "batches_sha256": return ("lethe.batch", key("chunk_id"))
    case "pipeline": return ("lethe.run", key("run_id"))
    default: return ("lethe.chunk", key("chunk_id"))
    }
  }
}
