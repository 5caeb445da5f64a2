public import Vocabulary

/// One result line that can be applied.
public struct Event: Sendable, Equatable {
  public let id: Int64
  public let reason: Reason
  public let createdAt: Timestamp?
  public let redactedAt: Timestamp?

  public init(id: Int64, reason: Reason, createdAt: Timestamp?, redactedAt: Timestamp?) {
    self.id = id
    self.reason = reason
    self.createdAt = createdAt
    self.redactedAt = redactedAt
  }
}

/// The content of one line of a result.
public enum ScannedLine: Sendable, Equatable {
  case event(Event)
  /// A line that is empty or only white space. The API joins results from shards, with empty lines between them.
  case blank
  /// A line for the quarantine, with the cause and, if it can be read, the ID.
  case refused(String, id: Int64?)
  /// The API's error about a line of the upload. It contains the API's text. The API quotes the line as `id`. The ID is
  /// nil unless the quoted line is written exactly like an ID in a chunk's file.
  case error(String, id: Int64?)
}
