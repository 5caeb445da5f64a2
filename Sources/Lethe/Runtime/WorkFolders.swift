import CrashPoints
import Definitions
import Foundation
import Ledger
import Logging
import PostgreSQL
import SystemPackage
import Vocabulary
import WorkFiles

/// The folders of the runs' chunk files.
extension PipelineRuntime {
  func folder(of pipeline: String, _ key: String) -> String {
    RunLedger.folder(of: pipeline, key, in: workDirectory)
  }

  /// Moves the chunk files of a resumed run to this process's work directory. A file that is in neither folder, or that
  /// cannot be read, counts as lost. Submit writes it again from the warehouse.
  /// - Throws: `WorkFileError`, as `move` does.
  func movedToWorkDirectory(_ run: Run) async throws -> Run {
    let folder = self.folder(of: run.definition.name, run.key)
    guard folder != run.workDirectory else { return run }
    // The other processes of the team use the files where they are.
    if hasJoined { return run.moved(to: folder) }
    guard movesRuns else { return run }
    let chunks = try await ChunkLedger(connection: lockConnection, lease: lease)
      .chunks(of: run.id, in: [.exported, .created, .uploaded, .complete])
    let lost = try chunks.count { try !move($0.path, into: folder) }
    // The former folder is removed first. If the process is killed between the two steps, the other order would leave a
    // folder that no later run with this work directory removes.
    if !chunks.contains(where: { isFile($0.path) }) {
      CrashStep.formerFolderRemoved.around { removeFolder(run.workDirectory) }
    }
    try await RunLedger(connection: lockConnection).runMoved(run, to: folder, lease: lease)
    logger.notice(
      """
      run \(run.id) keeps its chunk files in \(folder) from now on\
      \(lost > 0 ? "; \(lost) files are lost and will be written again" : "")
      """)
    return run.moved(to: folder)
  }

  /// Moves a file into a folder.
  /// - Returns: whether the file is now in the folder.
  /// - Throws: `WorkFileError` if the file cannot be written there, or if this process lacks the permission, the file
  ///   descriptors or the memory to read it. Then it stays where it is.
  private func move(_ path: String, into folder: String) throws -> Bool {
    let target = "\(folder)/\(path.split(separator: "/").last ?? "")"
    if isFile(target) { return true }
    guard isFile(path) else { return false }
    try WorkFolder.create(FilePath(folder))
    return try CrashStep.chunkFileMoved.around {
      if rename(path, target) == 0 { return true }
      // The folders are on different file systems, or this process may not change the former folder.
      let partial = FilePath(target + ".partial")
      defer { unlink(partial.string) }
      do {
        let source = try FileDescriptor.open(
          FilePath(path), .readOnly, options: [.closeOnExec, .nonBlocking])
        try source.closeAfter { try copy(source, to: partial) }
      } catch let error as Errno {
        if [.permissionDenied, .notPermitted, .tooManyOpenFiles, .noMemory].contains(error) {
          throw WorkFileError(.read, FilePath(path), error)
        }
        logger.notice("\(path) was not moved to \(folder): \(error)")
        return false
      }
      guard rename(partial.string, target) == 0 else {
        throw WorkFileError(.write, FilePath(target), Errno(rawValue: errno))
      }
      unlink(path)
      return true
    }
  }

  /// - Throws: `WorkFileError` if the new file cannot be written; `Errno` if the former one cannot be read.
  private func copy(_ source: FileDescriptor, to target: FilePath) throws {
    let file = try WorkFileError.explaining(.write, target) {
      try FileDescriptor.open(
        target, .writeOnly, options: [.create, .truncate, .closeOnExec],
        permissions: .ownerReadWrite)
    }
    try file.closeAfter {
      var block = [UInt8](repeating: 0, count: 1 << 20)
      while case let count = try block.withUnsafeMutableBytes({ try source.read(into: $0) }),
        count > 0
      {
        try WorkFileError.explaining(.write, target) { _ = try file.writeAll(block[..<count]) }
      }
      guard fsync(file.rawValue) == 0 else {
        throw WorkFileError(.write, target, Errno(rawValue: errno))
      }
    }
  }

  private func isFile(_ path: String) -> Bool {
    var isFolder: ObjCBool = false
    return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
      && !isFolder.boolValue
  }

  /// Removes a run's folder that is not needed any more. A folder that cannot be removed is reported. If it is in the
  /// work directory of a later `lethe run`, that command tries again.
  func removeFolder(_ path: String) {
    guard FileManager.default.fileExists(atPath: path) else { return }
    do {
      try FileManager.default.removeItem(atPath: path)
    } catch {
      guard FileManager.default.fileExists(atPath: path) else { return }
      logger.warning(
        """
        the folder \(path) cannot be removed: \(error.localizedDescription)
          remedy: correct its permissions, or remove it; it is not needed any more
        """)
    }
  }

  /// Removes the folders of ended runs that an earlier process could not remove, for example because the disk was
  /// read-only or the process had other permissions.
  func removeFoldersOfEndedRuns() async throws {
    let prefix = "\(pipeline.definition.name)-"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: workDirectory)) ?? []
    let keys = names.filter { $0.hasPrefix(prefix) }.map { String($0.dropFirst(prefix.count)) }
    guard !keys.isEmpty else { return }
    let ended = try await RunLedger(connection: lockConnection)
      .ended(among: keys, pipeline: pipeline.definition.name)
    for key in ended { removeFolder(folder(of: pipeline.definition.name, key)) }
  }
}
