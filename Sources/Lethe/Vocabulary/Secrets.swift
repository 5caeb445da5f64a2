/// The App's bearer token. The description does not contain the token. Use `exposed` only for the Authorization header,
/// to remove the token from texts, and to compute a hash that identifies the account.
public struct BearerToken: Sendable, Hashable, CustomStringConvertible,
  CustomDebugStringConvertible,
  CustomReflectable
{
  public let exposed: String

  public init(_ token: String) {
    exposed = token
  }

  public var description: String { "<bearer token>" }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: [:]) }
}

/// The URL of an upload or a download. On a storage host, its query is a credential: anyone who has the URL can
/// transfer the file. The description does not contain the query. The URL is never stored.
public struct SignedURL: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible,
  CustomReflectable
{
  public let exposed: String

  public init(_ url: String) {
    exposed = url
  }

  public var description: String {
    exposed.prefix { $0 != "?" } + (exposed.contains("?") ? "?…" : "")
  }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: [:]) }
}
