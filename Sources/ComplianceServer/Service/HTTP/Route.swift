internal import HTTPTypes
internal import Hummingbird

/// One method of one path, and its handler.
struct Route: Sendable {
  typealias Handler = @Sendable (Request, ServiceContext) async throws -> Response

  let method: HTTPRequest.Method
  /// The path in the router's syntax: `{id}` matches any component.
  let path: String
  let handler: Handler

  init(_ method: HTTPRequest.Method, _ path: String, _ handler: @escaping Handler) {
    self.method = method
    self.path = path
    self.handler = handler
  }
}

extension Router<ServiceContext> {
  func add(_ routes: [Route]) {
    for route in routes {
      on(RouterPath(route.path), method: route.method, use: route.handler)
    }
  }
}

/// The methods of each path, to distinguish 405 (a known path, but not this method) from 404 (an unknown path).
struct PathMethods: Sendable {
  private let rows: [(components: [Substring], method: HTTPRequest.Method)]

  init(_ routes: [Route]) {
    rows = routes.map { ($0.path.split(separator: "/"), $0.method) }
  }

  /// Returns the methods that a path allows; none for an unknown path.
  func allowed(at path: String) -> [HTTPRequest.Method] {
    let components = path.split(separator: "/")
    return rows.filter { row in
      row.components.count == components.count
        && zip(row.components, components).allSatisfy { $0 == $1 || $0.first == "{" }
    }.map(\.method)
  }
}
