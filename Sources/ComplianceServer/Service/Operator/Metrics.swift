internal import Synchronization

/// The service's counters since its start.
final class Metrics: Sendable {
  struct Served: Hashable, Sendable {
    let endpoint: Endpoint
    let status: Int
  }

  struct Snapshot: Sendable {
    var requests: [Served: Int] = [:]
    var secondsSums: [Endpoint: Double] = [:]
    /// For each of `Metrics.secondsBounds`, the number of requests that took at most that long.
    var secondsBuckets: [Endpoint: [Int]] = [:]
    var bytesReceived: [Endpoint: Int] = [:]
    var bytesSent: [Endpoint: Int] = [:]
    var faults: [String: Int] = [:]
    var requestsInFlight = 0
    var connections = 0
    /// The number of requests that the server refused before any handler got them, and of connections that it closed
    /// because the client read too slowly, by reason.
    var refused: [String: Int] = [:]
    var jobsProcessed = 0
    var processingSeconds = 0.0
  }

  static let secondsBounds = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60]

  private let counts = Mutex(Snapshot())

  var snapshot: Snapshot { counts.withLock { $0 } }

  func requestBegan() {
    counts.withLock { $0.requestsInFlight += 1 }
  }

  func connectionBegan() {
    counts.withLock { $0.connections += 1 }
  }

  func connectionEnded() {
    counts.withLock { $0.connections -= 1 }
  }

  func refused(_ refusal: ConnectionLimiter.Refusal) {
    counts.withLock { $0.refused[refusal.rawValue, default: 0] += 1 }
  }

  /// Counts a request.
  /// - Parameter status: 0 if no response is sent, for example because of a fault; 499 if the client disconnected
  ///   before the response.
  func requestEnded(_ facts: Exchange.Facts, status: Int, seconds: Double) {
    counts.withLock { counts in
      counts.requestsInFlight -= 1
      counts.requests[Served(endpoint: facts.endpoint, status: status), default: 0] += 1
      counts.secondsSums[facts.endpoint, default: 0] += seconds
      var buckets =
        counts.secondsBuckets[facts.endpoint]
        ?? Array(repeating: 0, count: Self.secondsBounds.count)
      for (index, bound) in Self.secondsBounds.enumerated() where seconds <= bound {
        buckets[index] += 1
      }
      counts.secondsBuckets[facts.endpoint] = buckets
      counts.bytesReceived[facts.endpoint, default: 0] += facts.bytesReceived
      counts.bytesSent[facts.endpoint, default: 0] += facts.bytesSent
      for fault in facts.faults { counts.faults[fault, default: 0] += 1 }
    }
  }

  func jobProcessed(seconds: Double) {
    counts.withLock {
      $0.jobsProcessed += 1
      $0.processingSeconds += seconds
    }
  }

  /// Returns the metrics in Prometheus' text format, version 0.0.4.
  func text(jobs: [JobStore.Count]) -> String {
    let counts = snapshot
    var page = PrometheusText()
    page.family(
      "compliance_requests_total", "counter",
      "Requests by endpoint and status; 0: no response sent; 499: the client disconnected")
    for (served, count) in counts.requests.sorted(by: { $0.key.order < $1.key.order }) {
      page.sample(
        ["endpoint": served.endpoint.rawValue, "status": "\(served.status)"], Double(count))
    }
    page.family(
      "compliance_request_seconds", "histogram",
      "Time from a request's head to the end of the response")
    for endpoint in Endpoint.allCases {
      guard let buckets = counts.secondsBuckets[endpoint] else { continue }
      let total = counts.requests.reduce(0) { $0 + ($1.key.endpoint == endpoint ? $1.value : 0) }
      page.histogram(
        ["endpoint": endpoint.rawValue], zip(Self.secondsBounds, buckets),
        sum: counts.secondsSums[endpoint] ?? 0, count: total)
    }
    page.family("compliance_received_bytes_total", "counter", "Bytes of request bodies by endpoint")
    page.samples(of: counts.bytesReceived)
    page.family("compliance_sent_bytes_total", "counter", "Bytes of response bodies by endpoint")
    page.samples(of: counts.bytesSent)
    page.family("compliance_requests_under_way", "gauge", "Requests that are being processed")
    page.sample([:], Double(counts.requestsInFlight))
    page.family("compliance_connections", "gauge", "Connections that are open")
    page.sample([:], Double(counts.connections))
    page.family(
      "compliance_refused_connections_total", "counter",
      "Requests that the server refused before it knew their endpoint, and connections that it closed, by reason"
    )
    for (reason, count) in counts.refused.sorted(by: { $0.key < $1.key }) {
      page.sample(["reason": reason], Double(count))
    }
    page.family("compliance_faults_total", "counter", "Faults that were served, by name")
    for (name, count) in counts.faults.sorted(by: { $0.key < $1.key }) {
      page.sample(["fault": name], Double(count))
    }
    page.family("compliance_jobs", "gauge", "Jobs in the database by type and status")
    for job in jobs {
      page.sample(["type": job.type.rawValue, "status": job.status.rawValue], Double(job.count))
    }
    page.family("compliance_jobs_processed_total", "counter", "Jobs that were processed")
    page.sample([:], Double(counts.jobsProcessed))
    page.family("compliance_processing_seconds_total", "counter", "Time spent processing jobs")
    page.sample([:], counts.processingSeconds)
    return page.text
  }
}

extension Metrics.Served {
  fileprivate var order: String { "\(endpoint.rawValue) \(status)" }
}

/// Writes metric families: HELP and TYPE once, then the samples.
private struct PrometheusText {
  private(set) var text = ""
  private var name = ""

  mutating func family(_ name: String, _ type: String, _ help: String) {
    self.name = name
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
  }

  mutating func sample(_ labels: KeyValuePairs<String, String>, _ value: Double) {
    sample(suffix: "", labels.map { ($0.key, $0.value) }, value)
  }

  mutating func samples(of counts: [Endpoint: Int]) {
    for endpoint in Endpoint.allCases {
      guard let count = counts[endpoint] else { continue }
      sample(["endpoint": endpoint.rawValue], Double(count))
    }
  }

  mutating func histogram(
    _ labels: KeyValuePairs<String, String>, _ buckets: some Sequence<(Double, Int)>,
    sum: Double, count: Int
  ) {
    let labels = labels.map { ($0.key, $0.value) }
    for (bound, count) in buckets {
      sample(suffix: "_bucket", labels + [("le", "\(bound)")], Double(count))
    }
    sample(suffix: "_bucket", labels + [("le", "+Inf")], Double(count))
    sample(suffix: "_sum", labels, sum)
    sample(suffix: "_count", labels, Double(count))
  }

  private mutating func sample(suffix: String, _ labels: [(String, String)], _ value: Double) {
    let list = labels.map { "\($0.0)=\"\(Self.escaped($0.1))\"" }.joined(separator: ",")
    let number = value == value.rounded() ? "\(Int64(value))" : "\(value)"
    text += "\(name)\(suffix)\(list.isEmpty ? "" : "{\(list)}") \(number)\n"
  }

  private static func escaped(_ value: String) -> String {
    value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
  }
}
