/// The members of a job that a client can select with `compliance_job.fields`.
enum JobField: String, CodingKey, CaseIterable {
  case createdAt = "created_at"
  case downloadExpiresAt = "download_expires_at"
  case downloadURL = "download_url"
  case id
  case name
  case resumable
  case status
  case type
  case uploadExpiresAt = "upload_expires_at"
  case uploadURL = "upload_url"

  static let parameter = "compliance_job.fields"

  /// Returns the fields that the query selects; all fields by default.
  /// - Throws: a 400 problem for an unknown or repeated field or an empty list.
  static func selected(by query: QueryParameters) throws -> [JobField] {
    guard let list = query[parameter] else { return allCases }
    var fields: [JobField] = []
    for name in list.split(separator: ",", omittingEmptySubsequences: false) {
      guard let field = JobField(rawValue: String(name)) else {
        let choices = allCases.map(\.rawValue).joined(separator: ",")
        throw Problem.invalid(
          parameter, list,
          "The `\(parameter)` query parameter value [\(name)] is not one of [\(choices)]")
      }
      guard !fields.contains(field) else {
        throw Problem.invalid(
          parameter, list, "The `\(parameter)` query parameter has [\(name)] twice")
      }
      fields.append(field)
    }
    return fields
  }
}

/// The JSON of a job.
///
/// `name` is left out if the job has none. A client cannot select `error`, because a failed job
/// always has it.
struct JobBody: Encodable {
  let job: Job
  let fields: [JobField]
  let urls: JobURLs

  private enum ErrorKey: String, CodingKey {
    case error
  }

  func encode(to encoder: any Encoder) throws {
    var members = encoder.container(keyedBy: JobField.self)
    for field in fields {
      switch field {
      case .createdAt: try members.encode(job.createdAt, forKey: field)
      case .downloadExpiresAt: try members.encode(job.downloadExpiresAt, forKey: field)
      case .downloadURL: try members.encode(urls.url(to: .download, of: job), forKey: field)
      case .id: try members.encode(String(job.id), forKey: field)
      case .name: try members.encodeIfPresent(job.name, forKey: field)
      case .resumable: try members.encode(job.isResumable, forKey: field)
      case .status: try members.encode(job.status.rawValue, forKey: field)
      case .type: try members.encode(job.type.rawValue, forKey: field)
      case .uploadExpiresAt: try members.encode(job.uploadExpiresAt, forKey: field)
      case .uploadURL: try members.encode(urls.url(to: .upload, of: job), forKey: field)
      }
    }
    if let error = job.error {
      var members = encoder.container(keyedBy: ErrorKey.self)
      try members.encode(error, forKey: .error)
    }
  }
}

/// The response of the endpoints that create, show and cancel a job, and of the upload endpoint.
struct JobResponse: Encodable {
  let data: JobBody
}

/// The response of the list endpoint. An empty list has no `data`.
struct JobListResponse: Encodable {
  struct Meta: Encodable {
    let result_count: Int
  }

  let data: [JobBody]?
  let meta: Meta

  init(_ jobs: [JobBody]) {
    data = jobs.isEmpty ? nil : jobs
    meta = Meta(result_count: jobs.count)
  }
}
