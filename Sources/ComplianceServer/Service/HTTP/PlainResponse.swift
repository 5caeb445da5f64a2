internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// A response with its whole body in memory.
struct PlainResponse: Sendable {
  let status: HTTPResponse.Status
  var headers: HTTPFields
  let bytes: ByteBuffer

  static func json(
    _ body: some Encodable, status: HTTPResponse.Status = .ok,
    mediaType: String = "application/json; charset=utf-8"
  ) -> PlainResponse {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // Encoding cannot fail, because these bodies contain no number that is infinite or NaN.
    let bytes = (try? encoder.encode(body)) ?? Data()
    return PlainResponse(
      status: status, headers: [.contentType: mediaType], bytes: ByteBuffer(bytes: bytes))
  }

  var response: Response {
    Response(status: status, headers: headers, body: ResponseBody(byteBuffer: bytes))
  }
}

extension Response {
  static func json(_ body: some Encodable) -> Response { PlainResponse.json(body).response }
}
