import Vocabulary

/// Decides whether jobs are created for uploads in parts. The profile in the definition decides this. With the profile
/// `auto`, the API's responses decide.
actor ProfileInUse {
  private let profile: UploadProfile
  /// Whether the last upload URL had another origin than the API.
  private var isStorageHostSeen = false
  /// Whether the API has refused to create a job for an upload in parts. With `auto`, no further request asks for it.
  private var isRefused = false

  init(_ profile: UploadProfile) {
    self.profile = profile
  }

  var asksForParts: Bool {
    switch profile {
    case .auto: isStorageHostSeen && !isRefused
    case .native: false
    case .gcs: true
    }
  }

  func seen(isStorageHost: Bool) {
    isStorageHostSeen = isStorageHost
  }

  /// Records that the API refuses jobs for uploads in parts.
  /// - Returns: whether to create the job again without parts.
  func refused() -> Bool {
    isRefused = true
    return profile == .auto
  }
}
