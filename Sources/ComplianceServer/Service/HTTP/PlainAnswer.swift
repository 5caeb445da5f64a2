internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// A response with its whole body in memory.
struct PlainAnswer: Sendable {
  let status: HTTPResponse.Status
  var headers: HTTPFields
  let bytes: ByteBuffer

  static func json(
    _ body: some Encodable, status: HTTPResponse.Status = .ok,
    mediaType: String = "application/json; charset=utf-8"
  ) -> PlainAnswer {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // These bodies contain only strings and numbers, so encoding cannot fail.
    let bytes = (try? encoder.encode(body)) ?? Data()
    return PlainAnswer(
      status: status, headers: [.contentType: mediaType], bytes: ByteBuffer(bytes: bytes))
  }

  var response: Response {
    Response(status: status, headers: headers, body: ResponseBody(byteBuffer: bytes))
  }
}

extension Response {
  static func json(_ body: some Encodable) -> Response { PlainAnswer.json(body).response }
}
