internal import Foundation
internal import PostgreSQL
internal import ServiceLifecycle
internal import Synchronization

/// The state of the database and the spool.
struct Health: Sendable, Encodable {
  enum Word: String, Sendable, Encodable {
    case ok
    /// Not reachable, or not writable.
    case away
    /// The spool's disk is full.
    case full
    /// No answer in time.
    case slow
  }

  let database: Word
  let spool: Word

  var isWell: Bool { database == .ok && spool == .ok }

  /// Such as `the database is away, the spool is full`.
  var complaint: String {
    [("database", database), ("spool", spool)].filter { $0.1 != .ok }
      .map { "the \($0.0) is \($0.1.rawValue)" }.joined(separator: ", ")
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
    try members.encode(isWell ? "ok" : "degraded", forKey: .status)
  }
}

/// Checks the database and the spool. It answers in time even if they do not.
struct HealthChecks: Service {
  private let database: Look
  private let spool: Look
  private let patience: Duration

  /// A check that takes longer ends, and its connection is severed. The next check uses another connection.
  private static let databaseLimit = Duration.seconds(3)

  init(pool: ConnectionPool, spool: Spool, patience: Duration) {
    self.patience = patience
    let limit = max(patience, Self.databaseLimit)
    database = Look {
      let began = ContinuousClock.now
      do {
        // Uses the pool of the endpoints, because a failure of the pool is a failure of the service.
        _ = try await pool.withConnection(within: limit) { try await $0.query("SELECT 1") }
        return .ok
      } catch {
        return ContinuousClock.now - began < limit ? .away : .slow
      }
    }
    self.spool = Look { await spool.condition() }
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
    async let database = database.word(within: patience)
    async let spool = spool.word(within: patience)
    return Health(database: await database ?? .slow, spool: await spool ?? .slow)
  }
}

/// One check. Concurrent callers share one run of it.
private final class Look: Sendable {
  private let look: @Sendable () async -> Health.Word
  private let waiting = Mutex(Waiting())
  private let asked: AsyncStream<Void>
  private let ask: AsyncStream<Void>.Continuation

  private struct Waiting {
    var last = 0
    var continuations: [Int: AsyncStream<Health.Word>.Continuation] = [:]
  }

  init(_ look: @escaping @Sendable () async -> Health.Word) {
    self.look = look
    (asked, ask) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
  }

  func run() async {
    for await _ in asked {
      // A caller that arrives during this run waits for the next run.
      let numbers = waiting.withLock { Set($0.continuations.keys) }
      guard !numbers.isEmpty else { continue }
      let word = await look()
      for continuation in waiting.withLock({ $0.continuations.filter { numbers.contains($0.key) } })
        .values
      {
        continuation.yield(word)
        continuation.finish()
      }
    }
  }

  /// - Returns: nil if the check takes longer than `patience`.
  func word(within patience: Duration) async -> Health.Word? {
    let (words, word) = AsyncStream.makeStream(of: Health.Word.self)
    let number = waiting.withLock { waiting in
      waiting.last += 1
      waiting.continuations[waiting.last] = word
      return waiting.last
    }
    defer { waiting.withLock { _ = $0.continuations.removeValue(forKey: number) } }
    ask.yield()
    return await withTaskGroup(of: Health.Word?.self) { group in
      group.addTask {
        for await word in words { return word }
        return nil
      }
      group.addTask {
        try? await Task.sleep(for: patience)
        return nil
      }
      defer { group.cancelAll() }
      return await group.next() ?? nil
    }
  }
}
