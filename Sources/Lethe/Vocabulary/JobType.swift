/// The kind of IDs in a dataset, a chunk or a job. Posts and users are never mixed.
///
/// Source: X API v2, "Create Compliance Job", `type`.
public enum JobType: String, Sendable, Hashable, Codable, CaseIterable {
  case tweets
  case users
}
