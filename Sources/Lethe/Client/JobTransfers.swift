import AsyncHTTPClient
import Checksums
import Foundation
import Logging
import NIOCore
import NIOHTTP1
public import SystemPackage
public import Vocabulary
import _NIOFileSystem

/// Uploads of the IDs of jobs, and downloads of their results. Both are streams, so memory use does not grow with the
/// file.
extension ComplianceClient {
  /// The result of a download.
  public struct Download: Sendable {
    public let bytes: Int
    public let sha256: [UInt8]
    /// The status, the content type and the size of the response, for messages.
    public let summary: String
  }

  /// Uploads a file. The API's own host gets the whole file in one request. If that upload fails, it starts again from
  /// the first byte. A storage host gets the file in parts if its URL is signed for a resumable upload.
  ///
  /// A storage host must confirm the length or the checksum of the stored bytes. The API's own host confirms nothing.
  /// Only the results show which IDs it has stored.
  ///
  /// - Throws: `APIError` `.urlRefused` if the URL has expired; `.unproven` if the host has stored other bytes or does
  ///   not confirm the stored bytes. In both cases the job is lost.
  public func upload(file: FilePath, bytes: Int, to url: SignedURL, job: String) async throws {
    let operation = "upload to job \(job)"
    let isOwnOrigin = try checkedOrigin(of: url, operation)
    try await withFile(file, operation) { handle in
      let response =
        if !isOwnOrigin, url.isForSession == true {
          try await PartUpload(
            client: self, file: handle, bytes: bytes, url: url, operation: operation
          ).run()
        } else {
          try await uploadWhole(handle, bytes: bytes, to: url, isOwnOrigin, operation)
        }
      if isOwnOrigin { return }
      if let why = try await missingConfirmation(response.headers, handle, bytes: bytes) {
        throw APIError(
          kind: .unproven, status: Int(response.status.code), operation: operation, message: why)
      }
    }
  }

  private func uploadWhole(
    _ file: ReadFileHandle, bytes: Int, to url: SignedURL, _ isOwnOrigin: Bool,
    _ operation: String
  ) async throws -> HTTPClientResponse {
    try await repeated(.upload, operation: operation, isRepeatable: true) {
      var request = self.request(.PUT, url, isOwnOrigin: isOwnOrigin)
      request.headers.add(name: "Content-Type", value: "text/plain")
      request.body = .stream(
        FileBlocks(file: file, from: 0, through: bytes), length: .known(Int64(bytes)))
      return try await answer(
        to: request, of: .upload, seconds: transport.settings.transferSeconds, operation,
        isOwnOrigin: isOwnOrigin)
    }
  }

  /// Sends a request and returns the response.
  /// - Throws: `APIError` for a response with a status that is not a success.
  func answer(
    to request: HTTPClientRequest, of endpoint: Endpoint, seconds: Double, _ operation: String,
    isOwnOrigin: Bool = false
  ) async throws -> HTTPClientResponse {
    let response = try await transport.execute(request, seconds: seconds)
    await note(response, of: endpoint, isOwnOrigin: isOwnOrigin)
    let body = try await self.body(of: response)
    guard StatusTable.isSuccess(Int(response.status.code), of: endpoint) else {
      throw failure(response, body: body, endpoint: endpoint, operation: operation)
    }
    return response
  }

  /// Compares the file with the length and the checksum that a storage host confirms. The host must send at least one
  /// of them.
  /// - Returns: why the upload is not confirmed; nil if it is.
  private func missingConfirmation(
    _ headers: HTTPHeaders, _ file: ReadFileHandle, bytes: Int
  ) async throws -> String? {
    let stored = headers.first(name: "x-goog-stored-content-length")
    if let stored, Int(stored) != bytes {
      return "the storage host has not stored the \(bytes) bytes that were sent"
    }
    var hash = AnnouncedHash(headers["x-goog-hash"], needsMD5: false)
    guard hash.isAnnounced else {
      return stored == nil
        ? "the storage host confirms neither the length nor the checksum of the stored bytes" : nil
    }
    for try await block in FileBlocks(file: file, from: 0, through: bytes) {
      block.withUnsafeReadableBytes { hash.update($0) }
    }
    return hash.mismatch.map { _ in
      "the checksum of the stored bytes differs from the checksum of the sent bytes"
    }
  }

