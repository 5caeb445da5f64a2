import AsyncHTTPClient
import Checksums
import Foundation
import Logging
import NIOCore
import NIOHTTP1
public import SystemPackage
public import Vocabulary
import _NIOFileSystem

/// The bytes of jobs: what is uploaded and what is downloaded. Both stream in flat memory.
extension ComplianceClient {
  private static let blockBytes: Int64 = 1 << 20

  /// What came of a download.
  public struct Download: Sendable {
    public let bytes: Int
    public let sha256: [UInt8]
    /// What the answer said of itself, for messages.
    public let summary: String
  }

  /// Uploads a file whole; after a break the whole of it again, as the native profile wants it.
  ///
  /// - Throws: `APIError` `.urlRefused` when the URL has expired: the job is lost.
  public func upload(file: FilePath, bytes: Int, to url: SignedURL, job: String) async throws {
    let operation = "upload to job \(job)"
    let isOwnOrigin = try checkedOrigin(of: url, operation)
    try await repeated(.upload, operation: operation, isRepeatable: true) {
      try await withFile(file, operation) { handle in
        var request = self.request(.PUT, url, isOwnOrigin: isOwnOrigin)
        request.headers.add(name: "Content-Type", value: "text/plain")
        request.body = .stream(
          FileBlocks(file: handle, blockBytes: Self.blockBytes), length: .known(Int64(bytes)))
        let response = try await http.execute(request, deadline: .distantFuture, logger: nil)
        let body = try await self.body(of: response)
        guard (200..<300).contains(response.status.code) else {
          throw failure(
            Int(response.status.code), body: body, endpoint: .upload, operation: operation)
        }
      }
    }
  }

  /// Downloads a result to `path`, complete or not at all: it is written under another name, its
  /// length and what checksums the server sends checked, synced and renamed.
  ///
  /// - Throws: `APIError` `.incompleteResult` if what came is not what was announced; `.noResult` if the
  ///   answer's status or type shows that no result came. Another download may bring one.
  public func download(from url: SignedURL, to path: FilePath, job: String) async throws -> Download
  {
    let operation = "download of job \(job)"
    let isOwnOrigin = try checkedOrigin(of: url, operation)
    return try await repeated(.download, operation: operation, isRepeatable: true) {
      let request = self.request(.GET, url, isOwnOrigin: isOwnOrigin)
      let response = try await http.execute(request, deadline: .distantFuture, logger: nil)
      let type = MediaType(response.headers)
      guard response.status == .ok, !type.isPage else {
        throw try await noResult(response, type, operation)
      }
      return try await store(response, type, at: path, operation)
    }
  }

  /// An answer that is not the job's result, and yet may be one of the API's own errors.
  private func noResult(
    _ response: HTTPClientResponse, _ type: MediaType, _ operation: String
  ) async throws -> APIError {
    let status = Int(response.status.code)
    guard !(200..<300).contains(status) else {
      var bytes = 0
      for try await buffer in response.body { bytes += buffer.readableBytes }
      return APIError(
        kind: .noResult, status: status, operation: operation,
        message: "what came is no result: \(type.summary(status: status, bytes: bytes))")
    }
    let error = failure(
      status, body: try await self.body(of: response), endpoint: .download, operation: operation)
    switch error.kind {
    // These concern the job and no other, whatever the server means by them. 402 concerns the App.
    case .invalidRequest where status != 402, .conflict, .tooLarge:
      return APIError(
        kind: .noResult, status: status, operation: operation,
        message: "what came is no result: HTTP \(status), \(error.message)")
    default: return error
    }
  }

  private func withFile(
    _ file: FilePath, _ operation: String, _ body: (ReadFileHandle) async throws -> Void
  ) async throws {
    do {
      try await FileSystem.shared.withFileHandle(forReadingAt: file, execute: body)
    } catch let error as FileSystemError {
      throw APIError(kind: .localFile, operation: operation, message: "\(error)")
    }
  }

