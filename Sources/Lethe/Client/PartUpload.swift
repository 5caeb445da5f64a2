import AsyncHTTPClient
import CrashPoints
import Foundation
import Logging
import NIOCore
import NIOHTTP1
import SystemPackage
import Vocabulary
import _NIOFileSystem

/// A resumable upload to a storage host. After an interruption it continues after the bytes that the host has stored.
/// The session's URL is a credential and is never stored, so another process starts a session of its own.
///
/// Source: Google Cloud Storage's resumable uploads (XML API).
///
/// - A POST begins a session. `Location` contains the session's URL.
/// - The size of each part except the last is a multiple of 256 KiB.
/// - 308 with `Range: bytes=0-N` means that N + 1 bytes are stored. 308 without `Range` means that no bytes are stored.
struct PartUpload {
  /// A host can lose a session and the stored bytes. After this number of sessions the upload fails.
  private static let sessionsMax = 3

  let client: ComplianceClient
  let file: ReadFileHandle
  let path: FilePath
  let bytes: Int
  let url: SignedURL
  let operation: String

  /// 256 KiB. The size of each part except the last is a multiple of this. A host stores at least this much of a part.
  private static let unitBytes = 1 << 18
  /// If the host reports this many times that it has stored all bytes, but does not complete the upload, the upload
  /// fails.
  private static let fullReportsMax = 5

  private enum SessionState {
    case stored(Int)
    case complete(HTTPClientResponse)
  }

  /// Uploads the file.
  /// - Returns: the response that confirms the stored bytes.
  func run() async throws -> HTTPClientResponse {
    for tries in 1... {
      let session = try await CrashStep.sessionCall.around { try await begin() }
      do {
        return try await send(to: session)
      } catch let error as APIError
        where error.isLostSession && tries < Self.sessionsMax
      {
        client.logger.notice("\(operation): the upload session is lost, starting a new session")
      }
    }
    preconditionFailure("the loop above ends only by returning or throwing")
  }

  private func begin() async throws -> SignedURL {
    try await client.repeated(.session, operation: operation, isRepeatable: true) {
      var request = client.request(.POST, url, isOwnOrigin: false)
      request.headers.add(name: "Content-Type", value: "text/plain")
      request.headers.add(name: "x-goog-resumable", value: "start")
      request.headers.add(name: "Content-Length", value: "0")
      let response = try await client.response(
        to: request, of: .session, seconds: client.transport.settings.answerSeconds, operation)
      guard let location = response.headers.first(name: "location") else {
        throw APIError(
          kind: .urlRefused, status: Int(response.status.code), operation: operation,
          message: "the storage host did not return the URL of an upload session")
      }
      let session = SignedURL(location)
      _ = try client.checkedOrigin(of: session, operation)
      return session
    }
  }

  /// Sends the file in a new session.
  private func send(to session: SignedURL) async throws -> HTTPClientResponse {
    let end = ContinuousClock.now + .seconds(min(client.transport.settings.transferSeconds, 1e8))
    // `offset`: how many bytes the host has stored. `sent`: how many bytes were sent in this session. `isKnown`:
    // whether the host has confirmed `offset`.
    var (offset, sent, isKnown) = (0, 0, true)
    var partBytes = client.transport.settings.partBytes
    var fullReports = 0
    while true {
      guard ContinuousClock.now < end else {
        throw APIError(
          kind: .temporary, operation: operation,
          message: "the upload did not finish within \(client.transport.settings.transferSeconds) s"
        )
      }
      let from = offset
      do {
        let sessionState = try await client.repeated(
          .part, operation: operation, isRepeatable: true
        ) {
          () -> SessionState in
          if !isKnown || offset == bytes {
            switch try await queryState(session) {
            case .stored(let stored): offset = try confirmedOffset(stored, from: from, sent: sent)
            case .complete(let response): return SessionState.complete(response)
            }
            isKnown = true
            // All bytes are stored, and a part must not be empty.
            if offset == bytes { return .stored(offset) }
          }
          isKnown = false
          sent = max(sent, min(offset + partBytes, bytes))
          return try await CrashStep.partCall.around {
            try await sendPart(offset..<min(offset + partBytes, bytes), to: session)
          }
        }
        switch sessionState {
        case .complete(let response): return response
        case .stored(let stored): offset = try confirmedOffset(stored, from: from, sent: sent)
        }
        isKnown = true
        guard offset == bytes else { continue }
        fullReports += 1
        guard fullReports < Self.fullReportsMax else {
          throw APIError(
            kind: .unconfirmed, status: 308, operation: operation,
            message: "the storage host has all \(bytes) bytes, but does not complete the upload")
        }
        try await Task.sleep(for: .seconds(client.retryDelaySeconds(after: fullReports)))
      } catch let error as APIError where error.kind == .tooLarge && partBytes > Self.unitBytes {
        // A proxy might refuse a part of this size. Try smaller parts.
        partBytes = max(Self.unitBytes, partBytes / 2 / Self.unitBytes * Self.unitBytes)
        isKnown = false
      }
    }
  }

