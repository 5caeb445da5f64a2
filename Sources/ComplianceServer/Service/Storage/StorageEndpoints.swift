internal import Checksums
internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// The endpoints of the gcs profile's storage host: uploads, in one piece or in parts, and downloads.
struct StorageEndpoints: Sendable {
  let store: JobStore
  let sessions: UploadSessions
  let urls: StorageURLs
  let spool: Spool
  let processor: JobProcessor
  let uploadBytesMax: Int
  let baseURL: @Sendable () -> String

  /// The length of each part except the last is a multiple of this.
  private static let partUnitBytes = 256 * 1024

  // MARK: In one piece

  func upload(_ request: Request, _ id: Int64, _ exchange: Exchange) async throws -> Response {
    try urls.require(request, as: .put)
    // Without this check, a part of an upload would be stored as the complete upload (RFC 9110, section 14.5).
    guard request.headers[.contentRange] == nil else {
      throw StorageProblem(.invalidArgument, "Send parts to the URL of an upload session.")
    }
    guard request.announcesBody else { throw Self.withoutBody }
    guard let job = try await store.storageJob(id) else { throw Self.noSuchKey }
    let bytesExpected = request.headers[.contentLength].flatMap { Int($0) }
    guard bytesExpected ?? 0 <= uploadBytesMax else { throw tooLarge }
    return try await spool.withNewName(of: id, .submission) { name in
      let bytes = try await spool.storeUpload(
        request.body, as: name, bytesExpected: bytesExpected, bytesMax: uploadBytesMax,
        exchange: exchange)
      let hash = try ObjectHash(of: spool.path(name))
      guard Self.claims(of: request).allSatisfy(hash.agrees(withClaim:)) else {
        await spool.remove(name)
        throw StorageProblem(
          .badDigest,
          "The checksum in the request does not match the bytes of the object: \(hash.text).")
      }
      if job.status == .created,
        try await store.beginProcessing(id, submission: name, hash: hash) != nil
      {
        processor.wake()
        return Self.stored(hash, bytes: bytes)
      }
      await spool.remove(name)
      return try await responseToRepeated(id, hash, bytes: bytes)
    }
  }

  /// Returns the response to a repeated upload. A client repeats an upload if the first response was lost.
  /// The same bytes get the same response.
  private func responseToRepeated(
    _ id: Int64, _ hash: ObjectHash, bytes: Int64
  ) async throws -> Response {
    let job = try await store.storageJob(id)
    guard job?.submissionHash == hash.text else {
      throw StorageProblem(
        .accessDenied,
        "The job is \(job?.status.rawValue ?? "gone"). A job accepts a submission only in the status created."
      )
    }
    return Self.stored(hash, bytes: bytes)
  }

  private static func claims(of request: Request) -> [String] {
    var claims = request.headers[values: .googHash]
    if let md5 = request.headers[.contentMD5] { claims.append("md5=\(md5)") }
    return claims
  }

  private static func stored(_ hash: ObjectHash, bytes: Int64) -> Response {
    Response(status: .ok, headers: objectHeaders(hash, bytes: bytes))
  }

  private static func objectHeaders(_ hash: ObjectHash, bytes: Int64) -> HTTPFields {
    var headers: HTTPFields = [
      .eTag: hash.entityTag, .storedContentLength: "\(bytes)", .storedContentEncoding: "identity",
    ]
    for part in hash.parts { headers.append(HTTPField(name: .googHash, value: part)) }
    return headers
  }

  // MARK: In parts

  func beginSession(_ request: Request, _ id: Int64, _ exchange: Exchange) async throws -> Response
  {
    try urls.require(request, as: .post)
    guard request.headers[.contentLength] ?? "0" == "0" else {
      throw StorageProblem(
        .invalidArgument, "The request that starts a resumable upload must have no body.")
    }
    guard let job = try await store.storageJob(id) else { throw Self.noSuchKey }
    guard job.status == .created, job.isResumable else {
      throw StorageProblem(
        .accessDenied,
        "The job is \(job.status.rawValue). A job accepts a submission only in the status created.")
    }
    let number = String(UInt64.random(in: .min ... .max), radix: 36)
    let session = try await sessions.begin(
      id, file: "\(id)-\(number).\(Spool.Kind.submission.rawValue)")
    let location = "\(baseURL())\(StorageURLs.path(.upload, of: id))?upload_id=\(session)"
    return Response(status: .created, headers: [.location: location, .uploaderID: session])
  }

