import Definitions
import Foundation
import Ledger
import Logging
import PostgreSQL
import Vocabulary

/// The folders of the runs' chunk files.
extension PipelineRuntime {
  func folder(of pipeline: String, _ key: String) -> String {
    RunLedger.folder(of: pipeline, key, in: workDirectory)
  }

  /// Moves the folder of a resumed run to this process's work directory. Files that are in neither folder are lost,
  /// and are written again from the warehouse.
  func resettled(_ run: Run) async throws -> Run {
    let folder = self.folder(of: run.definition.name, run.key)
    guard movesRuns, folder != run.workDirectory else { return run }
    let chunks = try await ChunkLedger(connection: lockConnection, lease: lease)
      .chunks(of: run.id, in: [.exported, .created, .uploaded, .complete])
    let lost = chunks.count { !move($0.path, into: folder) }
    try await RunLedger(connection: lockConnection).runMoved(run, to: folder, lease: lease)
    logger.notice(
      """
      run \(run.id) keeps its chunk files in \(folder) from now on\
      \(lost > 0 ? "; \(lost) files are missing and are written again" : "")
      """)
    if lost == 0 { try? FileManager.default.removeItem(atPath: run.workDirectory) }
    return run.moved(to: folder)
  }

  /// - Returns: whether the file is now in the folder.
  private func move(_ path: String, into folder: String) -> Bool {
    let target = "\(folder)/\(path.split(separator: "/").last ?? "")"
    if FileManager.default.fileExists(atPath: target) { return true }
    guard FileManager.default.fileExists(atPath: path) else { return false }
    do {
      try FileManager.default.createDirectory(
        atPath: folder, withIntermediateDirectories: true)
      try FileManager.default.moveItem(atPath: path, toPath: target)
      return true
    } catch {
      logger.notice("\(path) was not moved to \(folder): \(error.localizedDescription)")
      return false
    }
  }
}
