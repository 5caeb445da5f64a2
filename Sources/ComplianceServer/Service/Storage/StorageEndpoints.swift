internal import Checksums
internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// What the storage host of the gcs profile does: takes submissions, in one piece or in parts, and gives
/// results out.
struct StorageEndpoints: Sendable {
  let store: JobStore
  let sessions: UploadSessions
  let urls: StorageURLs
  let spool: Spool
  let processor: JobProcessor
  let uploadBytesMax: Int
  let baseURL: @Sendable () -> String

  /// All parts but the last are a multiple of it.
  private static let partUnitBytes = 256 * 1024

  // MARK: In one piece

  func upload(_ request: Request, _ id: Int64, _ exchange: Exchange) async throws -> Response {
    try urls.require(request, as: .put)
    // A part must not count as the whole (RFC 9110, section 14.5).
    guard request.headers[.contentRange] == nil else {
      throw StorageProblem(.invalidArgument, "Parts go to the URL of an upload session.")
    }
    guard request.announcesBody else { throw Self.withoutBody }
    guard let job = try await store.storedJob(id) else { throw Self.noSuchKey }
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
          "The checksum that came with the object is not the one of its bytes: \(hash.text).")
      }
      if job.status == .created,
        try await store.beginProcessing(id, submission: name, hash: hash) != nil
      {
        processor.wake()
        return Self.stored(hash, bytes: bytes)
      }
      await spool.remove(name)
      return try await answerToRepeated(id, hash, bytes: bytes)
    }
  }

  /// The answer to an upload may have been lost: the same bytes again are no mistake.
  private func answerToRepeated(
    _ id: Int64, _ hash: ObjectHash, bytes: Int64
  ) async throws -> Response {
    let job = try await store.storedJob(id)
    guard job?.submissionHash == hash.text else {
      throw StorageProblem(
        .accessDenied,
        "The job is \(job?.status.rawValue ?? "gone"): it takes one submission, while it is created."
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
      throw StorageProblem(.invalidArgument, "The begin of a resumable upload has no body.")
    }
    guard let job = try await store.storedJob(id) else { throw Self.noSuchKey }
    guard job.status == .created, job.isResumable else {
      throw StorageProblem(
        .accessDenied,
        "The job is \(job.status.rawValue): it takes one submission, while it is created.")
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
        // That there is no such session is the greater mistake.
        _ = try await openSession(session, of: id, alsoComplete: true)
        throw StorageProblem(.invalidArgument, "Failed to parse the Content-Range header.")
      }
      range = written
    } else {
      range = .part(first: 0, last: nil, total: nil)
    }
    if case .part = range, !request.announcesBody { throw Self.withoutBody }
    // Who only asks keeps no part from coming.
    if case .query(let total) = range {
      guard !sessions.isBusy(session) else { throw Self.anotherPart }
      let upload = try await openSession(session, of: id, alsoComplete: true)
      if upload.state == .open, total.map(Int64.init) != upload.storedBytes {
        return Self.incomplete(upload.storedBytes)
      }
    }
    return try await withTurn(of: session) {
      let upload = try await openSession(session, of: id, alsoComplete: true)
      if upload.state == .complete { return try await completed(id, upload) }
      return try await take(request, upload, session, range, exchange)
    }
  }

  func cancelSession(_ request: Request, _ id: Int64, session: String) async throws -> Response {
    try Self.requireNoHeaderAuthentication(request)
    return try await withTurn(of: session) {
      let upload = try await openSession(session, of: id, alsoComplete: false)
      try await sessions.cancelled(session)
      await spool.remove(upload.file)
      // What Google Cloud Storage answers to a cancel that succeeded.
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
          "The part begins at byte \(first), and only \(stored) bytes are stored. Ask with an empty PUT "
            + "and Content-Range: bytes */* where to go on.")
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
      // Only whole units are kept of a part that is not the last.
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
    // Before the job's step: what the session says of the whole is right whenever the server ends.
    try await sessions.stored(bytes, in: session)
    guard
      try await store.beginProcessing(upload.jobID, submission: upload.file, hash: hash) != nil
    else {
      throw StorageProblem(.accessDenied, "The job does not wait for its submission any more.")
    }
    // If the server ends here, the job has its submission, and the session is closed with the job.
    try await sessions.completed(session)
    processor.wake()
    return Self.stored(hash, bytes: bytes)
  }

  private func completed(_ id: Int64, _ upload: UploadSession) async throws -> Response {
    guard let hash = try await store.storedJob(id)?.submissionHash.flatMap(ObjectHash.init) else {
      throw Self.noSuchUpload
    }
    return Self.stored(hash, bytes: upload.storedBytes)
  }

  private static func incomplete(_ stored: Int64) -> Response {
    Response(
      status: .init(code: 308, reasonPhrase: "Resume Incomplete"),
      headers: stored > 0 ? [.range: "bytes=0-\(stored - 1)"] : [:])
  }

  /// - Throws: 404 for a session that never was; 410 for one that is over.
  private func openSession(
    _ session: String, of id: Int64, alsoComplete: Bool
  ) async throws -> UploadSession {
    guard let upload = try await sessions.session(session, of: id) else { throw Self.noSuchUpload }
    switch upload.state {
    case .complete where alsoComplete: return upload
    case .open:
      guard let job = try await store.storedJob(id) else { throw Self.noSuchUpload }
      if job.status == .created { return upload }
      // The server was killed between the job's step and the session's.
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

  private func withTurn<R>(of session: String, _ body: () async throws -> R) async throws -> R {
    guard let value = try await sessions.withTurn(of: session, body) else { throw Self.anotherPart }
    return value
  }

  // MARK: Results

  func download(_ request: Request, _ id: Int64, _ exchange: Exchange) async throws -> Response {
    try urls.require(request, as: .get)
    guard let job = try await store.storedJob(id), job.status == .complete,
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
    .missingContentLength, "The upload has no body. It takes the IDs, a line each.")
  private static let anotherPart = StorageProblem(
    .serviceUnavailable, "Another part of this upload is coming.")
  private static let noSuchKey = StorageProblem(.noSuchKey, "The specified key does not exist.")
  private static let noSuchUpload = StorageProblem(
    .noSuchUpload, "The upload session does not exist. Begin a new one.")

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
