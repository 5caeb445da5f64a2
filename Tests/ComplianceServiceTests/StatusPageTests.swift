import ComplianceService
import FaultPlans
import Foundation
import NIOHTTP1
import SystemPackage
import TestSupport
import Testing

/// The page at `/`, as a browser shows it.
@Suite(.endedIfItHangs) struct StatusPageTests {
  /// Runs the browser without a window.
  private static func browse(_ arguments: [String]) async throws -> String {
    try await withTemporaryDirectory { directory in
      // The sandbox needs rights that a container's root does not have.
      try await Tool.run(
        "/usr/bin/env",
        [
          "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
          "--no-first-run", "--disable-background-networking",
          "--user-data-dir=\(directory.string)",
        ] + arguments)
    }
  }

  /// The text of a page's table cells, row by row, as the browser has them after reading the page.
  private static func rows(_ document: String) -> [String] {
    document.split(separator: "<tr>").dropFirst().map { row in
      String(row.prefix(upTo: row.range(of: "</tr>")?.lowerBound ?? row.endIndex))
        .replacing(/<[^>]*>/, with: " ").replacing(/\s+/, with: " ")
        .trimmingCharacters(in: .whitespaces)
    }
  }

  @Test func aBrowserShowsJobsAndWhatWasServed() async throws {
    try await LocalService.run { service in
      let complete = try await service.uploaded("users", "1\n")
      let failed = try await service.create("users")
      _ = try await service.send(.DELETE, "\(LocalService.jobsPath)/\(failed.id)").job()
      let waiting = try await service.post(#"{"type":"users","name":"nightly"}"#).job()
      let working = try await service.create("tweets")
      service.gate.hold { $0 == .processing(jobID: working.id) }
      _ = try await service.put("1\n", to: working.upload_url).job()
      try await service.gate.reached { $0 == .processing(jobID: working.id) }
      _ = try await service.get("\(LocalService.jobsPath)/1")

      let document = try await Self.browse(["--dump-dom", service.baseURL + "/"])
      service.gate.release()
      #expect(document.contains("<title>compliance-server</title>"))
      #expect(document.contains("native profile"))
      let rows = Self.rows(document)
      func row(_ text: String) throws -> String {
        try #require(rows.first { $0.contains(text) }, "\(text) is not in \(rows)")
      }
      #expect(try row(complete.id).hasPrefix("complete users \(complete.id)"))
      #expect(try row(failed.id).contains("The job was cancelled."))
      #expect(try row(waiting.id).contains("nightly"))
      #expect(try row(waiting.id).contains("waits for its upload, 14 min left"))
      #expect(try row(working.id).hasPrefix("in progress tweets \(working.id)"))
      #expect(try row(working.id).contains("0 %"))
      #expect(rows.contains { $0.hasPrefix("create 4 200 4 ") }, "\(rows)")
      #expect(rows.contains { $0.hasPrefix("get 2 200 1 404 1 ") }, "\(rows)")
      let tiles = document.matches(of: /<li class="(\w+)"><b>(\d+)<\/b>/).map { "\($0.1) \($0.2)" }
      #expect(
        tiles == ["created 1", "in_progress 1", "complete 1", "failed 1", "expired 0"])
      // Newest first.
      let order = [working, waiting, failed, complete].map { document.range(of: $0.id)?.lowerBound }
      #expect(order.compactMap(\.self).count == 4)
      #expect(order.compactMap(\.self) == order.compactMap(\.self).sorted())
    }
  }

  @Test func whatAnAppWritesIsTextAndNothingElse() async throws {
    try await LocalService.run { service in
      let name = #"</td><script>document.title="taken"</script><b id=x>&amp;'\""#
      let json = String(
        decoding: try JSONEncoder().encode(["type": "tweets", "name": name]), as: UTF8.self)
      _ = try await service.post(json).job()
      let page = try await service.get("/")
      #expect(!page.text.contains("<script"))
      let policy = try #require(page.headers.first(name: "content-security-policy"))
      #expect(policy.hasPrefix("default-src 'none';"))
      let document = try await Self.browse(["--dump-dom", service.baseURL + "/"])
      #expect(document.contains("<title>compliance-server</title>"))
      #expect(document.contains("&lt;script&gt;document.title=\"taken\"&lt;/script&gt;"))
    }
  }

  /// One document: nothing else is loaded, from here or from elsewhere, and nothing runs.
  @Test func itIsSelfContainedAndLoadsItselfAnew() async throws {
    try await LocalService.run { service in
      let page = try await service.get("/")
      #expect(page.headers.first(name: "content-type") == "text/html; charset=utf-8")
      #expect(page.headers.first(name: "cache-control") == "no-store")
      #expect(page.text.contains(#"<meta http-equiv="refresh" content="3">"#))
      #expect(page.text.contains("prefers-color-scheme: dark"))
      for loading in ["src=", "@import", "url(", "<script", "<iframe", "<object", "//"] {
        #expect(!page.text.contains(loading), "\(loading)")
      }
      _ = try await Self.browse(["--dump-dom", service.baseURL + "/"])
      // The browser asked for the page alone, and not for an icon.
      let metrics = try await service.get("/metrics").text
      #expect(metrics.contains(#"compliance_requests_total{endpoint="status",status="200"} 2"#))
      #expect(!metrics.contains(#"endpoint="unknown""#))
    }
  }

  @Test func itShowsThePlanOfFaults() async throws {
    let plan = try FaultPlan(
      yaml: "faults:\n  - {name: <flood>, at: list, every: 2, answer: {status: 429}}\n",
      file: "plan.yaml")
    try await LocalService.run({ $0.faults = plan }) { service in
      for _ in 1...4 { _ = try await service.get("\(LocalService.jobsPath)?type=tweets") }
      let page = try await service.get("/").text
      let rows = Self.rows(page)
      #expect(rows.contains { $0.hasPrefix("&lt;flood&gt;") && $0.hasSuffix("4 2") }, "\(rows)")
      #expect(page.contains("&lt;flood&gt; <small>at call 4 of list"))
      #expect(rows.contains { $0.hasPrefix("list 4 200 2 429 2") }, "\(rows)")
    }
  }

  /// That it looks well is for people to see; that it is drawn at all, in both colours, is seen here.
  @Test func aBrowserDrawsItInLightAndDark() async throws {
    try await LocalService.run { service in
      _ = try await service.create()
      try await withTemporaryDirectory { directory in
        var images: [Data] = []
        for scheme in [1, 0] {
          let path = directory.appending("\(scheme).png").string
          _ = try await Self.browse([
            "--screenshot=\(path)", "--window-size=800,600",
            "--blink-settings=preferredColorScheme=\(scheme)", service.baseURL + "/",
          ])
          images.append(try Data(contentsOf: URL(filePath: path)))
        }
        for image in images { #expect(image.starts(with: [0x89, 0x50, 0x4E, 0x47])) }
        #expect(images[0] != images[1])
      }
    }
  }
}
