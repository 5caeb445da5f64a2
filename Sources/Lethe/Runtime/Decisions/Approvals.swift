import Definitions
import Ledger
import Logging
import Vocabulary

/// `lethe apply --approve`: approves a chunk that a limit has stopped.
extension PipelineRuntime {
  /// Records the approval with the chunk. The next apply continues the chunk, even if it belongs to an earlier run.
  /// - Throws: `LedgerError` if the ledger has no such chunk, or if the chunk belongs to another pipeline or is not
  ///   stopped.
  func approve(_ chunkID: Int64, by: String, note: String?) async throws {
    let ledger = ChunkLedger(connection: lockConnection, lease: lease)
    for run in try await RunLedger(connection: lockConnection)
      .unfinished(pipeline: pipeline.definition.name)
    where try await ledger.approve(
      chunkID: chunkID, runID: run.id, by: by, note: note)
    {
      let chunk = try await ledger.chunk(chunkID)
      let (events, superseded) = try await ledger.waitingEvents(of: chunk)
      logger.notice(
        """
        \(chunk.label) of run \(run.id) is approved by \(by); newer answers have superseded \
        \(superseded) of its \(events) events; these change nothing
        """)
      return
    }
    throw try await notStopped(chunkID)
  }

  private func notStopped(_ chunkID: Int64) async throws -> LedgerError {
    let name = pipeline.definition.name
    let file = shellWord(pipeline.file)
    let chunk = try await ChunkLedger(connection: lockConnection, lease: lease).chunk(chunkID)
    let isOfPipeline = chunk.pipeline == name
    let (what, remedy): (String, String) =
      switch chunk.state {
      case _ where !isOfPipeline:
        (
          "belongs to the pipeline \(chunk.pipeline) and not to \(name)",
          "name the definition of \(chunk.pipeline)"
        )
      case .applied:
        ("is already applied, except the events that newer answers have superseded", "")
      case .failed: ("is set aside", "lethe retry \(file) \(chunkID)")
      case .exported, .created, .uploaded, .complete, .collected:
        ("is \(chunk.state) and not stopped", "run lethe run \(file) --resume-only to continue it")
      }
    let successors = try await RunLedger(connection: lockConnection).halted(pipeline: name)
      .filter { !$0.isSetAside && $0.dataset == chunk.dataset && $0.chunkID > chunkID }
    let next = successors.map { "lethe apply \(file) --approve \($0.chunkID)" }
    return LedgerError(
      code: .missing, message: "chunk \(chunkID) \(what); nothing was approved",
      remedy: isOfPipeline && !next.isEmpty
        ? "approve the newer chunk of its dataset that is stopped: \(next.joined(separator: ", "))"
        : remedy.isEmpty ? "run lethe status to see the stopped chunks" : remedy)
  }
}
