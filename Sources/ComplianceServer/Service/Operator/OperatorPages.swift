internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore
internal import PostgreSQL

/// The pages for operators of the service.
struct OperatorPages: Sendable {
  enum Page: CaseIterable {
    /// The status page: jobs and requests, for a browser.
    case status
    /// The state of the database and the spool.
    case health
    /// Whether the process responds, for orchestrators that restart a process if it does not. The page does not depend
    /// on the database, because a restart does not repair the database.
    case live
    /// Whether requests can be served now, for load balancers and for scripts that wait for the start.
    case ready
    /// Metrics in Prometheus' text format.
    case metrics
    /// The faults of the fault plan, and which of them were served.
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

    /// Whether the page requires operator access, because it shows data of all Apps.
    var isForOperators: Bool {
      switch self {
      case .health, .live, .ready: false
      case .status, .metrics, .faults: true
      }
    }
  }

  let access: AdminAccess
  let store: JobStore
  let processor: JobProcessor
  let health: HealthChecks
  let metrics: Metrics
  let faults: FaultInjector?
  let profile: WireProfile
  let startedAt = Date.now

  func show(_ page: Page, _ request: Request) async throws -> Response {
    if page.isForOperators { try access.admit(request) }
    switch page {
    case .status: return try await statusPage(for: request).response
    case .health:
      let health = await health.health()
      return PlainResponse.json(health, status: health.isHealthy ? .ok : .serviceUnavailable)
        .response
    case .live: return .json(["status": "ok"])
    case .ready:
      let health = await health.health()
      guard health.isHealthy else {
        throw Problem(kind: .serviceUnavailable, detail: "Not ready: \(health.problems).")
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

  /// Builds the status page. If the database is not available, a browser gets the page without jobs, and the page
  /// updates itself later. Other clients get a 503 problem.
  private func statusPage(for request: Request) async throws -> StatusPage {
    let jobs: StatusPage.Jobs?
    do {
      jobs = .init(
        newest: try await store.newest(StatusPage.jobsMax),
        counts: try await store.countsByDisplayStatus())
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
