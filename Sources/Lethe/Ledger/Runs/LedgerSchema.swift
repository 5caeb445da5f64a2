/// The objects that this version of Lethe needs in the schema `lethe`, and the privileges that the role for runs needs.
/// They are listed here, because Lethe does not read them from the SQL of the migrations.
///
/// For each new migration, add a line here. A test compares the tables, views, functions and types with the migrated
/// schema, but not the columns.
public enum LedgerSchema {
  static let schema = "lethe"

  /// A migration, and objects that show that it is applied: tables, views, some columns as `table.column`, functions as
  /// `function()`, types as `TYPE type`, and `without constraint`.
  public struct Version: Sendable {
    public let version: String
    public let objects: [String]
  }

  /// The migrations, oldest first.
  public static let versions: [Version] = [
    Version(
      version: "20261123090000",
      objects: [
        "TYPE job_type", "TYPE reason", "TYPE action", "TYPE run_status", "TYPE chunk_state", "run",
        "export", "chunk", "job", "collected", "event", "tombstone", "protection", "quarantine",
        "change", "coverage", "rehydration", "ensure_event_partitions()",
      ]),
    Version(
      version: "20261124200000",
      objects: [
        "batch", "seal", "event_bytes()", "event_digest()", "seal_hash()", "seal()",
        "job_content()", "exported_rows()", "full_xid()",
      ]),
    Version(
      version: "20261125110000",
      objects: [
        "TYPE silence", "unspoken", "speaks_by_silence()", "unanswered()", "answered_ranges()",
      ]),
    Version(
      version: "20261125120000",
      objects: ["hold", "holder", "held_key", "closed_hold", "cluster()", "require_holds()"]),
    Version(
      version: "20261125130000",
      objects: ["refusal", "approval", "approval_content()", "chunk.remedy", "run.definition_file"]
    ),
    Version(
      version: "20261125140000", objects: ["withdrawn_tombstone", "withdrawal_digest()"]),
    Version(
      version: "20261126083000",
      objects: [
        "line_identity()", "quarantine.identity", "quarantine.seen", "quarantine.last_seen_at",
      ]),
    Version(version: "20261126084000", objects: ["adoption", "adoption_content()"]),
    Version(
      version: "20261126085000",
      objects: [
        "trace", "traced_event", "cover()", "traced()", "place_in_trace()", "traced_reason()",
        "trace_bytes()",
      ]),
    Version(
      version: "20261126090000",
      objects: ["export.left_out", "export.rows_of_dataset", "export.is_stopped"]),
    Version(version: "20261126091000", objects: ["begin_chain()"]),
    Version(version: "20261126092000", objects: ["version"]),
    Version(version: "20261126093000", objects: ["held_column"]),
    Version(version: "20261126111000", objects: ["chunk.cuts", "chunk.attempts_before"]),
    Version(version: "20261126134700", objects: ["job.upload_host", "job.refused_bytes"]),
    Version(version: "20261127003900", objects: ["run.is_given_up"]),
    Version(
      version: "20261127005500", objects: ["event_head()", "event_row()", "changed_bytes()"]),
    Version(version: "20261127041500", objects: ["worker", "lease"]),
    Version(
      version: "20261127103000",
      objects: [
        "worker.pipeline", "worker.team", "worker.is_joinable", "run.team", "chunk.file_host",
      ]),
    Version(version: "20261127160000", objects: ["without collected_chunk_id_fkey"]),
  ]

  /// The migration that created `lethe.version`. This migration and all later ones record their version
  /// there. A program that finds an unknown version there detects that the ledger is newer.
  public static let recordedSince = "20261126092000"

  /// The tables and views, and the privileges on them that the role for runs needs.
  static let tables: [(name: String, privileges: [String])] = [
    ("run", ["SELECT", "INSERT", "UPDATE"]),
    ("export", ["SELECT", "INSERT", "UPDATE"]),
    ("chunk", ["SELECT", "INSERT", "UPDATE"]),
    ("job", ["SELECT", "INSERT", "UPDATE"]),
    ("collected", ["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("event", ["SELECT", "INSERT"]),
    ("batch", ["SELECT", "INSERT"]),
    // The table is locked before a record is added, and INSERT alone does not allow such a lock.
    ("seal", ["SELECT", "INSERT", "UPDATE"]),
    ("change", ["SELECT", "INSERT", "UPDATE"]),
    ("coverage", ["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("tombstone", ["SELECT", "INSERT"]),
    ("rehydration", ["SELECT", "INSERT"]),
    ("quarantine", ["SELECT", "INSERT", "UPDATE"]),
    ("unspoken", ["SELECT", "INSERT", "UPDATE"]),
    ("protection", ["SELECT", "INSERT", "DELETE"]),
    ("hold", ["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("holder", ["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("held_key", ["SELECT", "INSERT", "DELETE"]),
    ("closed_hold", ["SELECT", "INSERT"]),
    ("refusal", ["SELECT", "INSERT", "UPDATE"]),
    ("approval", ["SELECT", "INSERT", "UPDATE"]),
    ("withdrawn_tombstone", ["SELECT"]),
    ("held_column", ["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("adoption", ["SELECT", "INSERT", "UPDATE"]),
    ("trace", ["SELECT", "INSERT"]),
    ("traced_event", ["SELECT"]),
    ("version", ["SELECT"]),
    ("worker", ["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("lease", ["SELECT", "INSERT", "UPDATE", "DELETE"]),
  ]
}
