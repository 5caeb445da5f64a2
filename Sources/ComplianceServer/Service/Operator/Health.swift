internal import Foundation
internal import PostgreSQL
internal import ServiceLifecycle
internal import Synchronization

/// The state of the database and the spool.
struct Health: Sendable, Encodable {
  enum Status: String, Sendable, Encodable {
    case ok
    /// The database is not reachable, or the spool directory cannot be used.
    case unavailable = "away"
    /// The spool's disk is full.
    case full
    /// The database or the spool did not respond in time.
    case slow
  }

  let database: Status
  let spool: Status

  var isHealthy: Bool { database == .ok && spool == .ok }

  /// Such as `the database is unavailable, the spool is full`.
  var problems: String {
    [("database", database), ("spool", spool)].filter { $0.1 != .ok }
      .map { "the \($0.0) is \($0.1 == .unavailable ? "unavailable" : $0.1.rawValue)" }
      .joined(separator: ", ")
  }

  private enum CodingKeys: String, CodingKey {
    case database
    case spool
    case status
  }

  func encode(to encoder: any Encoder) throws {
    var members = encoder.container(keyedBy: CodingKeys.self)
    try members.encode(database, forKey: .database)
    try members.encode(spool, forKey: .spool)
    try members.encode(isHealthy ? "ok" : "degraded", forKey: .status)
  }
}

/// Checks the database and the spool. `health` returns in time even if the database or the spool hangs.
struct HealthChecks: Service {
  private let database: SharedCheck
  private let spool: SharedCheck
  private let timeout: Duration

  /// The time limit for the check of the database, unless `timeout` is longer. After this time the connection is closed
  /// forcibly, and the next check uses another connection.
  private static let databaseLimit = Duration.seconds(3)

  init(pool: ConnectionPool, spool: Spool, timeout: Duration) {
    self.timeout = timeout
    let limit = max(timeout, Self.databaseLimit)
    database = SharedCheck {
      let began = ContinuousClock.now
      do {
        // The check uses the pool of the endpoints, because a failure of the pool is a failure of the service.
        _ = try await pool.withConnection(within: limit) { try await $0.query("SELECT 1") }
        return .ok
      } catch {
        return ContinuousClock.now - began < limit ? .unavailable : .slow
      }
    }
    self.spool = SharedCheck { await spool.condition() }
  }

  func run() async throws {
    await cancelWhenGracefulShutdown {
      await withDiscardingTaskGroup { group in
        group.addTask { await database.run() }
        group.addTask { await spool.run() }
      }
    }
  }

  func health() async -> Health {
    async let database = database.status(within: timeout)
    async let spool = spool.status(within: timeout)
    return Health(database: await database ?? .slow, spool: await spool ?? .slow)
  }
}

/// One check. Concurrent callers share one run of the check.
private final class SharedCheck: Sendable {
  private let check: @Sendable () async -> Health.Status
  private let waiting = Mutex(Waiting())
  private let requests: AsyncStream<Void>
  private let request: AsyncStream<Void>.Continuation

  private struct Waiting {
    var last = 0
    var continuations: [Int: AsyncStream<Health.Status>.Continuation] = [:]
  }

  init(_ check: @escaping @Sendable () async -> Health.Status) {
    self.check = check
    (requests, request) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
  }

  func run() async {
    for await _ in requests {
      // A caller that arrives during this run waits for the next run.
      let numbers = waiting.withLock { Set($0.continuations.keys) }
      guard !numbers.isEmpty else { continue }
      let status = await check()
      for continuation in waiting.withLock({ $0.continuations.filter { numbers.contains($0.key) } })
        .values
      {
        continuation.yield(status)
        continuation.finish()
      }
    }
  }

  /// Waits for the next run of the check.
  /// - Returns: nil if that takes longer than `timeout`.
  func status(within timeout: Duration) async -> Health.Status? {
    let (statuses, status) = AsyncStream.makeStream(of: Health.Status.self)
    let number = waiting.withLock { waiting in
      waiting.last += 1
      waiting.continuations[waiting.last] = status
      return waiting.last
    }
    defer { waiting.withLock { _ = $0.continuations.removeValue(forKey: number) } }
    request.yield()
    return await withTaskGroup(of: Health.Status?.self) { group in
      group.addTask {
        for await status in statuses { return status }
        return nil
      }
      group.addTask {
        try? await Task.sleep(for: timeout)
        return nil
      }
      defer { group.cancelAll() }
      return await group.next() ?? nil
    }
  }
}
