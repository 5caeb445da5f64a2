import AsyncHTTPClient
import CrashPoints
import Foundation
import Logging
import NIOCore
import NIOHTTP1
public import SystemPackage
public import Vocabulary
import WorkFiles

/// Downloads of the jobs' results. The result is streamed into a file, so memory use does not grow with its size.
extension ComplianceClient {
  /// The result of a download.
  public struct Download: Sendable {
    public let bytes: Int
    public let sha256: [UInt8]
    /// The status, the content type and the size of the response, for messages.
    public let summary: String
  }

  /// Downloads a result to `path`, completely or not at all. The result is written to a temporary file. Its length and
  /// the server's checksums are checked. Then the file is synced and renamed.
  ///
  /// A download that breaks off continues after the received bytes if the host shows that it still has the same version
  /// of the result (`PartialResult`). After an interruption, the received bytes stay beside `path`, and the next
  /// download of the job continues after them.
  ///
  /// - Parameters:
  ///   - bytesMax: the limit for the decompressed result. No real result is larger.
  ///   - former: the paths to which earlier processes may have begun to download the result. Their files are removed.
  /// - Throws: `WorkFileError` if the file cannot be written; `APIError` `.incompleteResult` if the body does not match
  ///   its checksum or its coding; `.noResult` if the response is not a result, is too large, has an unknown coding or
  ///   cannot be checked. A second download can succeed.
  public func download(
    from url: SignedURL, to path: FilePath, bytesMax: Int, job: String, former: [FilePath] = []
  ) async throws -> Download {
    let operation = "download of job \(job)"
    let isOwnOrigin = try checkedOrigin(of: url, operation)
    let partial = try local(path) { try PartialResult(at: path, of: job, former: former) }
    do {
      return try await repeated(
        .download, operation: operation, isRepeatable: true, hasProgressed: partial.hasProgressed
      ) {
        if let download = try await rest(
          of: url, isOwnOrigin, partial, bytesMax: bytesMax, operation)
        {
          return download
        }
        return try await CrashStep.downloadCall.around {
          // The checksums are of the stored bytes, so the request does not accept compression.
          let response = try await result(of: url, isOwnOrigin, accepting: "identity")
          return try await whole(
            response, of: url, isOwnOrigin, partial, bytesMax, in: .downloadCall, operation)
        }
      }
    } catch {
      partial.end(isInterrupted: Self.isInterruption(error))
      throw error
    }
  }

  /// The name of the result to which a note of an interrupted download belongs. Nil if the file is no such note.
  public static func pathOfInterruptedDownload(note name: String) -> String? {
    name.hasSuffix(PartialResult.noteSuffix)
      ? String(name.dropLast(PartialResult.noteSuffix.count)) : nil
  }

  /// Whether a later download of the job may continue after this error. It may not if the error concerns the result,
  /// the job or the file.
  private static func isInterruption(_ error: any Error) -> Bool {
    guard let error = error as? APIError else { return error is CancellationError }
    return switch error.kind {
    case .incompleteResult, .noResult, .notFound, .jobRefused: false
    case .invalidRequest, .credentials, .creditsDepleted, .capped, .redirected, .proxyRefused,
      .wrongProxyProtocol, .clientCertificateRequired, .untrusted, .unknownHost, .urlRefused,
      .conflict,
      .tooLarge, .rateLimited, .unconfirmed, .temporary, .hostNotAllowed:
      true
    }
  }

  private func result(
    of url: SignedURL, _ isOwnOrigin: Bool, accepting codings: String,
    from offset: Int = 0, of version: PartialResult.Version? = nil
  ) async throws -> HTTPClientResponse {
    var request = self.request(.GET, url, isOwnOrigin: isOwnOrigin)
    request.headers.add(name: "Accept-Encoding", value: codings)
    if let version {
      request.headers.add(name: "Range", value: "bytes=\(offset)-")
      request.headers.add(name: "If-Range", value: version.validator)
    }
    let response = try await transport.execute(
      request, seconds: transport.settings.transferSeconds)
    await note(response, of: .download, isOwnOrigin: isOwnOrigin)
    return response
  }

  /// Continues a download after the received bytes, or receives the whole result if the host sends it instead.
  /// - Returns: nil if there are no bytes to continue after, or if the whole result must be requested.
  private func rest(
    of url: SignedURL, _ isOwnOrigin: Bool, _ partial: PartialResult, bytesMax: Int,
    _ operation: String
  ) async throws -> Download? {
    guard let version = partial.version, partial.bytes > 0 else { return nil }
    return try await CrashStep.rangeCall.around {
      try await rest(version, of: url, isOwnOrigin, partial, bytesMax, operation)
    }
  }

  private func rest(
    _ version: PartialResult.Version, of url: SignedURL, _ isOwnOrigin: Bool,
    _ partial: PartialResult, _ bytesMax: Int, _ operation: String
  ) async throws -> Download? {
    let offset = partial.bytes
    let response = try await result(
      of: url, isOwnOrigin, accepting: "identity", from: offset, of: version)
    let status = Int(response.status.code)
    switch status {
    case 206 where version.hasRest(from: offset, in: response.headers):
      logger.notice("\(operation): continuing after \(offset) of \(version.bytes) bytes")
      return try await receive(response, partial, bytesMax, in: .rangeCall, operation)
    case 200:
      // The host ignores ranges, or its result has changed.
      logger.notice("\(operation): the host sends the whole result again")
      return try await whole(
        response, of: url, isOwnOrigin, partial, bytesMax, in: .rangeCall, operation)
    case 201..<300, 412, 416:
      logger.notice(
        "\(operation): the host does not send the rest (HTTP \(status)), beginning again")
      try local(partial.path) { try partial.restart() }
      return nil
    default:
      throw try await noResult(response, MediaType(response.headers), operation)
    }
  }

