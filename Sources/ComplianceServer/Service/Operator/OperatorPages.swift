internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore
internal import PostgreSQL

/// What the service tells whoever runs it.
struct OperatorPages: Sendable {
  enum Page: CaseIterable {
    /// Jobs and requests, for a browser.
    case status
    /// Whether all is well, and what the service knows of what it needs.
    case health
    /// Whether the process answers at all. An orchestrator that restarts what is not live asks here: no restart
    /// brings a database back.
    case live
    /// Whether requests can be served now: for load balancers and scripts that wait for it.
    case ready
    /// Counts in Prometheus' text format.
    case metrics
    /// Which faults the plan has, and which of them were served.
    case faults

    var path: String {
      switch self {
      case .status: "/"
      case .health: "/healthz"
      case .live: "/livez"
      case .ready: "/readyz"
      case .metrics: "/metrics"
      case .faults: "/admin/faults"
      }
    }

    var endpoint: Endpoint {
      switch self {
      case .status: .status
      case .health: .health
      case .live: .live
      case .ready: .ready
      case .metrics: .metrics
      case .faults: .faults
      }
    }

    /// Tells of all Apps, and so not to everybody.
    var isForOperators: Bool {
      switch self {
      case .health, .live, .ready: false
      case .status, .metrics, .faults: true
      }
    }
  }

  let guardian: AdminGuard
  let store: JobStore
  let processor: JobProcessor
  let health: HealthChecks
  let metrics: Metrics
  let faults: FaultInjector?
  let profile: WireProfile
  let startedAt = Date.now

  func show(_ page: Page, _ request: Request) async throws -> Response {
    if page.isForOperators { try guardian.admit(request) }
    switch page {
    case .status: return try await statusPage(for: request).response
    case .health:
      let health = await health.health()
      return PlainAnswer.json(health, status: health.isWell ? .ok : .serviceUnavailable).response
    case .live: return .json(["status": "ok"])
    case .ready:
      let health = await health.health()
      guard health.isWell else {
        throw Problem(kind: .serviceUnavailable, detail: "Not ready: \(health.complaint).")
      }
      return .json(health)
    case .faults: return .json(FaultReport(faults))
    case .metrics:
      let text = metrics.text(jobs: try await store.counts())
      return Response(
        status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
        body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }
  }

  /// A browser is shown the page without jobs while the database is away, and goes on from there; everybody
  /// else gets the problem.
  private func statusPage(for request: Request) async throws -> StatusPage {
    let jobs: StatusPage.Jobs?
    do {
      jobs = .init(
        newest: try await store.newest(StatusPage.jobsMax),
        counts: try await store.countsByStanding())
    } catch let error as PostgreSQLError
      where error.isTemporary && request.headers[.accept]?.contains("text/html") == true
    {
      jobs = nil
    }
    return StatusPage(
      profile: profile, startedAt: startedAt, jobs: jobs, progress: processor.progress,
      metrics: metrics.snapshot, faults: faults?.record)
  }
}
