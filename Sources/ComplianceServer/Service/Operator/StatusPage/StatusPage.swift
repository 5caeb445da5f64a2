internal import Checksums
internal import FaultPlans
internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// The status page for a browser: jobs, requests and faults.
///
/// The page is one document without external resources. Its script updates the page in place.
struct StatusPage {
  struct Jobs {
    /// Newest first.
    let newest: [JobOverview]
    let counts: [JobOverview.DisplayStatus: Int64]
  }

  let profile: WireProfile
  let startedAt: Date
  /// Nil if the database is not available.
  let jobs: Jobs?
  /// The progress of the jobs that are being processed, from 0 to 1.
  let progress: [Int64: Double]
  let metrics: Metrics.Snapshot
  let faults: FaultInjector.Record?

  /// The largest number of jobs in the list.
  static let jobsMax = 50
  /// The largest number of faults in the list.
  static let faultsMax = 20

  /// The Content-Security-Policy. If an attacker injects markup into the page, the browser does not run its scripts,
  /// does not load anything from other hosts into the page, and does not submit its forms.
  private static let policy = """
    default-src 'none'; script-src \(source(script)); style-src \(source(style)); connect-src 'self'; \
    img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'
    """

  /// Returns the CSP source that allows an inline element with this text.
  private static func source(_ text: HTML) -> String {
    "'sha256-\(Data(SHA256.hash(text.text)).base64EncodedString())'"
  }

  var response: Response {
    var headers: HTTPFields = [
      .contentType: "text/html; charset=utf-8", .cacheControl: "no-store",
    ]
    headers[.contentSecurityPolicy] = Self.policy
    headers[.xContentTypeOptions] = "nosniff"
    if jobs == nil { headers[.retryAfter] = "1" }
    return Response(
      status: jobs == nil ? .serviceUnavailable : .ok, headers: headers,
      body: ResponseBody(byteBuffer: ByteBuffer(string: html.text)))
  }

  private var html: HTML {
    """
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>compliance-server</title>
    <link rel="icon" href="data:,">
    <style>\(Self.style)</style>
    </head>
    <body>
    <header>
    <h1>compliance-server</h1>
    <p id="about">\(about)</p>
    <noscript><p>Without JavaScript this page does not update itself: <a href="/">reload it</a>.</p></noscript>
    </header>
    <main id="main">
    <p id="notice" role="status">\(jobs == nil ? "The database is not available." : "")</p>
    \(tiles)
    \(jobsSection)
    \(requestsSection)
    \(faultsSection)
    </main>
    <footer><nav aria-label="Other pages"><a href="/metrics">metrics</a> <a href="/admin/faults">faults</a>
    <a href="/2/openapi.json">description</a> <a href="/healthz">health</a></nav></footer>
    <script>\(Self.script)</script>
    </body>
    </html>

    """
  }

  private var about: HTML {
    let now = Date.now.formatted(.iso8601)
    let words = now.replacing("T", with: " ").replacing("Z", with: " UTC")
    return """
      \(profile.rawValue) profile · up for \(Self.time(Date.now.timeIntervalSince(startedAt))) ·
      \(metrics.connections) open \(metrics.connections == 1 ? "connection" : "connections") ·
      as of <time datetime="\(now)">\(words)</time>
      """
  }

  private var tiles: HTML {
    guard let jobs else { return "" }
    let tiles = JobOverview.DisplayStatus.allCases.map { displayStatus -> HTML in
      """
      <li class="\(displayStatus.rawValue)"><b>\(jobs.counts[displayStatus] ?? 0)</b> \(displayStatus.words)</li>
      """
    }
    // Some screen readers ignore a list without bullets, unless it has an explicit role.
    return "<ul class=\"tiles\" role=\"list\" aria-label=\"Jobs by status\">\(tiles)</ul>"
  }

  private func section(_ id: String, _ heading: HTML, _ content: HTML) -> HTML {
    """
    <section id="\(id)" aria-labelledby="\(id)-heading"><h2 id="\(id)-heading">\(heading)</h2>
    \(content)</section>
    """
  }

  // MARK: Jobs

  private static let jobColumns: [ResponsiveTable.Column] = [
    .init("Status"), .init("Type"), .init("Job", .identifier), .init("Name", .name),
    .init("App", .identifier), .init("Created (UTC)"), .init("Work", .free),
    .init("Result", .number),
  ]

  private static let nothing: HTML = "<small>–</small>"