  func part(
    _ request: Request, _ id: Int64, session: String, _ exchange: Exchange
  ) async throws -> Response {
    try Self.requireNoHeaderAuthentication(request)
    let range: ContentRange
    if let text = request.headers[.contentRange] {
      guard let written = ContentRange(text) else {
        // An unknown session takes precedence over a malformed header.
        _ = try await openSession(session, of: id, alsoComplete: true)
        throw StorageProblem(.invalidArgument, "Failed to parse the Content-Range header.")
      }
      range = written
    } else {
      range = .part(first: 0, last: nil, total: nil)
    }
    if case .part = range, !request.announcesBody { throw Self.withoutBody }
    // A query locks the session only if all bytes are stored, because the lock could block the upload of a part.
    if case .query(let total) = range {
      guard !sessions.isReceiving(session) else { throw Self.anotherPart }
      let upload = try await openSession(session, of: id, alsoComplete: true)
      if upload.state == .open, total.map(Int64.init) != upload.storedBytes {
        return Self.incomplete(upload.storedBytes)
      }
    }
    return try await withExclusiveUse(of: session) {
      let upload = try await openSession(session, of: id, alsoComplete: true)
      if upload.state == .complete { return try await completed(id, upload) }
      return try await take(request, upload, session, range, exchange)
    }
  }

  func cancelSession(_ request: Request, _ id: Int64, session: String) async throws -> Response {
    try Self.requireNoHeaderAuthentication(request)
    return try await withExclusiveUse(of: session) {
      let upload = try await openSession(session, of: id, alsoComplete: false)
      try await sessions.cancelled(session)
      await spool.remove(upload.file)
      // Google Cloud Storage returns 499 for a successful cancellation.
      return Response(status: .init(code: 499, reasonPhrase: "Client Closed Request"))
    }
  }

  private func take(
    _ request: Request, _ upload: UploadSession, _ session: String, _ range: ContentRange,
    _ exchange: Exchange
  ) async throws -> Response {
    let stored = upload.storedBytes
    switch range {
    case .query(let total):
      return total.map(Int64.init) == stored
        ? try await complete(upload, session, bytes: exchange.stored(stored))
        : Self.incomplete(stored)
    case .part(let first, let last, let total):
      if let length = request.headers[.contentLength].flatMap({ Int($0) }), let last,
        length != last - first + 1
      {
        throw StorageProblem(.invalidArgument, "Content-Length is not the length of Content-Range.")
      }
      guard first <= stored else {
        throw StorageProblem(
          .invalidArgument,
          "The part begins at byte \(first), but only \(stored) bytes are stored. Send an empty PUT "
            + "with Content-Range: bytes */* to find out where to continue.")
      }
      guard total.map({ $0 >= max(first, Int(stored)) }) ?? true else {
        throw StorageProblem(
          .invalidArgument,
          "The total of Content-Range is smaller than the part's first byte or the stored bytes.")
      }
      let end = last.map { $0 + 1 } ?? total
      guard max(end ?? 0, total ?? 0) <= uploadBytesMax else { throw tooLarge }
      let (received, isWhole) = try await spool.storePart(
        request.body, to: upload.file, after: stored, skipping: Int(stored) - first,
        bytesMax: (end ?? uploadBytesMax) - first, exchange: exchange)
      let isLast = isWhole && (total.map { received == Int64($0) } ?? (last == nil))
      if isLast {
        return try await complete(upload, session, bytes: exchange.stored(received))
      }
      // If the part is not the last one, only complete units of `partUnitBytes` are kept.
      let kept = max(stored, received - received % Int64(Self.partUnitBytes))
      try await sessions.stored(kept, in: session)
      return Self.incomplete(kept)
    }
  }

