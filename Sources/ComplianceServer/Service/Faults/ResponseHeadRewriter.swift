internal import FaultPlans
internal import Foundation
internal import NIOCore

/// A change to the head of one response. It overrides the headers that other layers wrote.
struct HeadChange: Sendable {
  struct Header: Sendable {
    let name: String
    /// An empty list removes the header.
    let values: [String]
  }

  var headers: [Header] = []
  var letterCase: ResponseChange.LetterCase?
  var framing: ResponseChange.Framing?

  /// Adds another change, which takes precedence.
  mutating func add(_ other: HeadChange) {
    headers += other.headers
    letterCase = other.letterCase ?? letterCase
    framing = other.framing ?? framing
  }

  /// - Parameter head: the head's text with the empty line at its end.
  func applied(to head: String) -> String {
    var lines = head.components(separatedBy: "\r\n").prefix { !$0.isEmpty }.map { $0 }
    if framing == .close, let status = lines.first {
      lines[0] = status.replacing("HTTP/1.0", with: "HTTP/1.1", maxReplacements: 1)
    }
    for header in headers {
      lines.removeAll { $0.lowercased().hasPrefix(header.name.lowercased() + ":") }
      lines += header.values.map { "\(header.name): \($0)" }
    }
    if let letterCase {
      for index in lines.indices.dropFirst() {
        let name = lines[index].prefix { $0 != ":" }
        let rest = lines[index].dropFirst(name.count)
        lines[index] = (letterCase == .upper ? name.uppercased() : name.lowercased()) + rest
      }
    }
    return lines.map { "\($0)\r\n" }.joined() + "\r\n"
  }
}

/// Changes response heads after they are encoded. Other layers write `Date` and the framing headers earlier, so they
/// cannot overwrite the change.
final class ResponseHeadRewriter: ChannelOutboundHandler {
  typealias OutboundIn = IOData
  typealias OutboundOut = IOData

  /// The change for the next buffer that is written. That buffer contains a response head.
  private var next: HeadChange?

  /// Changes the head that is written next.
  func change(_ change: HeadChange) {
    next = change
  }

  func write(
    context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?
  ) {
    guard let change = next, case .byteBuffer(let head) = unwrapOutboundIn(data) else {
      return context.write(data, promise: promise)
    }
    next = nil
    let changed = ByteBuffer(string: change.applied(to: String(buffer: head)))
    context.write(wrapOutboundOut(.byteBuffer(changed)), promise: promise)
  }
}
