import AsyncHTTPClient
import Foundation
import Logging
import NIOCore
import NIOHTTP1
import Vocabulary
import _NIOFileSystem

/// A resumable upload to a storage host. After a break it continues at the byte that the host names.
///
/// Source: Google Cloud Storage's resumable uploads (XML API): a POST begins a session, whose URL is in `Location`; parts
/// are whole multiples of 256 KiB but for the last; 308 with `Range: bytes=0-N` means that N + 1 bytes are stored, and
/// without `Range` that none are.
struct PartUpload {
  /// A host can lose a session and the bytes that it has stored. After this number of sessions the upload fails.
  private static let sessionsMax = 3

  let client: ComplianceClient
  let file: ReadFileHandle
  let bytes: Int
  let url: SignedURL
  let operation: String

  /// 256 KiB. The size of each part but the last is a multiple of it, and a host stores at least this much of a part.
  private static let unitBytes = 1 << 18
  /// How often a host may answer that it has all bytes without completing the upload.
  private static let endingsMax = 5

  private enum SessionState {
    case stored(Int)
    case complete(HTTPClientResponse)
  }

  /// - Returns: the answer that tells what the host has stored.
  func run() async throws -> HTTPClientResponse {
    for tries in 1... {
      let session = try await begin()
      do {
        return try await send(to: session)
      } catch let error as APIError
        where error.isLostSession && tries < Self.sessionsMax
      {
        client.logger.notice("\(operation): the upload session is lost; begun anew")
      }
    }
    preconditionFailure("the loop above only ends by returning or throwing")
  }

  private func begin() async throws -> SignedURL {
    try await client.repeated(.session, operation: operation, isRepeatable: true) {
      var request = client.request(.POST, url, isOwnOrigin: false)
      request.headers.add(name: "Content-Type", value: "text/plain")
      request.headers.add(name: "x-goog-resumable", value: "start")
      request.headers.add(name: "Content-Length", value: "0")
      let response = try await client.answer(
        to: request, of: .session, seconds: client.transport.settings.answerSeconds, operation)
      guard let location = response.headers.first(name: "location") else {
        throw APIError(
          kind: .urlRefused, status: Int(response.status.code), operation: operation,
          message: "the storage host names no session")
      }
      let session = SignedURL(location)
      _ = try client.checkedOrigin(of: session, operation)
      return session
    }
  }

  private func send(to session: SignedURL) async throws -> HTTPClientResponse {
    let end = ContinuousClock.now + .seconds(min(client.transport.settings.transferSeconds, 1e8))
    // How many bytes the host has stored, how many were sent, and whether the host has confirmed the first number.
    var (offset, sent, isKnown) = (0, 0, true)
    var partBytes = client.transport.settings.partBytes
    var endings = 0
    while true {
      guard ContinuousClock.now < end else {
        throw APIError(
          kind: .temporary, operation: operation,
          message: "the upload was not over after \(client.transport.settings.transferSeconds) s")
      }
      let from = offset
      do {
        let sessionState = try await client.repeated(
          .part, operation: operation, isRepeatable: true
        ) {
          () -> SessionState in
          if !isKnown || offset == bytes {
            switch try await ask(session) {
            case .stored(let stored): offset = try believed(stored, from: from, sent: sent)
            case .complete(let response): return SessionState.complete(response)
            }
            isKnown = true
            // All bytes are stored, and a part must not be empty.
            if offset == bytes { return .stored(offset) }
          }
          isKnown = false
          sent = max(sent, min(offset + partBytes, bytes))
          return try await sendPart(offset..<min(offset + partBytes, bytes), to: session)
        }
        switch sessionState {
        case .complete(let response): return response
        case .stored(let stored): offset = try believed(stored, from: from, sent: sent)
        }
        isKnown = true
        guard offset == bytes else { continue }
        endings += 1
        guard endings < Self.endingsMax else {
          throw APIError(
            kind: .unproven, status: 308, operation: operation,
            message: "the storage host has all of the \(bytes) bytes and does not end the upload")
        }
        try await Task.sleep(for: .seconds(client.retryDelaySeconds(after: endings)))
      } catch let error as APIError where error.kind == .tooLarge && partBytes > Self.unitBytes {
        // A proxy between may refuse a part of this size.
        partBytes = max(Self.unitBytes, partBytes / 2 / Self.unitBytes * Self.unitBytes)
        isKnown = false
      }
    }
  }

  /// - Parameters:
  ///   - from: the number of bytes that were stored before.
  ///   - sent: the number of bytes that were sent in this session.
  private func believed(_ stored: Int, from: Int, sent: Int) throws -> Int {
    guard stored <= sent else {
      throw APIError(
        kind: .unproven, status: 308, operation: operation,
        message: "the storage host says that it has \(stored) bytes, and was sent \(sent)")
    }
    // What it has lost it may lose again, and for ever: a new session, of which there are few.
    guard stored >= from else {
      throw APIError(
        kind: .urlRefused, status: 410, operation: operation,
        message: "the storage host had \(from) bytes and has \(stored)")
    }
    return stored
  }

  private func sendPart(
    _ range: Range<Int>, to session: SignedURL
  ) async throws -> SessionState {
    let (offset, end) = (range.lowerBound, range.upperBound)
    var request = client.request(.PUT, session, isOwnOrigin: false)
    request.headers.add(name: "Content-Range", value: "bytes \(offset)-\(end - 1)/\(bytes)")
    request.body = .stream(
      FileBlocks(file: file, from: offset, through: end), length: .known(Int64(end - offset)))
    let response = try await client.answer(
      to: request, of: .part, seconds: client.transport.settings.transferSeconds, operation)
    let sessionState = try self.sessionState(response)
    // A host that stores less than one unit of a part would keep the upload running without an end.
    if case .stored(let stored) = sessionState, stored < min(end, offset + Self.unitBytes) {
      throw APIError(
        kind: .temporary, status: Int(response.status.code), operation: operation,
        message: "the storage host stands at byte \(stored) after bytes \(offset) to \(end)")
    }
    return sessionState
  }

  private func ask(_ session: SignedURL) async throws -> SessionState {
    var request = client.request(.PUT, session, isOwnOrigin: false)
    request.headers.add(name: "Content-Range", value: "bytes */\(bytes)")
    request.headers.add(name: "Content-Length", value: "0")
    return try sessionState(
      try await client.answer(
        to: request, of: .part, seconds: client.transport.settings.answerSeconds, operation))
  }

  private func sessionState(_ response: HTTPClientResponse) throws -> SessionState {
    guard response.status.code == 308 else { return .complete(response) }
    guard let range = response.headers.first(name: "range") else { return .stored(0) }
    guard let last = range.wholeMatch(of: /\s*bytes=0-([0-9]{1,18})\s*/).flatMap({ Int($0.1) }),
      last < bytes
    else {
      throw APIError(
        kind: .unproven, status: 308, operation: operation,
        message: "the storage host does not say how much it has stored of the \(bytes) bytes")
    }
    return .stored(last + 1)
  }
}

extension APIError {
  fileprivate var isLostSession: Bool { status == 404 || status == 410 }
}

extension SignedURL {
  /// Whether the URL was signed for starting a session, and not for the upload itself; nil if the URL does not
  /// show it.
  var isForSession: Bool? {
    let query = URLComponents(string: exposed)?.queryItems ?? []
    guard
      let signed = query.first(where: { $0.name.lowercased() == "x-goog-signedheaders" })?.value
    else { return nil }
    return signed.lowercased().split(separator: ";").contains("x-goog-resumable")
  }
}
