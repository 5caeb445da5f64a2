import NIOCore
import NIOPosix

/// A relay that rewrites the bytes that a server sends to a client. Tests use it to change headers that the server
/// library sets and a test cannot set.
enum RewritingRelay {
  private typealias Pipe = NIOAsyncChannel<ByteBuffer, ByteBuffer>

  /// Serves until `body` returns. `body` gets the base URL.
  /// - Parameter rewrite: gets each block that the server sends, and returns the block for the client.
  static func serving<R: Sendable>(
    upstream url: String, rewriting rewrite: @escaping @Sendable (String) -> String,
    _ body: @escaping @Sendable (String) async throws -> R
  ) async throws -> R {
    let target = Int(url.split(separator: ":").last ?? "") ?? 0
    let server = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .bind(host: "127.0.0.1", port: 0) { channel in
        channel.eventLoop.makeCompletedFuture { try Pipe(wrappingChannelSynchronously: channel) }
      }
    let port = server.channel.localAddress?.port ?? 0
    return try await withThrowingTaskGroup(of: R?.self) { group in
      group.addTask {
        try await server.executeThenClose { clients in
          try await withThrowingDiscardingTaskGroup { each in
            for try await client in clients {
              each.addTask { try? await relay(client, to: target, rewrite) }
            }
          }
        }
        return nil
      }
      group.addTask { try await body("http://127.0.0.1:\(port)") }
      defer { group.cancelAll() }
      while let value = try await group.next() {
        if let value { return value }
      }
      throw CancellationError()
    }
  }

  private static func relay(
    _ client: Pipe, to port: Int, _ rewrite: @escaping @Sendable (String) -> String
  ) async throws {
    let server = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .connect(host: "127.0.0.1", port: port) { channel in
        channel.eventLoop.makeCompletedFuture { try Pipe(wrappingChannelSynchronously: channel) }
      }
    try await client.executeThenClose { requests, toClient in
      try await server.executeThenClose { responses, toServer in
        try await withThrowingTaskGroup(of: Void.self) { group in
          group.addTask {
            for try await block in requests { try await toServer.write(block) }
            toServer.finish()
          }
          group.addTask {
            for try await block in responses {
              try await toClient.write(ByteBuffer(string: rewrite(String(buffer: block))))
            }
            toClient.finish()
          }
          try await group.next()
          group.cancelAll()
        }
      }
    }
  }
}
