import Foundation
public import Vocabulary

/// A job as the API describes it. The API marks no field as required. Lethe requires only the ID.
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
  /// The API's error text for a failed job, without secrets.
  public let error: String?

  /// The host of the job's upload URL. Nil without a URL.
  public var uploadHost: String? {
    uploadURL.flatMap { Origin($0.exposed) }?.host.withoutSecrets()
  }

  /// Whether the ID has the format of the API's IDs, which the ledger requires.
  var hasUsableID: Bool {
    (1...19).contains(id.utf8.count) && id.utf8.allSatisfy { $0 &- 0x30 < 10 }
  }
}

/// The JSON of `data`. A field of an unexpected type is ignored, so that the job can still be read. The ID can be a
/// JSON number.
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

  private enum CodingKeys: CodingKey {
    case id, name, status, type, created_at, upload_url, upload_expires_at, download_url
    case download_expires_at, error
  }

  /// - Throws: what `JSONDecoder` throws if there is no ID.
  init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    func text(_ key: CodingKeys) -> String? { try? container.decode(String.self, forKey: key) }
    // A 64-bit integer keeps all digits. A double would lose some.
    id = try text(.id) ?? "\(container.decode(UInt64.self, forKey: .id))"
    (name, status, type) = (text(.name), text(.status), text(.type))
    (created_at, upload_url) = (text(.created_at), text(.upload_url))
    (upload_expires_at, download_url) = (text(.upload_expires_at), text(.download_url))
    download_expires_at = text(.download_expires_at)
    error = text(.error) ?? (try? container.decode(ErrorObject.self, forKey: .error))?.text
  }

  private struct ErrorObject: Decodable {
    var message: String?
    var detail: String?
    var title: String?
    var text: String { message ?? detail ?? title ?? "an error without text" }
  }

  /// - Parameter secrets: removed from the API's texts.
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

struct JobResponse: Decodable {
  var data: JobJSON?
}

/// A list of jobs. If there is no job, `data` is absent.
struct JobsResponse: Decodable {
  struct Meta: Decodable {
    var result_count: Int?
  }
  var data: [Lenient<JobJSON>]?
  var meta: Meta?
}
