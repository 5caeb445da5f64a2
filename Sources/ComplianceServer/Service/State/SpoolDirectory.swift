internal import Foundation
internal import PostgreSQL
internal import SystemPackage

extension Ownership {
  /// Returns the spool directory of this database, and marks it as such.
  ///
  /// - Parameters:
  ///   - directory: from `--spool`; nil means a directory in `state` whose name contains this database's ID.
  ///   - state: the directory that contains the default spool directories.
  /// - Throws: `StartError` if the directory belongs to another database, does not contain the job files of this
  ///   database, or cannot be written; `PostgreSQLError`.
  func spoolDirectory(_ directory: FilePath?, in state: FilePath) async throws -> FilePath {
    let known = try await connection.query("SELECT id::text, directory FROM compliance.spool")
      .firstRow(as: String.self, String.self)
    let id = known?.0 ?? UUID().uuidString.lowercased()
    let place = directory ?? state.appending("spool-\(id)")
    let path = FilePath(URL(fileURLWithPath: place.string).standardizedFileURL.path)
    let mark = path.appending("spool.id")
    let found = FileManager.default.contents(atPath: mark.string).map {
      String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }
    if let found, found != known?.0 {
      throw StartError(
        message: "the spool directory \(path) belongs to another database",
        remedy:
          "set --spool to another directory, or remove this directory if that database no longer exists"
      )
    }
    if found == nil, try await hasNeededFiles(), known != nil || directory == nil {
      let other = known.map { "; they were in \($0.1)" } ?? ", and their directory is not recorded"
      throw StartError(
        message: "the files of this database's jobs are not in \(path)\(other)",
        remedy: known == nil
          ? "set --spool to the directory with the files"
          : "set --spool to that directory, or restore it")
    }
    _ = try Spool(directory: path)
    if found == nil {
      guard FileManager.default.createFile(atPath: mark.string, contents: Data("\(id)\n".utf8))
      else {
        throw StartError(
          message: "cannot write to the spool directory \(path)",
          remedy: "set --spool to a directory that the server can create or write to")
      }
    }
    try await connection.execute(
      """
      INSERT INTO compliance.spool (id, directory) VALUES (\(id)::uuid, \(path.string))
      ON CONFLICT (only_one) DO UPDATE SET id = excluded.id, directory = excluded.directory
      """)
    return path
  }

  /// Whether a job has files that are still needed.
  private func hasNeededFiles() async throws -> Bool {
    try await connection.query(
      """
      SELECT EXISTS (SELECT FROM compliance.jobs
                     WHERE status = 'in_progress' OR status = 'complete' AND download_expires_at > now())
          OR EXISTS (SELECT FROM compliance.upload_sessions AS u JOIN compliance.jobs AS j ON j.id = u.job_id
                     WHERE j.status = 'created' AND u.stored_bytes > 0 AND u.expires_at > now())
      """
    ).onlyRow(as: Bool.self)
  }
}
