/// The App's bearer token. Its description hides it; `exposed` is for the Authorization header only.
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

/// A URL whose query is a credential: with it, anyone can upload or download. Its description has no
/// query, and it is never stored.
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
