internal import Foundation
public import SystemPackage

/// Runs `body` with a new, empty directory, and then removes the directory with its contents.
public func withTemporaryDirectory<R>(_ body: (FilePath) throws -> R) throws -> R {
  let directory = try makeTemporaryDirectory()
  defer { try? FileManager.default.removeItem(atPath: directory.string) }
  return try body(directory)
}

/// Runs an asynchronous `body` with a new, empty directory, and then removes the directory with its contents.
public func withTemporaryDirectory<R: Sendable>(
  isolation: isolated (any Actor)? = #isolation, _ body: (FilePath) async throws -> R
) async throws -> R {
  let directory = try makeTemporaryDirectory()
  defer { try? FileManager.default.removeItem(atPath: directory.string) }
  return try await body(directory)
}

private func makeTemporaryDirectory() throws -> FilePath {
  let path = FileManager.default.temporaryDirectory
    .appendingPathComponent("lethe-tests-\(UUID().uuidString)").path
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  return FilePath(path)
}
