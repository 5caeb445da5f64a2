internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// What the service tells whoever runs it.
struct OperatorPages: Sendable {
  enum Page: CaseIterable {
    /// Jobs and requests, for a browser.
    case status
    /// Whether the service can answer: for load balancers and scripts that wait for it.
    case health
    /// Counts in Prometheus' text format.
    case metrics
    /// Which faults the plan has, and which of them were served.
    case faults

    var path: String {
      switch self {
      case .status: "/"
      case .health: "/healthz"
      case .metrics: "/metrics"
      case .faults: "/admin/faults"
      }
    }

    var endpoint: Endpoint {
      switch self {
      case .status: .status
      case .health: .health
      case .metrics: .metrics
      case .faults: .faults
      }
    }

    /// Tells of all Apps, and so not to everybody.
    var isForOperators: Bool {
      switch self {
      case .health: false
      case .status, .metrics, .faults: true
      }
    }
  }

  let guardian: AdminGuard
  let store: JobStore
  let processor: JobProcessor
  let metrics: Metrics
  let faults: FaultInjector?
  let profile: WireProfile
  let startedAt = Date.now

  func show(_ page: Page, _ request: Request) async throws -> Response {
    if page.isForOperators { try guardian.admit(request) }
    switch page {
    case .status: return try await statusPage().response
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

  private func statusPage() async throws -> StatusPage {
    StatusPage(
      profile: profile, startedAt: startedAt, counts: try await store.counts(),
      jobs: try await store.newest(StatusPage.jobsMax), progress: processor.progress,
      metrics: metrics.snapshot, faults: faults?.record)
  }
}
