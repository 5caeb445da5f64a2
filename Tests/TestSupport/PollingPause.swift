/// A short pause between two looks at what a test waits for. Without it, the looks take processor time from the process
/// that the test waits for. No test depends on its length.
/// - Throws: `CancellationError` if the time limit of the test has passed.
public func pollingPause() async throws {
  try await Task.sleep(for: .milliseconds(5))
}
