/// Runs `body` in a task of its own, so that it runs to its end even if this task is cancelled. Waits for it, but no longer
/// than `limit`: the database might not answer.
func uncancelled(limit: Duration, _ body: @escaping @Sendable () async -> Void) async {
  let (ended, end) = AsyncStream.makeStream(of: Void.self)
  Task {
    await body()
    end.finish()
  }
  let timer = Task {
    try await Task.sleep(for: limit)
    end.finish()
  }
  await Task { for await _ in ended {} }.value
  timer.cancel()
}
