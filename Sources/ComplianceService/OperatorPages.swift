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
    /// Which faults the plan has, and which of them were served.
    case faults

    var path: String {
      switch self {
      case .health: "/healthz"
      case .metrics: "/metrics"
      case .faults: "/admin/faults"
      }
    }

    var endpoint: Endpoint {
      switch self {
      case .health: .health
      case .metrics: .metrics
      case .faults: .faults
      }
    }

    /// Tells of all Apps, and so not to everybody.
    var isForOperators: Bool {
      switch self {
      case .health: false
      case .metrics, .faults: true
      }
    }
  }

  let guardian: AdminGuard
  let store: JobStore
  let metrics: Metrics
  let faults: FaultInjector?

  func show(_ page: Page, _ request: Request) async throws -> Response {
    if page.isForOperators { try guardian.admit(request) }
    switch page {
    case .health:
      // Through the pool that every endpoint uses: what fails here fails there.
      _ = try await store.counts()
      return .json(["status": "ok"])
    case .faults: return .json(FaultReport(faults))
    case .metrics:
      let text = metrics.text(jobs: try await store.counts())
      return Response(
        status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
        body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }
  }
}
