internal import FaultPlans
internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// The page that a browser shows of the service: its jobs and what was served.
///
/// It is one document without scripts and without anything from elsewhere, and it loads itself anew.
struct StatusPage {
  let profile: WireProfile
  let startedAt: Date
  let counts: [JobStore.Count]
  /// Newest first.
  let jobs: [JobOverview]
  /// Of the jobs that are being processed, from 0 to 1.
  let progress: [Int64: Double]
  let metrics: Metrics.Snapshot
  let faults: FaultInjector.Record?

  /// How many jobs and faults are shown one by one.
  static let jobsMax = 50
  static let faultsMax = 20
  private static let refreshSeconds = 3

  var response: Response {
    var headers: HTTPFields = [
      .contentType: "text/html; charset=utf-8", .cacheControl: "no-store",
    ]
    // Whatever might get into the page after all, it is not run, and sends nothing anywhere.
    headers[.contentSecurityPolicy] =
      "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
      + "form-action 'none'; frame-ancestors 'none'"
    headers[.xContentTypeOptions] = "nosniff"
    return Response(
      status: .ok, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(string: html.text)))
  }

  private var html: HTML {
    """
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta http-equiv="refresh" content="\(Self.refreshSeconds)">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>compliance-server</title>
    <link rel="icon" href="data:,">
    <style>\(Self.style)</style>
    </head>
    <body>
    <header>
    <h1>compliance-server</h1>
    <p>\(profile.rawValue) profile · up for \(Self.time(Date.now.timeIntervalSince(startedAt))) ·
    \(metrics.connections) open \(metrics.connections == 1 ? "connection" : "connections")</p>
    </header>
    <main>
    \(tiles)
    \(jobsSection)
    \(requestsSection)
    \(faultsSection)
    </main>
    <footer><a href="/metrics">metrics</a> <a href="/admin/faults">faults</a>
    <a href="/2/openapi.json">description</a> <a href="/healthz">health</a></footer>
    </body>
    </html>

    """
  }

  private var tiles: HTML {
    let tiles = JobStatus.allCases.map { status -> HTML in
      let count = counts.reduce(0) { $0 + ($1.status == status ? $1.count : 0) }
      return """
        <li class="\(status.rawValue)"><b>\(count)</b> \(status.words)</li>
        """
    }
    return "<ul class=\"tiles\">\(tiles)</ul>"
  }

  // MARK: Jobs

  private var jobsSection: HTML {
    let all = counts.reduce(0) { $0 + $1.count }
    guard !jobs.isEmpty else {
      return """
        <section><h2>Jobs</h2><p class="none">None yet. POST /2/compliance/jobs creates one.</p></section>
        """
    }
    let note: HTML = all > jobs.count ? "<small>the newest \(jobs.count) of \(all)</small>" : ""
    return """
      <section><h2>Jobs \(note)</h2>
      <div class="wide"><table>
      <thead><tr><th>Status<th>Type<th>Job<th>Name<th>App<th>Created (UTC)<th>Work<th class="n">Result</tr></thead>
      <tbody>
      \(jobs.map(row))</tbody></table></div></section>
      """
  }

  private func row(_ job: JobOverview) -> HTML {
    let result = job.resultBytes.map(Self.bytes) ?? ""
    let profile: HTML = job.profile == self.profile ? "" : " <small>\(job.profile.rawValue)</small>"
    return """
      <tr><td><span class="pill \(job.status.rawValue)">\(job.status.words)</span>\
      <td>\(job.type.rawValue)\(profile)<td class="id">\(String(job.id))<td>\(job.name ?? "")\
      <td class="id">\(job.app.short)<td>\(job.createdAt)<td>\(work(on: job))<td class="n">\(result)</tr>

      """
  }

  private func work(on job: JobOverview) -> HTML {
    switch job.status {
    case .created:
      return "<small>waits for its upload, \(Self.time(job.uploadSecondsLeft)) left</small>"
    case .inProgress:
      guard let part = progress[job.id] else { return "<small>waits for its turn</small>" }
      let percent = Int(part * 100)
      return """
        <progress max="100" value="\(percent)"></progress> \(percent) %
        """
    case .complete: return "\(Self.time(job.workSeconds ?? 0))"
    case .failed: return "<span class=\"why\">\(job.error ?? "")</span>"
    case .expired: return "<small>no upload came in time</small>"
    }
  }

  // MARK: Requests

  private var requestsSection: HTML {
    let rows = Endpoint.allCases.compactMap { endpoint -> HTML? in
      let served = metrics.requests.filter { $0.key.endpoint == endpoint }
        .sorted { $0.key.status < $1.key.status }
      let count = served.reduce(0) { $0 + $1.value }
      guard count > 0 else { return nil }
      let statuses = served.map { served -> HTML in
        let status = served.key.status == 0 ? "cut" : String(served.key.status)
        return """
          <span class="served"><span class="pill s\(String(served.key.status / 100))">\(status)</span> \(served.value)</span>
          """
      }
      let seconds = (metrics.secondsSums[endpoint] ?? 0) / Double(count)
      return """
        <tr><td>\(endpoint.rawValue)<td class="n">\(count)<td>\(statuses)<td class="n">\(Self.time(seconds))\
        <td class="n">\(Self.bytes(Int64(metrics.bytesReceived[endpoint] ?? 0)))\
        <td class="n">\(Self.bytes(Int64(metrics.bytesSent[endpoint] ?? 0)))</tr>

        """
    }
    guard !rows.isEmpty else { return "" }
    return """
      <section><h2>Requests <small>since the start</small></h2>
      <div class="wide"><table>
      <thead><tr><th>Endpoint<th class="n">Served<th>By status<th class="n">On average<th class="n">Received<th class="n">Sent</tr></thead>
      <tbody>
      \(rows)</tbody></table></div></section>
      """
  }

  // MARK: Faults

  private var faultsSection: HTML {
    guard let faults else { return "" }
    let planned = faults.counts.map { count -> HTML in
      """
      <tr><td>\(count.fault.name)<td>\(count.fault.description)<td class="n">\(count.calls)<td class="n">\(count.served)</tr>

      """
    }
    let newest = faults.served.suffix(Self.faultsMax).reversed().map { served -> HTML in
      let job: HTML = served.jobID.map { ", job <span class=\"id\">\(String($0))</span>" } ?? ""
      return """
        <li>\(served.fault) <small>at call \(served.call) of \(served.place.rawValue)\(job)</small></li>

        """
    }
    return """
      <section><h2>Faults <small>by plan</small></h2>
      <div class="wide"><table>
      <thead><tr><th>Fault<th>What<th class="n">Calls<th class="n">Served</tr></thead>
      <tbody>
      \(planned)</tbody></table></div>
      <ol class="newest">\(newest)</ol></section>
      """
  }

  // MARK: Quantities

  /// Such as `3 ms`, `2.5 s`, `4 min` or `6 h`.
  private static func time(_ seconds: Double) -> String {
    switch max(0, seconds) {
    case let seconds where seconds < 1: "\(Int((seconds * 1000).rounded(.up))) ms"
    case let seconds where seconds < 60: "\((seconds * 10).rounded() / 10) s"
    case let seconds where seconds < 7200: "\(Int(seconds / 60)) min"
    default: "\(Int(seconds / 3600)) h"
    }
  }

  private static func bytes(_ count: Int64) -> String {
    switch count {
    case ..<1000: "\(count) B"
    case ..<1_000_000: "\(count / 1000) kB"
    default: "\((Double(count) / 1e5).rounded() / 10) MB"
    }
  }
}

extension JobStatus {
  fileprivate var words: String { rawValue.replacing("_", with: " ") }
}
