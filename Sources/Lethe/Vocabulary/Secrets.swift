/// The App's bearer token. The description does not contain the token. Use `exposed` only for the Authorization header.
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

/// A URL with a credential in its query. Anyone who has the URL can upload or download the file. The description does
/// not contain the query. The URL is never stored.
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
