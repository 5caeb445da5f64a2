internal import Foundation
internal import Hummingbird
internal import Logging
internal import NIOCore
internal import ServiceLifecycle
internal import Synchronization
internal import UnixSignals

/// The local service: the Batch Compliance endpoints over a database of platform state.
///
/// Jobs live in the database and their bytes in the spool directory, so a server that is killed at any
/// instant loses nothing that it has answered for.
public enum ComplianceServer {
  /// Runs until SIGTERM or SIGINT comes; then lets the requests under way finish.
  /// - Throws: `StartError`, or what PostgreSQL or the network says, if it cannot start.
  public static func run(_ configuration: Configuration) async throws {
    let server = try await AssembledServer(configuration)
    let lastResort = LastResort(
      patience: configuration.shutdownPatience, logger: configuration.logger)
    do {
      try await server.run(
        server.group(stoppingOn: [.sigterm, .sigint], endingWith: [lastResort]))
    } catch {
      await server.close()
      throw error
    }
    await server.close()
  }

  /// Runs for the length of `body`, in this process.
  ///
  /// If `body` throws, the server stops at once and drops the requests under way; if it returns, they
  /// finish first.
  public static func withRunning<R: Sendable>(
    _ configuration: Configuration, isolation: isolated (any Actor)? = #isolation,
    _ body: (Address) async throws -> R
  ) async throws -> R {
    let server = try await AssembledServer(configuration)
    let group = server.group(stoppingOn: [])
    return try await withThrowingTaskGroup(of: Void.self) { tasks in
      tasks.addTask {
        do {
          try await server.run(group)
          server.listening.finish()
        } catch {
          server.listening.finish(throwing: error)
        }
      }
      do {
        var addresses = server.addresses.makeAsyncIterator()
        guard let address = try await addresses.next(isolation: isolation) else {
          throw CancellationError()
        }
        let value = try await body(address)
        await group.triggerGracefulShutdown()
        try await tasks.waitForAll()
        await server.close()
        return value
      } catch {
        tasks.cancelAll()
        try? await tasks.waitForAll()
        await server.close()
        throw error
      }
    }
  }
}

/// Ends the process if the server does not end by itself: whoever waits for a disk that hangs cannot be told to stop.
/// Nothing is lost by that which a kill would not lose, and that is nothing.
private struct LastResort: Service {
  let patience: Duration
  let logger: Logger

  /// What the server may take beyond its patience.
  private static let grace = Duration.seconds(3)

  func run() async throws {
    try? await gracefulShutdown()
    // Nobody waits for it.
    Task { [patience, logger] in
      try await Task.sleep(for: patience + Self.grace)
      logger.error(
        "something does not let go, such as a disk that hangs: the server ends without it")
      exit(1)
    }
  }
}
