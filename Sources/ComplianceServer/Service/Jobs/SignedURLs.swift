internal import Checksums

/// The upload and download URLs of a job, and the tokens that make them valid.
///
/// A token is an HMAC of the job, the operation and the time of expiry. It is valid only for that job and operation,
/// until that time. The key is stored. The tokens are not stored.
struct SignedURLs: Sendable {
  enum Operation: String {
    case upload
    case download
  }

  private let key: HMACSHA256
  private let baseURL: @Sendable () -> String

  /// - Parameter baseURL: called for each URL, because a port that the system chooses is known only after the server
  ///   listens.
  init(key: [UInt8], baseURL: @escaping @Sendable () -> String) {
    self.key = HMACSHA256(key: key)
    self.baseURL = baseURL
  }

  func url(to operation: Operation, of job: Job) -> String {
    let token = key.code(for: Self.message(operation, job)).hexString
    return "\(baseURL())/2/compliance/jobs/\(job.id)/\(operation.rawValue)?token=\(token)"
  }

  /// Checks a token.
  /// - Throws: a 403 problem if the token is forged, has expired, or is for another job or operation.
  func require(_ token: String, for operation: Operation, of job: Job) throws {
    let expected = Array(key.code(for: Self.message(operation, job)).hexString.utf8)
    guard constantTimeEqual(Array(token.utf8), expected) else {
      throw Problem.forbidden(
        job.id, "The token does not permit the \(operation.rawValue) of this job.")
    }
    let isOpen =
      switch operation {
      case .upload: job.uploadIsOpen
      case .download: job.downloadIsOpen
      }
    guard isOpen else {
      throw Problem.forbidden(job.id, "The token of this job's \(operation.rawValue) has expired.")
    }
  }

  private static func message(_ operation: Operation, _ job: Job) -> [UInt8] {
    let expiry =
      switch operation {
      case .upload: job.uploadExpiresAt
      case .download: job.downloadExpiresAt
      }
    return Array("\(operation.rawValue) \(job.id) \(expiry)".utf8)
  }
}