  private func complete(
    _ upload: UploadSession, _ session: String, bytes: Int64
  ) async throws -> Response {
    try await spool.truncate(upload.file, to: bytes)
    let hash = try ObjectHash(of: spool.path(upload.file))
    // The session is updated before the job. So the session's length is correct after a crash at any point.
    try await sessions.stored(bytes, in: session)
    guard
      try await store.beginProcessing(upload.jobID, submission: upload.file, hash: hash) != nil
    else {
      throw StorageProblem(.accessDenied, "The job no longer waits for its submission.")
    }
    // If the server crashes here, the job has its submission, and `openSession` completes the session later.
    try await sessions.completed(session)
    processor.wake()
    return Self.stored(hash, bytes: bytes)
  }

  private func completed(_ id: Int64, _ upload: UploadSession) async throws -> Response {
    guard let hash = try await store.storageJob(id)?.submissionHash.flatMap(ObjectHash.init) else {
      throw Self.noSuchUpload
    }
    return Self.stored(hash, bytes: upload.storedBytes)
  }

  private static func incomplete(_ stored: Int64) -> Response {
    Response(
      status: .init(code: 308, reasonPhrase: "Resume Incomplete"),
      headers: stored > 0 ? [.range: "bytes=0-\(stored - 1)"] : [:])
  }

  /// Returns a session that can still be used.
  /// - Parameter alsoComplete: whether a complete session is returned, too.
  /// - Throws: a 404 problem for an unknown session; 410 if the session has ended, or if its job no longer waits for an
  ///   upload.
  private func openSession(
    _ session: String, of id: Int64, alsoComplete: Bool
  ) async throws -> UploadSession {
    guard let upload = try await sessions.session(session, of: id) else { throw Self.noSuchUpload }
    switch upload.state {
    case .complete where alsoComplete: return upload
    case .open:
      guard let job = try await store.storageJob(id) else { throw Self.noSuchUpload }
      if job.status == .created { return upload }
      // The job was updated, but the session was not, for example because the server crashed in between.
      if job.submissionFile == upload.file, alsoComplete {
        try await sessions.completed(session)
        return UploadSession(
          jobID: id, file: upload.file, storedBytes: upload.storedBytes, state: .complete)
      }
      throw StorageProblem(.sessionGone, "The job is \(job.status.rawValue).")
    case .complete, .cancelled, .expired:
      throw StorageProblem(.sessionGone, "The upload session is \(upload.state.rawValue).")
    }
  }

  private func withExclusiveUse<R>(of session: String, _ body: () async throws -> R) async throws
    -> R
  {
    guard let value = try await sessions.withExclusiveUse(of: session, body) else {
      throw Self.anotherPart
    }
    return value
  }

  // MARK: Results

  func download(_ request: Request, _ id: Int64, _ exchange: Exchange) async throws -> Response {
    try urls.require(request, as: .get)
    guard let job = try await store.storageJob(id), job.status == .complete,
      let hash = job.resultHash.flatMap(ObjectHash.init)
    else { throw Self.noSuchKey }
    return try await spool.download(
      of: job, entityTag: hash.entityTag,
      headers: Self.objectHeaders(hash, bytes: job.resultBytes ?? 0)
    ).response(to: request)
  }

  private static func requireNoHeaderAuthentication(_ request: Request) throws {
    guard request.headers[.authorization] == nil else {
      throw StorageProblem(.invalidArgument, "The session's URL is the only credential.")
    }
  }

  private static let withoutBody = StorageProblem(
    .missingContentLength, "The upload has no body. Send the IDs, one on each line.")
  private static let anotherPart = StorageProblem(
    .serviceUnavailable, "Another part of this upload is being received.")
  private static let noSuchKey = StorageProblem(.noSuchKey, "The specified key does not exist.")
  private static let noSuchUpload = StorageProblem(
    .noSuchUpload, "The upload session does not exist. Start a new one.")

  private var tooLarge: StorageProblem {
    StorageProblem(.entityTooLarge, "The object is larger than \(uploadBytesMax) bytes.")
  }
}

extension HTTPField.Name {
  static let googHash = Self("x-goog-hash")!
  static let storedContentLength = Self("x-goog-stored-content-length")!
  static let storedContentEncoding = Self("x-goog-stored-content-encoding")!
  static let uploaderID = Self("x-guploader-uploadid")!
  static let contentMD5 = Self("content-md5")!
}