  /// Receives a response to a request for the whole result.
  private func whole(
    _ first: HTTPClientResponse, of url: SignedURL, _ isOwnOrigin: Bool, _ partial: PartialResult,
    _ bytesMax: Int, in call: CrashStep, _ operation: String
  ) async throws -> Download {
    var response = first
    // If the request accepts only identity, a storage host decompresses a result that it stores as gzip. The checksum
    // is of the stored bytes, so it would not match.
    if response.headers.first(name: "x-goog-stored-content-encoding")?.lowercased() == "gzip",
      ContentCoding(response.headers) == .identity
    {
      response = try await result(of: url, isOwnOrigin, accepting: "gzip")
    }
    let type = MediaType(response.headers)
    guard StatusTable.isSuccess(Int(response.status.code), of: .download), !type.excludesResult
    else {
      throw try await noResult(response, type, operation)
    }
    let hashes = response.headers["x-goog-hash"]
    let announced = response.headers.first(name: "content-length").flatMap(Int.init)
    let isChunked = response.headers[canonicalForm: "transfer-encoding"]
      .contains { $0.lowercased() == "chunked" }
    // A body without a length can be cut off anywhere without an error. An ID that is missing from a result counts as
    // clean, so a result that is cut off would hide deletions.
    guard announced != nil || isChunked || AnnouncedHash(hashes).isAnnounced else {
      throw APIError(
        kind: .noResult, operation: operation,
        message: "the response has neither a length nor a checksum, so it may be cut off")
    }
    guard ContentCoding(response.headers) != .unknown else {
      throw APIError(
        kind: .noResult, operation: operation,
        message:
          "the response has the content coding \(ContentCoding.name(response.headers)), which is not supported"
      )
    }
    try local(partial.path) {
      try partial.restart(PartialResult.Version(response.headers), hashes: hashes)
    }
    return try await receive(response, partial, bytesMax, in: call, operation)
  }

  /// Appends a response's body to the file, and checks the file.
  private func receive(
    _ response: HTTPClientResponse, _ partial: PartialResult, _ bytesMax: Int,
    in call: CrashStep, _ operation: String
  ) async throws -> Download {
    let coding = ContentCoding(response.headers)
    let announced = response.headers.first(name: "content-length").flatMap(Int.init)
    // The checksum of the bytes as they arrive. `partial` has the checksum of the decompressed bytes. If a proxy has
    // compressed the result on its way, the announced checksum is of the decompressed bytes.
    var packedHash = AnnouncedHash(
      coding == .identity ? [] : response.headers["x-goog-hash"])
    var bytes = 0
    let inflation = coding == .identity ? nil : try Inflation(mayBeRaw: coding == .deflate)
    func keep(_ block: UnsafeRawBufferPointer) throws {
      guard partial.bytes + block.count <= bytesMax else {
        throw APIError(
          kind: .noResult, operation: operation,
          message: "the response has over \(bytesMax) bytes, more than any result of the job")
      }
      let partBytes = CrashStep.blockBytes(block.count)
      for start in stride(from: 0, to: block.count, by: max(partBytes, 1)) {
        let end = min(start + partBytes, block.count)
        try local(partial.path) { try partial.append(.init(rebasing: block[start..<end])) }
        call.reached(.during)
      }
    }
    for try await buffer in response.body {
      try buffer.withUnsafeReadableBytes { block in
        packedHash.update(block)
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
    if let version = partial.version, version.bytes != partial.bytes {
      throw APIError(
        kind: .temporary, operation: operation,
        message: "only \(partial.bytes) of \(version.bytes) bytes arrived")
    }
    if let inflation, !inflation.isComplete {
      throw APIError(
        kind: .incompleteResult, operation: operation,
        message:
          "the \(ContentCoding.name(response.headers)) data of the response is not complete")
    }
    if let mismatch = partial.mismatch, coding == .identity || packedHash.mismatch != nil {
      throw APIError(
        kind: .incompleteResult, operation: operation,
        message: packedHash.isAnnounced ? packedHash.mismatch ?? mismatch : mismatch)
    }
    let received = partial.version == nil ? bytes : partial.bytes
    let sha256 = try local(partial.path) { try partial.complete() }
    return Download(
      bytes: partial.bytes, sha256: sha256,
      summary: MediaType(response.headers)
        .summary(status: Int(response.status.code), bytes: received))
  }

  /// Returns the error for a response that is not the job's result. The response might be one of the API's own errors.
  private func noResult(
    _ response: HTTPClientResponse, _ type: MediaType, _ operation: String
  ) async throws -> APIError {
    let status = Int(response.status.code)
    guard !(200..<300).contains(status) else {
      var bytes = 0
      for try await buffer in response.body {
        bytes += buffer.readableBytes
        if bytes > Self.responseBytesMax { break }
      }
      return APIError(
        kind: .noResult, status: status, operation: operation,
        message: "the response is not a result: \(type.summary(status: status, bytes: bytes))")
    }
    return failure(
      response, body: try await self.body(of: response), endpoint: .download, operation: operation)
  }

  private func local<R>(_ path: FilePath, _ body: () throws -> R) throws -> R {
    try WorkFileError.explaining(.write, path, body)
  }
}
