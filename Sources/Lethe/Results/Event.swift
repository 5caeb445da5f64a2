public import Vocabulary

/// One result line that can be acted on.
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

/// What one line of a result says.
public enum ScannedLine: Sendable, Equatable {
  case event(Event)
  /// Nothing: real result files are put together from shards, with empty lines between.
  case blank
  /// Not to be acted on; why, for the quarantine, and the ID if the line has a readable one.
  case refused(String, id: Int64?)
  /// The API's own complaint about a line of the upload, which it quotes as its `id`; in its words, and the
  /// ID if the quote is one as a chunk's file writes it.
  case error(String, id: Int64?)
}
