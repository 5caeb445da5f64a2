internal import Foundation
internal import Hummingbird
internal import Logging
internal import NIOCore
internal import ServiceLifecycle
internal import Synchronization
internal import UnixSignals

/// The local service: the Batch Compliance endpoints on a database with the platform's state.
///
/// The jobs are in the database. Their files are in the spool directory. A crash at any time loses nothing that the
/// server has confirmed to a client.
public enum ComplianceServer {
  /// Runs a server until SIGTERM or SIGINT, then finishes the current requests, within `shutdownTimeout`.
  /// - Throws: `StartError`, or errors of PostgreSQL or the network, if it cannot start; `StartError` if another server
  ///   becomes the owner of the database.
  public static func run(_ configuration: Configuration) async throws {
    let server = try await AssembledServer(configuration)
    let forcedExit = ForcedExit(
      timeout: configuration.shutdownTimeout, logger: configuration.logger)
    do {
      try await server.run(
        server.group(stoppingOn: [.sigterm, .sigint], endingWith: [forcedExit]))
    } catch {
      await server.close()
      throw error
    }
    await server.close()
  }

  /// Runs the server in this process while `body` runs.
  ///
  /// If `body` returns, the server finishes the current requests and stops. If `body` throws, the server drops the
  /// current requests and stops at once.
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

/// Ends the process if the shutdown hangs. Nothing else can interrupt a thread that waits for a hanging disk. The end
/// of the process loses nothing that the server has confirmed.
private struct ForcedExit: Service {
  let timeout: Duration
  let logger: Logger

  /// How long to wait after the shutdown timeout.
  private static let grace = Duration.seconds(3)

  func run() async throws {
    try? await gracefulShutdown()
    // This task is not awaited, because normally the process ends earlier.
    Task { [timeout, logger] in
      try await Task.sleep(for: timeout + Self.grace)
      logger.error(
        "the shutdown hangs, for example because a disk does not respond: the process exits now"
      )
      exit(1)
    }
  }
}