  /// Downloads a result to `path`, completely or not at all. The result is written to a temporary file. Its length and
  /// the server's checksums are checked. Then the file is synced and renamed.
  ///
  /// - Parameter bytesMax: the limit for the decompressed result. No real result is larger.
  /// - Throws: `APIError` `.incompleteResult` if the body does not match its checksum or its coding; `.noResult` if the
  ///   response is not a result, or if it cannot be checked. A second download can succeed.
  public func download(
    from url: SignedURL, to path: FilePath, bytesMax: Int, job: String
  ) async throws -> Download {
    let operation = "download of job \(job)"
    let isOwnOrigin = try checkedOrigin(of: url, operation)
    return try await repeated(.download, operation: operation, isRepeatable: true) {
      // The checksums are of the stored bytes, so the request does not accept compression.
      var response = try await result(of: url, isOwnOrigin, accepting: "identity")
      // For "identity", a storage host decompresses a stored gzip file, and then the checksum does not match.
      if response.headers.first(name: "x-goog-stored-content-encoding")?.lowercased() == "gzip",
        ContentCoding(response.headers) == .identity
      {
        response = try await result(of: url, isOwnOrigin, accepting: "gzip")
      }
      let type = MediaType(response.headers)
      guard StatusTable.isSuccess(Int(response.status.code), of: .download), !type.isPage else {
        throw try await noResult(response, type, operation)
      }
      return try await store(response, type, at: path, bytesMax: bytesMax, operation)
    }
  }

  private func result(
    of url: SignedURL, _ isOwnOrigin: Bool, accepting codings: String
  ) async throws -> HTTPClientResponse {
    var request = self.request(.GET, url, isOwnOrigin: isOwnOrigin)
    request.headers.add(name: "Accept-Encoding", value: codings)
    let response = try await transport.execute(
      request, seconds: transport.settings.transferSeconds)
    await note(response, of: .download, isOwnOrigin: isOwnOrigin)
    return response
  }