  private var jobsSection: HTML {
    guard let jobs else {
      return section(
        "jobs", "Jobs",
        "<p class=\"none\">The jobs are shown when the database is available again.</p>")
    }
    let all = jobs.counts.values.reduce(0, +)
    guard !jobs.newest.isEmpty else {
      return section(
        "jobs", "Jobs", "<p class=\"none\">None yet. POST /2/compliance/jobs creates one.</p>")
    }
    let note: HTML =
      all > jobs.newest.count ? " <small>the newest \(jobs.newest.count) of \(all)</small>" : ""
    let table = ResponsiveTable(
      label: "jobs-heading", columns: Self.jobColumns, rows: jobs.newest.map(row))
    return section("jobs", "Jobs\(note)", table.html)
  }

  private func row(_ job: JobOverview) -> ResponsiveTable.Row {
    let profile: HTML = job.profile == self.profile ? "" : " <small>\(job.profile.rawValue)</small>"
    // `dir` isolates the name. Without it, right-to-left text in the name could change the order of the text around it.
    let name = job.name.map { name -> HTML in
      "<span class=\"cut\" dir=\"auto\" title=\"\(name)\">\(name)</span>"
    }
    return .init(
      id: "job-\(job.id)",
      cells: [
        "<span class=\"pill \(job.displayStatus.rawValue)\">\(job.displayStatus.words)</span>",
        "\(job.type.rawValue)\(profile)", "\(String(job.id))", name ?? Self.nothing,
        "\(job.app.short)", "\(job.createdAt)", work(on: job),
        job.resultBytes.map { "\(Self.bytes($0))" } ?? Self.nothing,
      ])
  }

  private func work(on job: JobOverview) -> HTML {
    switch job.displayStatus {
    case .created:
      return "<small>waiting for its upload, \(Self.time(job.uploadSecondsLeft)) left</small>"
    case .inProgress:
      guard let part = progress[job.id] else { return "<small>waiting</small>" }
      let percent = Int(part * 100)
      return """
        <progress max="100" value="\(percent)" aria-label="processed"></progress> \(percent) %
        """
    case .complete: return "\(Self.time(job.workSeconds ?? 0))"
    case .failed: return "<span class=\"why\">\(job.error ?? "")</span>"
    case .cancelled: return "<small>\(job.error ?? "")</small>"
    case .expired: return "<small>no upload in time</small>"
    }
  }

  // MARK: Requests

  private static let requestColumns: [ResponsiveTable.Column] = [
    .init("Endpoint"), .init("Served", .number), .init("By status", .free),
    .init("On average", .number), .init("Received", .number), .init("Sent", .number),
  ]

  private var requestsSection: HTML {
    let rows = Endpoint.allCases.compactMap(row)
    guard !rows.isEmpty else { return "" }
    let table = ResponsiveTable(label: "requests-heading", columns: Self.requestColumns, rows: rows)
    return section("requests", "Requests <small>since the start</small>", table.html)
  }

  private func row(_ endpoint: Endpoint) -> ResponsiveTable.Row? {
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
    return .init(
      id: "request-\(endpoint.rawValue)",
      cells: [
        "\(endpoint.rawValue)", "\(count)", "\(statuses)", "\(Self.time(seconds))",
        "\(Self.bytes(Int64(metrics.bytesReceived[endpoint] ?? 0)))",
        "\(Self.bytes(Int64(metrics.bytesSent[endpoint] ?? 0)))",
      ])
  }

  // MARK: Faults

  private static let faultColumns: [ResponsiveTable.Column] = [
    .init("Fault", .free), .init("What", .free), .init("Calls", .number), .init("Served", .number),
  ]

  private var faultsSection: HTML {
    guard let faults else { return "" }
    let rows = faults.counts.enumerated().map { index, count -> ResponsiveTable.Row in
      .init(
        id: "fault-\(index)",
        cells: [
          "\(count.fault.name)", "\(count.fault.description)", "\(count.calls)", "\(count.served)",
        ])
    }
    let table = ResponsiveTable(label: "faults-heading", columns: Self.faultColumns, rows: rows)
    let newest = faults.served.suffix(Self.faultsMax).reversed().map { served -> HTML in
      let job: HTML = served.jobID.map { ", job <span class=\"id\">\(String($0))</span>" } ?? ""
      return """
        <li>\(served.fault) <small>at call \(served.call) of \(served.point.rawValue)\(job)</small></li>

        """
    }
    let list: HTML =
      newest.isEmpty ? "" : "<ol class=\"newest\" aria-label=\"The newest first\">\(newest)</ol>"
    return section("faults", "Faults <small>of the fault plan</small>", "\(table.html)\(list)")
  }

  // MARK: Quantities

  /// Formats a time, such as `3 ms`, `2.5 s`, `4 min` or `6 h`.
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

extension JobOverview.DisplayStatus {
  fileprivate var words: String { rawValue.replacing("_", with: " ") }
}
