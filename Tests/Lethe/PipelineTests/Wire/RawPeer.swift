import NIOCore
import NIOPosix

/// A server that receives and sends bytes as a test defines. Tests use it for responses that no server library sends.
enum RawPeer {
  enum Step: Sendable {
    /// Continues when this many more bytes have arrived.
    case receive(Int)
    /// Continues when these bytes have arrived.
    case receiveThrough(String)
    case send([UInt8])
    case sendText(String)
    /// Closes the connection immediately. Without this step, the server waits until the client closes the connection.
    case close
    /// Closes the connection with a reset, as if the process was killed.
    case reset
    /// Forwards all later bytes to another server, and that server's bytes to the client.
    case relay(host: String, port: Int)
  }

  private typealias Pipe = NIOAsyncChannel<ByteBuffer, ByteBuffer>

  /// Serves until `body` returns. `body` gets the port on 127.0.0.1.
  /// - Parameter steps: returns the steps for a connection. The first connection has the number 1.
  static func serving<R: Sendable>(
    _ steps: @escaping @Sendable (_ connection: Int) -> [Step],
    _ body: @escaping @Sendable (Int) async throws -> R
  ) async throws -> R {
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
            var number = 0
            for try await client in clients {
              number += 1
              let script = steps(number)
              each.addTask { try? await follow(script, client) }
            }
          }
        }
        return nil
      }
      group.addTask { try await body(port) }
      defer { group.cancelAll() }
      while let value = try await group.next() {
        if let value { return value }
      }
      throw CancellationError()
    }
  }

  private static func follow(_ steps: [Step], _ client: Pipe) async throws {
    try await client.executeThenClose { inbound, outbound in
      var blocks = inbound.makeAsyncIterator()
      var bytes: [UInt8] = []
      var read = 0
      for step in steps {
        switch step {
        case .receive(let count):
          read += count
          while bytes.count < read {
            guard let block = try await blocks.next() else { return }
            bytes += Array(buffer: block)
          }
        case .receiveThrough(let text):
          while !String(decoding: bytes[read...], as: UTF8.self).contains(text) {
            guard let block = try await blocks.next() else { return }
            bytes += Array(buffer: block)
          }
          read = bytes.count
        case .send(let bytes): try await outbound.write(ByteBuffer(bytes: bytes))
        case .sendText(let text): try await outbound.write(ByteBuffer(string: text))
        case .close: return
        case .reset:
          try await (client.channel as? any SocketOptionProvider)?
            .setSoLinger(linger(l_onoff: 1, l_linger: 0)).get()
          return
        case .relay(let host, let port):
          try await relay(Array(bytes[read...]), &blocks, outbound, host, port)
          return
        }
      }
      outbound.finish()
      // Wait until the client closes the connection. Otherwise, the client could lose bytes that it has not read yet.
      while try await blocks.next() != nil {}
    }
  }

  private static func relay(
    _ waiting: [UInt8], _ blocks: inout NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator,
    _ outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>, _ host: String, _ port: Int
  ) async throws {
    let server = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .connect(host: host, port: port) { channel in
        channel.eventLoop.makeCompletedFuture { try Pipe(wrappingChannelSynchronously: channel) }
      }
    try await server.executeThenClose { answers, toServer in
      if !waiting.isEmpty { try await toServer.write(ByteBuffer(bytes: waiting)) }
      async let back: Void = {
        for try await block in answers { try await outbound.write(block) }
        outbound.finish()
      }()
      while let block = try await blocks.next() { try await toServer.write(block) }
      toServer.finish()
      try await back
    }
  }
}