  /// Checks the number of stored bytes that the host reports, and returns it.
  /// - Parameters:
  ///   - from: the number of bytes that were stored before.
  ///   - sent: the number of bytes that were sent in this session.
  private func confirmedOffset(_ stored: Int, from: Int, sent: Int) throws -> Int {
    guard stored <= sent else {
      throw APIError(
        kind: .unconfirmed, status: 308, operation: operation,
        message: "the storage host reports \(stored) stored bytes, but only \(sent) bytes were sent"
      )
    }
    // A host that loses bytes might lose them again and again. This error starts a new session, and the number of
    // sessions is limited.
    guard stored >= from else {
      throw APIError(
        kind: .urlRefused, status: 410, operation: operation,
        message: "the storage host has lost bytes: it had \(from) and now has \(stored)")
    }
    return stored
  }

  private func sendPart(
    _ range: Range<Int>, to session: SignedURL
  ) async throws -> SessionState {
    let (offset, end) = (range.lowerBound, range.upperBound)
    var request = client.request(.PUT, session, isOwnOrigin: false)
    request.headers.add(name: "Content-Range", value: "bytes \(offset)-\(end - 1)/\(bytes)")
    let progress = SendingProgress()
    request.body = .stream(
      FileBlocks(
        file: file, path: path, from: offset, through: end, progress: progress, call: .partCall),
      length: .known(Int64(end - offset)))
    let response = try await client.response(
      to: request, of: .part, seconds: client.transport.settings.transferSeconds, operation,
      progress: progress)
    let sessionState = try self.sessionState(response)
    // Without this check, the upload to a host that stores less than one unit of each part would never end.
    if case .stored(let stored) = sessionState, stored < min(end, offset + Self.unitBytes) {
      throw APIError(
        kind: .temporary, status: Int(response.status.code), operation: operation,
        message:
          "the storage host has only \(stored) bytes after bytes \(offset) to \(end) were sent")
    }
    return sessionState
  }

  private func queryState(_ session: SignedURL) async throws -> SessionState {
    var request = client.request(.PUT, session, isOwnOrigin: false)
    request.headers.add(name: "Content-Range", value: "bytes */\(bytes)")
    request.headers.add(name: "Content-Length", value: "0")
    let response = try await CrashStep.stateCall.around {
      try await client.response(
        to: request, of: .part, seconds: client.transport.settings.answerSeconds, operation)
    }
    return try sessionState(response)
  }

  private func sessionState(_ response: HTTPClientResponse) throws -> SessionState {
    guard response.status.code == 308 else { return .complete(response) }
    guard let range = response.headers.first(name: "range") else { return .stored(0) }
    guard let last = range.wholeMatch(of: /\s*bytes=0-([0-9]{1,18})\s*/).flatMap({ Int($0.1) }),
      last < bytes
    else {
      throw APIError(
        kind: .unconfirmed, status: 308, operation: operation,
        message: "the storage host does not report how many of the \(bytes) bytes it has stored")
    }
    return .stored(last + 1)
  }
}

extension APIError {
  fileprivate var isLostSession: Bool { status == 404 || status == 410 }
}

extension SignedURL {
  /// Whether the URL is signed for the start of a session, and not for the upload itself; nil if the URL does not show
  /// this.
  var isForSession: Bool? {
    let query = URLComponents(string: exposed)?.queryItems ?? []
    guard
      let signed = query.first(where: { $0.name.lowercased() == "x-goog-signedheaders" })?.value
    else { return nil }
    return signed.lowercased().split(separator: ";").contains("x-goog-resumable")
  }
}
