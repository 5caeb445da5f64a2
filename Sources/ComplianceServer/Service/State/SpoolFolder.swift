internal import Foundation
internal import PostgreSQL
internal import SystemPackage

extension Ownership {
  /// The folder with the bytes of the database's jobs.
  ///
  /// - Parameters:
  ///   - directory: the one that was named; nil takes one below `state` that belongs to this database alone.
  ///   - state: where servers keep what is theirs.
  /// - Throws: `StartError` if it is another database's, or if the bytes are in another one.
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
        remedy: "name another one with --spool; or remove it, if that database is gone")
    }
    if found == nil, try await hasBytes(), known != nil || directory == nil {
      let other = known.map { ": they were in \($0.1)" } ?? ", and it is not known where they are"
      throw StartError(
        message: "the bytes of this database's jobs are not in \(path)\(other)",
        remedy: known == nil
          ? "name their folder with --spool" : "name that one with --spool, or bring it back")
    }
    _ = try Spool(directory: path)
    if found == nil {
      guard FileManager.default.createFile(atPath: mark.string, contents: Data("\(id)\n".utf8))
      else {
        throw StartError(
          message: "cannot write to the spool directory \(path)",
          remedy: "name one that can be made or written, with --spool")
      }
    }
    try await connection.execute(
      """
      INSERT INTO compliance.spool (id, directory) VALUES (\(id)::uuid, \(path.string))
      ON CONFLICT (only_one) DO UPDATE SET id = excluded.id, directory = excluded.directory
      """)
    return path
  }

  /// Whether there is a job whose bytes somebody may still ask for.
  private func hasBytes() async throws -> Bool {
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
