internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// What the service tells whoever runs it.
struct OperatorPages: Sendable {
  enum Page: CaseIterable {
    /// Whether the service can answer: for load balancers and scripts that wait for it.
    case health
    /// Counts in Prometheus' text format.
    case metrics

    var path: String {
      switch self {
      case .health: "/healthz"
      case .metrics: "/metrics"
      }
    }

    var endpoint: Endpoint {
      switch self {
      case .health: .health
      case .metrics: .metrics
      }
    }

    /// Tells of all Apps, and so not to everybody.
    var isForOperators: Bool {
      switch self {
      case .health: false
      case .metrics: true
      }
    }
  }

  let guardian: AdminGuard
  let store: JobStore
  let metrics: Metrics

  func show(_ page: Page, _ request: Request) async throws -> Response {
    if page.isForOperators { try guardian.admit(request) }
    switch page {
    case .health:
      // Through the pool that every endpoint uses: what fails here fails there.
      _ = try await store.counts()
      return .json(["status": "ok"])
    case .metrics:
      let text = metrics.text(jobs: try await store.counts())
      return Response(
        status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
        body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }
  }
}