  /// Returns the error for a response that is not the job's result. The response may be one of the API's own errors.
  private func noResult(
    _ response: HTTPClientResponse, _ type: MediaType, _ operation: String
  ) async throws -> APIError {
    let status = Int(response.status.code)
    guard !(200..<300).contains(status) else {
      var bytes = 0
      for try await buffer in response.body {
        bytes += buffer.readableBytes
        if bytes > Self.answerBytesMax { break }
      }
      return APIError(
        kind: .noResult, status: status, operation: operation,
        message: "the response is not a result: \(type.summary(status: status, bytes: bytes))")
    }
    return failure(
      response, body: try await self.body(of: response), endpoint: .download, operation: operation)
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
    _ response: HTTPClientResponse, _ type: MediaType, at path: FilePath, bytesMax: Int,
    _ operation: String
  ) async throws -> Download {
    let announced = response.headers.first(name: "content-length").flatMap(Int.init)
    let isChunked = response.headers[canonicalForm: "transfer-encoding"]
      .contains { $0.lowercased() == "chunked" }
    var announcedHash = AnnouncedHash(response.headers["x-goog-hash"])
    // If a proxy has compressed the file on its way, the checksum is of the decompressed bytes.
    var unpackedHash = AnnouncedHash(response.headers["x-goog-hash"])
    // A body without a length can be cut off anywhere without an error. An ID that is missing from a result counts as
    // clean, so a result that is cut off would hide deletions.
    guard announced != nil || isChunked || announcedHash.isAnnounced else {
      throw APIError(
        kind: .noResult, operation: operation,
        message: "the response has neither a length nor a checksum, so it may be cut off")
    }
    let coding = ContentCoding(response.headers)
    guard coding != .unknown else {
      throw APIError(
        kind: .noResult, operation: operation,
        message:
          "the response has the content coding \(ContentCoding.name(response.headers)), which is not supported"
      )
    }
    let partial = FilePath(path.string + ".partial")
    let file = try local(operation) {
      try FileDescriptor.open(
        partial, .writeOnly, options: [.create, .truncate], permissions: [.ownerReadWrite])
    }
    defer { try? file.close() }
    var hash = SHA256()
    // The number of received bytes, and their number after decompression.
    var (bytes, plainBytes) = (0, 0)
    let inflation =
      coding == .identity ? nil : try Inflation(mayBeRaw: coding == .deflate)
    func keep(_ block: UnsafeRawBufferPointer) throws {
      hash.update(block)
      if coding != .identity { unpackedHash.update(block) }
      plainBytes += block.count
      guard plainBytes <= bytesMax else {
        throw APIError(
          kind: .noResult, operation: operation,
          message: "the response has over \(bytesMax) bytes, more than any result of the job")
      }
      try local(operation) { _ = try file.writeAll(block) }
    }
    for try await buffer in response.body {
      try buffer.withUnsafeReadableBytes { block in
        announcedHash.update(block)
        bytes += block.count
        guard let inflation else { return try keep(block) }
        do {
          try inflation.update(block, keep)
        } catch is Inflation.Damaged {
          throw APIError(
            kind: .incompleteResult, operation: operation,
            message:
              "the response cannot be decompressed as \(ContentCoding.name(response.headers))")
        }
      }
    }
    if let announced, announced != bytes {
      throw APIError(
        kind: .temporary, operation: operation,
        message: "only \(bytes) of \(announced) bytes arrived")
    }
    if let inflation, !inflation.isComplete {
      throw APIError(
        kind: .incompleteResult, operation: operation,
        message:
          "the \(ContentCoding.name(response.headers)) data of the response is not complete")
    }
    if let mismatch = announcedHash.mismatch, coding == .identity || unpackedHash.mismatch != nil {
      throw APIError(kind: .incompleteResult, operation: operation, message: mismatch)
    }
    try local(operation) {
      guard fsync(file.rawValue) == 0, rename(partial.string, path.string) == 0 else {
        throw Errno(rawValue: errno)
      }
    }
    return Download(
      bytes: plainBytes, sha256: hash.finalize(),
      summary: type.summary(status: Int(response.status.code), bytes: bytes))
  }

  private func local<R>(_ operation: String, _ body: () throws -> R) throws -> R {
    do {
      return try body()
    } catch {
      throw APIError(kind: .localFile, operation: operation, message: "\(error)")
    }
  }

  /// Checks that bytes may be sent to this URL or received from it.
  /// - Returns: whether the URL has the API's own origin. Only requests to that origin contain the token.
  func checkedOrigin(of url: SignedURL, _ operation: String) throws -> Bool {
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
          the URL of the upload or download names the host \(origin.host.withoutSecrets([token.exposed])), \
          which is not an allowed host
          """)
    }
    // On an unencrypted connection, others can read the signed URL and the IDs.
    guard origin.scheme == "https" || own.scheme == "http" else {
      throw APIError(
        kind: .hostNotAllowed, operation: operation,
        message: """
          the URL of the upload or download, on the host \(origin.host.withoutSecrets([token.exposed])), \
          uses unencrypted http
          """)
    }
    return false
  }

  /// Returns a request for this URL. The API's own host requires the token (native). For another host (gcs), the signed
  /// URL is the credential, and the host must not get the token.
  func request(
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

/// The blocks of a file. Each block is read on demand. The file system's own stream reads many blocks ahead, which uses
/// more memory and is not faster.
struct FileBlocks: AsyncSequence, Sendable {
  private static let blockBytes = 1 << 20

  let file: ReadFileHandle
  /// The offset of the first byte.
  let from: Int
  /// The offset after the last byte.
  let through: Int

  struct AsyncIterator: AsyncIteratorProtocol {
    let blocks: FileBlocks
    var offset: Int

    mutating func next() async throws -> ByteBuffer? {
      let count = Swift.min(FileBlocks.blockBytes, blocks.through - offset)
      guard count > 0 else { return nil }
      let block = try await blocks.file.readChunk(
        fromAbsoluteOffset: Int64(offset), length: .bytes(Int64(count)))
      offset += block.readableBytes
      return block.readableBytes > 0 ? block : nil
    }
  }

  func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(blocks: self, offset: from)
  }
}
