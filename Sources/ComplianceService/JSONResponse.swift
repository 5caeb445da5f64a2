internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

extension Response {
  /// A JSON answer with its exact length.
  static func json(
    _ body: some Encodable, status: HTTPResponse.Status = .ok,
    mediaType: String = "application/json; charset=utf-8"
  ) -> Response {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // These bodies are made of strings and integers alone, which always encode.
    let bytes = (try? encoder.encode(body)) ?? Data()
    return Response(
      status: status, headers: [.contentType: mediaType],
      body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
  }
}
