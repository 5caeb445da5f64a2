internal import FaultPlans
internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

extension ResponseChange {
  /// The part of the change that applies to the head.
  func head(at date: Date) -> HeadChange {
    HeadChange(
      headers: headers.map { .init(name: $0.name, values: $0.values.map { $0.filled(at: date) }) },
      letterCase: headerCase, framing: framing)
  }

  /// Changes the status and the body. To compress the body or to change its jobs, the whole body is read into memory.
  func applied(to response: Response, of point: Fault.Point, at date: Date) async throws
    -> Response
  {
    var response = response
    if let status { response.status = .init(code: status) }
    switch body {
    case .json:
      let plain = PlainResponse.json(
        InjectedProblem(title: Self.title(of: response.status), status: response.status.code),
        mediaType: "application/problem+json")
      response.replaceBody(plain.bytes, type: plain.headers[.contentType])
    case .html:
      let page = """
        <!DOCTYPE html><html><head><title>\(response.status.code)</title></head>\
        <body><h1>\(response.status)</h1></body></html>\n
        """
      response.replaceBody(ByteBuffer(string: page), type: "text/html")
    case .empty: response.replaceBody(ByteBuffer(), type: nil)
    case .text(let text):
      response.replaceBody(
        ByteBuffer(string: text.filled(at: date)), type: response.headers[.contentType])
    case nil: break
    }
    guard coding != nil || !jobs.isEmpty else { return response }
    var bytes = try await response.body.collected()
    let value = try? JSONDecoder().decode(JSONValue.self, from: Data(bytes.readableBytesView))
    if !jobs.isEmpty, let value {
      let changed = jobs.applied(to: value, isListing: point == .list, at: date)
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      bytes = try ByteBuffer(bytes: encoder.encode(changed))
    }
    if let coding {
      bytes = try ByteBuffer(
        bytes: Deflation.compressed(Array(bytes.readableBytesView), as: coding))
      response.headers[.contentEncoding] = coding == .gzip ? "gzip" : "deflate"
    }
    response.replaceBody(bytes, type: response.headers[.contentType])
    return response
  }

  /// The title of a problem with this status. A fault plan can use statuses that the service itself never sends.
  private static func title(of status: HTTPResponse.Status) -> String {
    Problem.Kind.allCases.first { $0.status == status }?.title ?? "Status \(status.code)"
  }
}

private struct InjectedProblem: Encodable {
  let type = "about:blank"
  let title: String
  let detail = "A fault plan sends this response."
  let status: Int
}

extension Response {
  fileprivate mutating func replaceBody(_ bytes: ByteBuffer, type: String?) {
    var headers = headers
    headers[.contentLength] = nil
    headers[.contentType] = type
    self = Response(
      status: status, headers: headers,
      body: bytes.readableBytes == 0 ? ResponseBody() : ResponseBody(byteBuffer: bytes))
  }
}

extension ResponseBody {
  /// Returns the complete body.
  fileprivate func collected() async throws -> ByteBuffer {
    let box = CollectingWriter.Box()
    try await write(CollectingWriter(box: box))
    return box.bytes
  }
}

/// Collects a body instead of sending it.
private struct CollectingWriter: ResponseBodyWriter {
  final class Box {
    var bytes = ByteBuffer()
  }

  let box: Box

  mutating func write(_ buffer: ByteBuffer) async throws {
    var buffer = buffer
    box.bytes.writeBuffer(&buffer)
  }

  consuming func finish(_ trailingHeaders: HTTPFields?) async throws {}
}
