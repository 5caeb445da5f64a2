import Foundation
import NIOCore
import Vocabulary

/// Asks a proxy to connect to a host, and reads the proxy's response.
struct ProxyDialogue: Sendable {
  enum Response: Sendable, Equatable {
    case connected
    /// The status of a CONNECT that failed.
    case status(Int)
    /// The reply code of a SOCKS proxy for a failed connection: RFC 1928, section 6.
    case reply(Int)
    /// The proxy requires credentials.
    case requiresCredentials
    /// The proxy does not use SOCKS 5.
    case otherProtocol
  }

  let origin: Origin
  let proxy: Proxy
  let kind: Proxy.Kind

  private static let responseBytesMax = 16_384

  /// The first bytes that are sent to the proxy.
  var greeting: [UInt8] {
    switch kind {
    // Version 5, one authentication method, and the method: no credentials.
    case .socks: return [5, 1, 0]
    case .http:
      let host = origin.host.contains(":") ? "[\(origin.host)]" : origin.host
      var lines = ["CONNECT \(host):\(origin.port) HTTP/1.1", "Host: \(host):\(origin.port)"]
      if let user = proxy.user {
        let credentials = Data("\(user):\(proxy.exposedPassword ?? "")".utf8).base64EncodedString()
        lines.append("Proxy-Authorization: Basic \(credentials)")
      }
      return Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8)
    }
  }

  enum Step: Sendable, Equatable {
    case wait
    case send([UInt8])
    case responded(Response)
    /// The response cannot be read.
    case unreadable
  }

  /// Returns the next step after the proxy has sent these bytes.
  /// - Parameter sent: the number of messages that were sent; 1 after the greeting.
  func step(after bytes: [UInt8], sent: Int) -> Step {
    kind == .http ? afterHTTP(bytes) : afterSOCKS(bytes, sent: sent)
  }

  private func afterHTTP(_ bytes: [UInt8]) -> Step {
    let text = String(decoding: bytes, as: UTF8.self)
    guard text.contains("\r\n\r\n") else {
      return bytes.count > Self.responseBytesMax ? .unreadable : .wait
    }
    let words = text.split(separator: " ", maxSplits: 2)
    guard words.count > 1, words[0].hasPrefix("HTTP/"), let status = Int(words[1].prefix(3)) else {
      return .unreadable
    }
    return .responded((200..<300).contains(status) ? .connected : .status(status))
  }

  private func afterSOCKS(_ bytes: [UInt8], sent: Int) -> Step {
    guard let version = bytes.first else { return .wait }
    guard version == 5 else { return .responded(.otherProtocol) }
    guard bytes.count >= 2 else { return .wait }
    guard bytes[1] == 0 else { return .responded(.requiresCredentials) }
    guard sent > 1 else {
      let name = Array(origin.host.utf8.prefix(255))
      let port = UInt16(truncatingIfNeeded: origin.port)
      return .send(
        [5, 1, 0, 3, UInt8(name.count)] + name + [UInt8(port >> 8), UInt8(port & 0xFF)])
    }
    // The fields of a reply: version, reply code, 0, type of address, address, port.
    let reply = Array(bytes.dropFirst(2))
    guard reply.count >= 2 else { return .wait }
    guard reply[0] == 5 else { return .responded(.otherProtocol) }
    guard reply[1] == 0 else { return .responded(.reply(Int(reply[1]))) }
    guard reply.count >= 5 else { return .wait }
    let addressBytes =
      switch reply[3] {
      case 1: 4
      case 4: 16
      default: 1 + Int(reply[4])
      }
    let count = 2 + 4 + addressBytes + 2
    return bytes.count < count ? .wait : .responded(.connected)
  }
}

extension ProxyDialogue.Response {
  /// Returns the meaning of a SOCKS proxy's reply code, for messages.
  static func meaning(ofReply reply: Int) -> String {
    let meaning =
      switch reply {
      case 1: "the proxy failed"
      case 2: "the proxy's rules forbid it"
      case 3: "the network is unreachable"
      case 4: "the host is unreachable"
      case 5: "the connection was refused"
      case 6: "the connection needs too many network hops"
      case 7: "the proxy does not support CONNECT"
      case 8: "the proxy does not support host names"
      default: "the proxy gave no reason"
      }
    return "\(meaning) (SOCKS reply \(reply))"
  }
}

/// Runs a proxy dialogue on a channel. Bytes that arrive after the end of the dialogue go to the next handler.
final class ProxyDialogueHandler: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private let dialogue: ProxyDialogue
  private let ended: (ProxyDialogue.Response?, ChannelHandlerContext) -> Void
  private var bytes: [UInt8] = []
  private var sent = 0
  private var isOver = false

  /// - Parameter ended: called with the proxy's response, or with nil if the response cannot be read.
  init(
    _ dialogue: ProxyDialogue,
    ended: @escaping (ProxyDialogue.Response?, ChannelHandlerContext) -> Void
  ) {
    (self.dialogue, self.ended) = (dialogue, ended)
  }

  func channelActive(context: ChannelHandlerContext) {
    send(dialogue.greeting, context)
    context.fireChannelActive()
  }

  private func send(_ bytes: [UInt8], _ context: ChannelHandlerContext) {
    sent += 1
    context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: bytes)), promise: nil)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !isOver else { return context.fireChannelRead(data) }
    bytes += Array(buffer: unwrapInboundIn(data))
    switch dialogue.step(after: bytes, sent: sent) {
    case .wait: break
    case .send(let next): send(next, context)
    case .responded(let response): end(response, context)
    case .unreadable: end(nil, context)
    }
  }

  private func end(_ response: ProxyDialogue.Response?, _ context: ChannelHandlerContext) {
    isOver = true
    ended(response, context)
  }
}