  private func store(
    _ response: HTTPClientResponse, _ type: MediaType, at path: FilePath, _ operation: String
  ) async throws -> Download {
    let announced = response.headers.first(name: "content-length").flatMap(Int.init)
    let isChunked = response.headers[canonicalForm: "transfer-encoding"].contains("chunked")
    // A body that ends with its connection could have been cut anywhere: absence of an ID means
    // that it is clean, so nothing could be believed.
    guard announced != nil || isChunked else {
      throw APIError(
        kind: .temporary, operation: operation, message: "the answer does not tell its length")
    }
    let partial = FilePath(path.string + ".partial")
    let file = try local(operation) {
      try FileDescriptor.open(
        partial, .writeOnly, options: [.create, .truncate], permissions: [.ownerReadWrite])
    }
    defer { try? file.close() }
    var hash = SHA256()
    var announcedHash = AnnouncedHash(response.headers["x-goog-hash"])
    var bytes = 0
    for try await buffer in response.body {
      try local(operation) {
        _ = try buffer.withUnsafeReadableBytes { block in
          hash.update(block)
          announcedHash.update(block)
          bytes += block.count
          return try file.writeAll(block)
        }
      }
    }
    if let announced, announced != bytes {
      throw APIError(
        kind: .temporary, operation: operation,
        message: "\(bytes) of \(announced) bytes came")
    }
    if let mismatch = announcedHash.mismatch {
      throw APIError(kind: .incompleteResult, operation: operation, message: mismatch)
    }
    try local(operation) {
      guard fsync(file.rawValue) == 0, rename(partial.string, path.string) == 0 else {
        throw Errno(rawValue: errno)
      }
    }
    return Download(
      bytes: bytes, sha256: hash.finalize(),
      summary: type.summary(status: Int(response.status.code), bytes: bytes))
  }

  private func local<R>(_ operation: String, _ body: () throws -> R) throws -> R {
    do {
      return try body()
    } catch {
      throw APIError(kind: .localFile, operation: operation, message: "\(error)")
    }
  }

  /// - Returns: whether the URL is of the API's own origin, and so gets the token.
  private func checkedOrigin(of url: SignedURL, _ operation: String) throws -> Bool {
    guard let origin = Origin(url.exposed), let own = Origin(baseURL) else {
      throw APIError(
        kind: .invalidRequest, operation: operation,
        message: "\("\(url)".withoutSecrets([token.exposed])) is not a URL")
    }
    if origin == own { return true }
    guard origin.isAllowed(by: allowedHosts) else {
      throw APIError(
        kind: .hostNotAllowed, operation: operation,
        message: """
          the API sends the bytes to \(origin.host.withoutSecrets([token.exposed])), which is not an allowed host
          """)
    }
    return false
  }

  /// The API's own host wants the token (native); another host takes the URL for the credential and
  /// must not see the token (gcs).
  private func request(
    _ method: HTTPMethod, _ url: SignedURL, isOwnOrigin: Bool
  ) -> HTTPClientRequest {
    var request = HTTPClientRequest(url: url.exposed)
    request.method = method
    if isOwnOrigin {
      request.headers.add(name: "Authorization", value: "Bearer \(token.exposed)")
    }
    return request
  }
}

/// A file block by block, each read when it is asked for: the file system's own stream reads many
/// blocks ahead, which costs memory and gains nothing.
private struct FileBlocks: AsyncSequence, Sendable {
  let file: ReadFileHandle
  let blockBytes: Int64

  struct AsyncIterator: AsyncIteratorProtocol {
    let blocks: FileBlocks
    var offset: Int64 = 0

    mutating func next() async throws -> ByteBuffer? {
      let block = try await blocks.file.readChunk(
        fromAbsoluteOffset: offset, length: .bytes(blocks.blockBytes))
      offset += Int64(block.readableBytes)
      return block.readableBytes > 0 ? block : nil
    }
  }

  func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(blocks: self)
  }
}
