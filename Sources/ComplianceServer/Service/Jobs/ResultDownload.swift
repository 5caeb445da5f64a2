internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore
internal import SystemPackage
internal import _NIOFileSystem

/// The response to a GET or HEAD of a stored result: the whole file, a range, 304 if the client already has the file,
/// or 416 if the range is not in the file. Source: RFC 9110, sections 13 and 14.
struct ResultDownload {
  let path: FilePath
  let bytes: Int64
  /// The entity tag, in quotes. It is a strong tag, because a result never changes.
  let entityTag: String
  var headers: HTTPFields

  func response(to request: Request) -> Response {
    var headers = headers
    headers[.eTag] = entityTag
    headers[.acceptRanges] = "bytes"
    if let known = request.headers[.ifNoneMatch], Self.matches(known, entityTag) {
      return Response(status: .notModified, headers: headers)
    }
    headers[.contentType] = "application/octet-stream"
    switch range(of: request) {
    case .whole: return response(.ok, 0..<bytes, headers)
    case .part(let part):
      headers[.contentRange] = "bytes \(part.lowerBound)-\(part.upperBound - 1)/\(bytes)"
      return response(.partialContent, part, headers)
    case .unsatisfiable:
      headers[.contentRange] = "bytes */\(bytes)"
      headers[.contentType] = nil
      return Response(status: .rangeNotSatisfiable, headers: headers)
    }
  }

  private enum RequestedRange {
    case whole
    case part(Range<Int64>)
    case unsatisfiable
  }

  /// Returns the range that the request asks for. An invalid range and a list of several ranges are ignored, as RFC
  /// 9110 allows. The range of a HEAD is ignored, too, because ranges are defined only for GET.
  private func range(of request: Request) -> RequestedRange {
    guard request.method == .get, let text = request.headers[.range], text.hasPrefix("bytes="),
      request.headers[.ifRange] ?? entityTag == entityTag
    else { return .whole }
    let ends = text.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false)
    guard ends.count == 2, ends.allSatisfy({ $0.utf8.allSatisfy { $0 &- 0x30 < 10 } }) else {
      return .whole
    }
    switch (Int64(ends[0]), Int64(ends[1])) {
    case (let first?, let last?):
      guard first <= last else { return .whole }
      // The last byte can be any number, up to the largest that an integer holds.
      return first < bytes ? .part(first..<min(last, bytes - 1) + 1) : .unsatisfiable
    case (let first?, nil) where ends[1].isEmpty:
      return first < bytes ? .part(first..<bytes) : .unsatisfiable
    case (nil, let suffix?) where ends[0].isEmpty:
      return suffix > 0 && bytes > 0 ? .part(max(0, bytes - suffix)..<bytes) : .unsatisfiable
    default: return .whole
    }
  }

  private static func matches(_ list: String, _ tag: String) -> Bool {
    list.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
      .contains { $0 == "*" || $0 == tag || $0 == "W/\(tag)" }
  }

  private func response(
    _ status: HTTPResponse.Status, _ range: Range<Int64>, _ headers: HTTPFields
  ) -> Response {
    Response(
      status: status, headers: headers,
      body: ResponseBody(contentLength: range.count) { [path] writer in
        if !range.isEmpty {
          try await FileSystem.shared.withFileHandle(forReadingAt: path) { file in
            for try await block in file.readChunks(in: range, chunkLength: .kibibytes(512)) {
              try await writer.write(block)
            }
          }
        }
        try await writer.finish(nil)
      })
  }
}
