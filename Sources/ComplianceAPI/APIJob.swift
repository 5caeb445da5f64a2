import Foundation
public import Vocabulary

/// A job as the API describes it. The API calls no field of it required, so only the ID is.
public struct APIJob: Sendable {
  public let id: String
  public let name: String?
  public let status: JobStatus
  public let type: JobType?
  public let createdAt: Timestamp?
  public let uploadURL: SignedURL?
  public let uploadExpiresAt: Timestamp?
  public let downloadURL: SignedURL?
  public let downloadExpiresAt: Timestamp?
  /// Appears on failed jobs. The API's own words, without secrets.
  public let error: String?
}

/// The JSON of `data`.
struct JobJSON: Decodable {
  var id: String
  var name: String?
  var status: String?
  var type: String?
  var created_at: String?
  var upload_url: String?
  var upload_expires_at: String?
  var download_url: String?
  var download_expires_at: String?
  var error: String?

  /// - Parameter secrets: to be taken out of what the API says.
  func job(hiding secrets: [String]) -> APIJob {
    func plain(_ text: String) -> String { text.withoutSecrets(secrets) }
    return APIJob(
      id: plain(id), name: name.map(plain), status: JobStatus(plain(status ?? "")),
      type: type.flatMap(JobType.init(rawValue:)),
      createdAt: created_at.flatMap { Timestamp($0) },
      uploadURL: upload_url.map(SignedURL.init),
      uploadExpiresAt: upload_expires_at.flatMap { Timestamp($0) },
      downloadURL: download_url.map(SignedURL.init),
      downloadExpiresAt: download_expires_at.flatMap { Timestamp($0) },
      error: error.map(plain))
  }
}

struct JobAnswer: Decodable {
  var data: JobJSON?
}

/// When there is no job, `data` is absent.
struct JobsAnswer: Decodable {
  struct Meta: Decodable {
    var result_count: Int?
  }
  var data: [JobJSON]?
  var meta: Meta?
}
