import NIOCore
import NIOPosix

/// A server that receives and sends bytes as a test defines. Tests use it for responses that no server library sends.
enum RawPeer {
  enum Step: Sendable {
    /// Continues when this many more bytes have arrived.
    case receive(Int)
    /// Continues when this text has arrived. More bytes might already have arrived after it.
    case receiveThrough(String)
    /// Passes the bytes of the last `receiveThrough` to the test, as text.
    case report(@Sendable (String) -> Void)
    case send([UInt8])
    case sendText(String)
    /// Keeps the connection open, and neither reads nor sends until the test ends.
    case hold
    /// Repeats the steps. Waits before each repetition until the function returns.
    case repeated([Step], count: Int, after: @Sendable () async throws -> Void)
    /// Closes the connection immediately. Without this step, the server waits until the client closes the connection.
    case close
    /// Closes the connection with a TCP reset.
    case reset
    /// Forwards all later bytes to another server, and that server's bytes to the client.
    case relay(host: String, port: Int)
  }

  private typealias Pipe = NIOAsyncChannel<ByteBuffer, ByteBuffer>

  /// Serves until `body` returns. `body` gets the port on 127.0.0.1.
  /// - Parameters:
  ///   - receiveBufferBytes: how many bytes the system receives for a connection that the steps do not read.
  ///   - steps: returns the steps for a connection. The first connection has the number 1.
  static func serving<R: Sendable>(
    receiveBufferBytes: SocketOptionValue = 1 << 20,
    _ steps: @escaping @Sendable (_ connection: Int) -> [Step],
    _ body: @escaping @Sendable (Int) async throws -> R
  ) async throws -> R {
    let server = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .serverChannelOption(.socketOption(.so_rcvbuf), value: receiveBufferBytes)
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
      var conversation = Conversation(
        channel: client.channel, blocks: inbound.makeAsyncIterator(), outbound: outbound)
      guard try await conversation.follow(steps) else { return }
      outbound.finish()
      // Wait until the client closes the connection. Otherwise, the client could lose bytes that it has not read yet.
      while try await conversation.blocks.next() != nil {}
    }
  }

  private struct Conversation {
    let channel: any Channel
    var blocks: NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator
    let outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>
    var bytes: [UInt8] = []
    var read = 0
    var last = ""

    /// - Returns: whether the connection stays open after the steps.
    mutating func follow(_ steps: [Step]) async throws -> Bool {
      for step in steps {
        switch step {
        case .receive(let count):
          read += count
          while bytes.count < read {
            guard let block = try await blocks.next() else { return false }
            bytes += Array(buffer: block)
          }
        case .receiveThrough(let text):
          var found = bytes[read...].firstRange(of: text.utf8)
          while found == nil {
            guard let block = try await blocks.next() else { return false }
            bytes += Array(buffer: block)
            found = bytes[read...].firstRange(of: text.utf8)
          }
          let end = found?.upperBound ?? bytes.count
          last = String(decoding: bytes[read..<end], as: UTF8.self)
          read = end
        case .report(let report): report(last)
        case .send(let bytes): try await outbound.write(ByteBuffer(bytes: bytes))
        case .sendText(let text): try await outbound.write(ByteBuffer(string: text))
        case .hold:
          let channel = channel
          try await withTaskCancellationHandler {
            try await channel.closeFuture.get()
          } onCancel: {
            channel.close(promise: nil)
          }
          return false
        case .repeated(let steps, let count, let wait):
          for _ in 0..<count {
            try await wait()
            guard try await follow(steps) else { return false }
          }
        case .close: return false
        case .reset:
          try await (channel as? any SocketOptionProvider)?
            .setSoLinger(linger(l_onoff: 1, l_linger: 0)).get()
          return false
        case .relay(let host, let port):
          try await relay(Array(bytes[read...]), &blocks, outbound, host, port)
          return false
        }
      }
      return true
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
    try await server.executeThenClose { responses, toServer in
      if !waiting.isEmpty { try await toServer.write(ByteBuffer(bytes: waiting)) }
      async let back: Void = {
        for try await block in responses { try await outbound.write(block) }
        outbound.finish()
      }()
      while let block = try await blocks.next() { try await toServer.write(block) }
      toServer.finish()
      try await back
    }
  }
}
