import Foundation
import Ledger

/// The JSON result of `lethe quarantine list`.
struct Listing: Encodable {
  let open: Int
  let lines: [ListedLine]
}

/// A line of the quarantine as JSON. The API sent the line, so it can contain any bytes.
struct ListedLine: Encodable {
  let quarantine_id: Int64
  let pipeline: String
  let run_id: Int64
  let chunk_id: Int64
  let job: String?
  let line: Int
  /// A JSON string, because many JSON parsers convert numbers to floating point and would lose digits.
  let id: String?
  let in_chunk: Bool?
  let why: String
  /// The line, or its beginning, if it is UTF-8.
  let raw: String?
  /// The line, or its beginning, if it is not UTF-8.
  let raw_base64: String?
  let raw_bytes: Int
  let quarantined_at: String
  let seen: Int
  let last_seen_at: String
  let resolved_at: String?
  let resolution: String?
  let note: String?

  init(_ kept: QuarantineLedger.Line) {
    quarantine_id = kept.quarantineID
    pipeline = kept.pipeline
    run_id = kept.runID
    chunk_id = kept.chunkID
    job = kept.job
    line = kept.number
    id = kept.id.map(String.init)
    in_chunk = kept.isInChunk
    why = kept.why
    raw = text(kept.raw, isCut: kept.raw.count < kept.rawBytes)
    raw_base64 = raw == nil ? Data(kept.raw).base64EncodedString() : nil
    raw_bytes = kept.rawBytes
    quarantined_at = kept.quarantinedAt
    seen = kept.seen
    last_seen_at = kept.lastSeenAt
    resolved_at = kept.resolvedAt
    resolution = kept.resolution
    note = kept.note
  }
}

/// The bytes as text.
/// - Parameter isCut: whether the bytes are only the beginning of a line. An incomplete last character is then left
///   out.
/// - Returns: nil if the bytes are not UTF-8.
private func text(_ bytes: [UInt8], isCut: Bool) -> String? {
  if let text = String(validating: bytes, as: UTF8.self) { return text }
  guard isCut else { return nil }
  for count in 1...min(3, bytes.count) {
    if let text = String(validating: bytes.dropLast(count), as: UTF8.self) { return text }
  }
  return nil
}

/// Text that is safe for a terminal: shortened, and with ? in place of control characters and invisible characters.
func printable(_ bytes: [UInt8], scalarsMax: Int) -> String {
  let scalars = String(decoding: bytes, as: UTF8.self).unicodeScalars
  var text = ""
  for scalar in scalars.prefix(scalarsMax) {
    switch scalar.properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator,
      .paragraphSeparator:
      text += "?"
    default: text.unicodeScalars.append(scalar)
    }
  }
  return scalars.count > scalarsMax ? text + "…" : text
}
