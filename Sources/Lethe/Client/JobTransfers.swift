import AsyncHTTPClient
import CrashPoints
import Foundation
import Logging
import NIOCore
import NIOHTTP1
public import SystemPackage
public import Vocabulary
import WorkFiles
import _NIOFileSystem

/// Uploads of the IDs of jobs. The file is streamed, so memory use does not grow with its size. Downloads are in
/// ResultDownload.swift.
extension ComplianceClient {
  /// Uploads a file. The API's own host gets the whole file in one request. If that upload fails, it starts again from
  /// the first byte. A storage host gets the file in parts if its URL is signed for a resumable upload.
  ///
  /// A storage host must confirm the length or the checksum of the stored bytes. The API's own host confirms nothing,
  /// so Lethe cannot check what it has stored.
  ///
  /// - Throws: `WorkFileError` if the file cannot be read; `APIError` `.urlRefused` if the URL has expired;
  ///   `.unconfirmed` if the host has stored other bytes or does not confirm the stored bytes. Then the job cannot be
  ///   used.
  public func upload(file: FilePath, bytes: Int, to url: SignedURL, job: String) async throws {
    let operation = "upload to job \(job)"
    let isOwnOrigin = try checkedOrigin(of: url, operation)
    try await withFile(file) { handle in
      let response =
        if !isOwnOrigin, url.isForSession == true {
          try await PartUpload(
            client: self, file: handle, path: file, bytes: bytes, url: url, operation: operation
          ).run()
        } else {
          try await uploadWhole(handle, file, bytes: bytes, to: url, isOwnOrigin, operation)
        }
      if isOwnOrigin { return }
      if let why = try await missingConfirmation(
        response.headers, handle, file, bytes: bytes)
      {
        throw APIError(
          kind: .unconfirmed, status: Int(response.status.code), operation: operation, message: why)
      }
    }
  }

  private func uploadWhole(
    _ file: ReadFileHandle, _ path: FilePath, bytes: Int, to url: SignedURL, _ isOwnOrigin: Bool,
    _ operation: String
  ) async throws -> HTTPClientResponse {
    try await repeated(.upload, operation: operation, isRepeatable: true) {
      var request = self.request(.PUT, url, isOwnOrigin: isOwnOrigin)
      request.headers.add(name: "Content-Type", value: "text/plain")
      let progress = SendingProgress()
      request.body = .stream(
        FileBlocks(
          file: file, path: path, from: 0, through: bytes, progress: progress, call: .uploadCall),
        length: .known(Int64(bytes)))
      return try await response(
        to: request, of: .upload, seconds: transport.settings.transferSeconds, operation,
        isOwnOrigin: isOwnOrigin, progress: progress)
    }
  }

  /// Sends a request and returns the response.
  /// - Throws: `APIError` for a response with a status that is not a success.
  func response(
    to request: HTTPClientRequest, of endpoint: Endpoint, seconds: Double, _ operation: String,
    isOwnOrigin: Bool = false, progress: SendingProgress? = nil
  ) async throws -> HTTPClientResponse {
    let response = try await transport.execute(request, seconds: seconds, progress: progress)
    await note(response, of: endpoint, isOwnOrigin: isOwnOrigin)
    let body = try await transport.withLimit(seconds: transport.settings.answerSeconds, request) {
      try await self.body(of: response)
    }
    guard StatusTable.isSuccess(Int(response.status.code), of: endpoint) else {
      throw failure(response, body: body, endpoint: endpoint, operation: operation)
    }
    return response
  }

  /// Compares the file with the length and the checksum that a storage host confirms. The host must send at least one
  /// of them.
  /// - Returns: why the upload is not confirmed; nil if it is.
  private func missingConfirmation(
    _ headers: HTTPHeaders, _ file: ReadFileHandle, _ path: FilePath, bytes: Int
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
    for try await block in FileBlocks(file: file, path: path, from: 0, through: bytes) {
      block.withUnsafeReadableBytes { hash.update($0) }
    }
    return hash.mismatch.map { _ in
      "the checksum of the stored bytes differs from the checksum of the sent bytes"
    }
  }

  private func withFile(
    _ file: FilePath, _ body: (ReadFileHandle) async throws -> Void
  ) async throws {
    do {
      try await FileSystem.shared.withFileHandle(forReadingAt: file, execute: body)
    } catch let error as FileSystemError {
      throw WorkFileError(reading: file, error)
    }
  }

  /// Checks that bytes may be sent to this URL or received from it.
  /// - Returns: whether the URL has the API's own origin. Only requests to that origin contain the token.
  func checkedOrigin(of url: SignedURL, _ operation: String) throws -> Bool {
    guard let origin = Origin(url.exposed), let own = Origin(baseURL) else {
      throw APIError(
        kind: .invalidRequest, operation: operation,
        message: "\"\("\(url)".withoutSecrets([token.exposed]))\" is not a URL")
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
  /// Large blocks are faster. On a slow connection, a block must be small: the connection requests the next block when
  /// it has sent this one, and until then it shows no progress.
  private static let blockBytes = (first: 1 << 16, min: 1 << 14, max: 1 << 20)
  private static let slowBlock = Duration.seconds(1)
  private static let fastBlock = Duration.milliseconds(100)

  let file: ReadFileHandle
  /// The file's path, for messages.
  let path: FilePath
  /// The offset of the first byte.
  let from: Int
  /// The offset after the last byte.
  let through: Int
  /// Is told when the connection requests a block.
  var progress: SendingProgress?
  /// The call that sends the blocks. Nil if nothing is sent.
  var call: CrashStep?

  struct AsyncIterator: AsyncIteratorProtocol {
    let blocks: FileBlocks
    var offset: Int
    private var blockBytes = FileBlocks.blockBytes.first
    private var requestedAt: ContinuousClock.Instant?

    init(blocks: FileBlocks, offset: Int) {
      (self.blocks, self.offset) = (blocks, offset)
    }

    mutating func next() async throws -> ByteBuffer? {
      if offset > blocks.from { blocks.call?.reached(.during) }
      blocks.progress?.accepted()
      adaptToSpeed()
      let count = Swift.min(CrashStep.blockBytes(blockBytes), blocks.through - offset)
      guard count > 0 else {
        blocks.progress?.completed()
        return nil
      }
      let block: ByteBuffer
      do {
        block = try await blocks.file.readChunk(
          fromAbsoluteOffset: Int64(offset), length: .bytes(Int64(count)))
      } catch let error as FileSystemError {
        throw WorkFileError(reading: blocks.path, error)
      }
      guard block.readableBytes > 0 else { throw WorkFileError(.read, blocks.path, nil) }
      offset += block.readableBytes
      return block
    }

    private mutating func adaptToSpeed() {
      let now = ContinuousClock.now
      defer { requestedAt = now }
      guard let requestedAt else { return }
      let sizes = FileBlocks.blockBytes
      if now - requestedAt < FileBlocks.fastBlock {
        blockBytes = Swift.min(blockBytes * 2, sizes.max)
      } else if now - requestedAt > FileBlocks.slowBlock {
        blockBytes = Swift.max(blockBytes / 4, sizes.min)
      }
    }
  }

  func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(blocks: self, offset: from)
  }
}

extension WorkFileError {
  fileprivate init(reading path: FilePath, _ error: FileSystemError) {
    self.init(.read, path, (error.cause as? FileSystemError.SystemCallError)?.errno ?? .ioError)
  }
}
