import Ledger
import PostgreSQL
public import Vocabulary

/// The file format of exported event records.
public enum AuditExportFormat: String, Sendable, CaseIterable {
  /// RFC 4180, with a header.
  case csv
  /// One JSON object per line.
  case ndjson
}

extension AuditLedger {
  /// Streams the event records of a period, and the events that have only traces, with the data of their jobs. They are
  /// not sorted. Usually they come in the order in which they are stored, and the events with traces come last. The
  /// server sends no more rows while `write` works, so memory use stays constant.
  ///
  /// - Parameters:
  ///   - from: only events applied at this time or later.
  ///   - to: only events applied before this time.
  ///   - write: gets complete rows. If this function throws, the export is incomplete.
  /// - Returns: the number of rows, without the header.
  public func exportEvents(
    from: Timestamp, to: Timestamp, as format: AuditExportFormat,
    write: ([UInt8]) async throws -> Void
  ) async throws -> Int {
    let range: SQL = "e.applied_at >= \(from.sql) AND e.applied_at < \(to.sql)"
    var rows = ExportedRows(format)
    try await connection.withCopyOut(Self.copy(format, where: range)) { copy in
      for try await block in copy { try await write(rows.finished(block)) }
    }
    return rows.count
  }

  private static func copy(_ format: AuditExportFormat, where condition: SQL) -> SQL {
    let columns: SQL = """
      id, type, reason, action, applied_at, created_at, redacted_at, cause_id, changed, chunk_id, batch,
      job_id, superseded_by
      """
    // IDs are JSON strings, because not every JSON parser supports integers of 63 bits.
    let records: SQL = """
      SELECT e.id::text AS id, e.type, e.reason, e.action, \(utc("e.applied_at")) AS applied_at,
             \(utc("e.created_at")) AS created_at, \(utc("e.redacted_at")) AS redacted_at,
             e.cause_id::text AS cause_id, e.changed, r.pipeline, c.dataset, c.run_id, e.chunk_id,
             e.batch, e.job_id, j.api_id AS api_job_id, \(utc("j.asked_at")) AS asked_at,
             encode(j.result_sha256, 'hex') AS result_sha256, e.superseded_by
      FROM (
        SELECT \(columns) FROM lethe.event
        UNION ALL SELECT \(columns) FROM lethe.traced_event
      ) AS e
      LEFT JOIN lethe.chunk AS c ON c.chunk_id = e.chunk_id
      LEFT JOIN lethe.run AS r ON r.run_id = c.run_id
      LEFT JOIN lethe.job AS j ON j.job_id = e.job_id
      WHERE \(condition)
      """
    switch format {
    case .csv: return "COPY (\(records)) TO STDOUT (FORMAT csv, HEADER)"
    case .ndjson:
      // The text format would double each backslash. JSON text contains no control characters, so with these two
      // control characters as quote and delimiter, nothing is quoted.
      return """
        COPY (SELECT pg_catalog.row_to_json(record) FROM (\(records)) AS record) TO STDOUT
        (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')
        """
    }
  }
}

/// Ends rows as the format requires, and counts them. PostgreSQL ends a CSV row with a line feed. RFC 4180 requires a
/// carriage return before the line feed.
private struct ExportedRows {
  private let format: AuditExportFormat
  private(set) var count: Int

  init(_ format: AuditExportFormat) {
    self.format = format
    count = format == .csv ? -1 : 0  // the header is not a record
  }

  /// The rows of a block with the line ends of the format.
  /// - Parameter block: complete rows, so that each block begins outside of quotes.
  mutating func finished(_ block: [UInt8]) -> [UInt8] {
    let (lineFeed, quote) = (UInt8(ascii: "\n"), UInt8(ascii: "\""))
    guard format == .csv else {
      count += block.count { $0 == lineFeed }
      return block
    }
    var rows: [UInt8] = []
    rows.reserveCapacity(block.count + block.count / 64)
    var isQuoted = false
    for byte in block {
      if byte == quote { isQuoted.toggle() }
      if byte == lineFeed, !isQuoted {
        count += 1
        rows.append(UInt8(ascii: "\r"))
      }
      rows.append(byte)
    }
    return rows
  }
}
