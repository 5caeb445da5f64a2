import Vocabulary

/// Whether jobs are created for uploads in parts: what the definition says, or what the API shows.
actor ProfileInUse {
  private let profile: UploadProfile
  /// An upload URL was of another host than the API's.
  private var isStorageHostSeen = false
  /// The API has refused such a job: it is not asked for one again.
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

  /// The API takes no such jobs.
  /// - Returns: whether the same is to be asked for without parts.
  func refused() -> Bool {
    isRefused = true
    return profile == .auto
  }
}
