import ComplianceService
import FaultPlans
import Foundation
import NIOHTTP1
import TestSupport
import Testing

/// The status page at `/`, in a browser.
@Suite(.endedIfItHangs) struct StatusPageTests {
  /// Returns the text of each table row in the browser.
  private static func rows(_ tab: Browser.Tab) async throws -> [String] {
    try await tab.value(
      """
      [...document.querySelectorAll('tbody tr')].map(row =>
        [...row.cells].map(cell => cell.textContent.trim().replace(/\\s+/g, ' ')).join(' '))
      """)
  }

  // MARK: Contents

  @Test func aBrowserShowsJobsAndCountsOfRequests() async throws {
    try await LocalService.run { service in
      let complete = try await service.uploaded("users", "1\n")
      let failed = try await service.create("users")
      try await service.execute(
        """
        UPDATE compliance.jobs SET status = 'failed', error = 'Line 7 is no ID.', finished_at = now()
        WHERE id = \(failed.id)
        """)
      let cancelled = try await service.create("users")
      let apiJob = try await service.send(.DELETE, "\(LocalService.jobsPath)/\(cancelled.id)").job()
      let waiting = try await service.post(#"{"type":"users","name":"nightly"}"#).job()
      let working = try await service.create("tweets")
      service.gate.hold { $0 == .processing(jobID: working.id) }
      _ = try await service.put("1\n", to: working.upload_url).job()
      try await service.gate.reached { $0 == .processing(jobID: working.id) }
      _ = try await service.get("\(LocalService.jobsPath)/1")

      try await Browser.run { browser in
        let tab = try await browser.tab()
        try await tab.open(service.baseURL + "/")
        #expect(try await tab.value("document.title") == "compliance-server")
        let about: String = try await tab.value("document.querySelector('header p').textContent")
        #expect(about.contains("native profile"))
        #expect(about.contains(/as of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/))
        let rows = try await Self.rows(tab)
        func row(_ text: String) throws -> String {
          try #require(rows.first { $0.contains(text) }, "\(text) is not in \(rows)")
        }
        #expect(try row(complete.id).hasPrefix("complete users \(complete.id)"))
        #expect(try row(failed.id).hasPrefix("failed users \(failed.id)"))
        #expect(try row(failed.id).contains("Line 7 is no ID."))
        // In the API, a cancelled job has the status failed.
        #expect(apiJob.status == "failed")
        #expect(try row(cancelled.id).hasPrefix("cancelled users \(cancelled.id)"))
        #expect(try row(cancelled.id).contains("The job was cancelled."))
        #expect(try row(waiting.id).contains("nightly"))
        #expect(try row(waiting.id).contains("waiting for its upload, 14 min left"))
        #expect(try row(working.id).hasPrefix("in progress tweets \(working.id)"))
        #expect(try row(working.id).contains("0 %"))
        #expect(rows.contains { $0.hasPrefix("create 5 200 5 ") }, "\(rows)")
        #expect(rows.contains { $0.hasPrefix("get 2 200 1 404 1 ") }, "\(rows)")
        let tiles: [String] = try await tab.value(
          "[...document.querySelectorAll('main ul li')].map(tile => tile.innerText.trim())")
        #expect(
          tiles.map { $0.replacing(/\s+/, with: " ") }
            == [
              "1 created", "1 in progress", "1 complete", "1 failed", "1 cancelled", "0 expired",
            ])
        // The newest job comes first.
        let order = [working, waiting, cancelled, failed, complete]
          .map { job in rows.firstIndex { $0.contains(job.id) } }
        #expect(order == [0, 1, 2, 3, 4])
      }
      service.gate.release()
    }
  }

  @Test func thePageShowsTheFaultPlan() async throws {
    let plan = try FaultPlan(
      yaml: "faults:\n  - {name: <flood>, at: list, every: 2, answer: {status: 429}}\n",
      file: "plan.yaml")
    try await LocalService.run({ $0.faults = plan }) { service in
      for _ in 1...4 { _ = try await service.get("\(LocalService.jobsPath)?type=tweets") }
      let page = try await service.get("/").text
      #expect(page.contains("&lt;flood&gt; <small>at call 4 of list"))
      try await Browser.run { browser in
        let tab = try await browser.tab()
        try await tab.open(service.baseURL + "/")
        let rows = try await Self.rows(tab)
        #expect(rows.contains { $0.hasPrefix("<flood>") && $0.hasSuffix("4 2") }, "\(rows)")
        #expect(rows.contains { $0.hasPrefix("list 4 200 2 429 2") }, "\(rows)")
      }
    }
  }

  // MARK: Security

  /// Names are shown as text, also after an update. The content security policy blocks injected scripts and requests.
  @Test func namesAreEscapedAndScriptsAreBlocked() async throws {
    try await LocalService.run { service in
      func create(_ type: String, _ name: String) async throws {
        let json = try JSONEncoder().encode(["type": type, "name": name])
        _ = try await service.post(String(decoding: json, as: UTF8.self)).job()
      }
      let first = #"</td><script>document.title="taken"</script><b id=x>&amp;'\""#
      let second = #"<img src=x onerror='document.title="taken"' id=main>"#
      try await create("tweets", first)
      let policy = try #require(
        await service.get("/").headers.first(name: "content-security-policy"))
      #expect(policy.hasPrefix("default-src 'none';"))
      #expect(!policy.contains("unsafe") && !policy.contains("*"), "\(policy)")
      try await Browser.run { browser in
        let tab = try await browser.tab()
        try await tab.open(service.baseURL + "/")
        try await create("users", second)
        try await tab.until("document.querySelectorAll('#jobs tbody tr').length === 2")
        let names: [[String]] = try await tab.value(
          "[...document.querySelectorAll('#jobs [title]')].map(name => [name.textContent, name.title])"
        )
        #expect(names == [[second, second], [first, first]])
        #expect(try await tab.value("document.querySelectorAll('script').length") == 1)
        let taken: [String] = try await tab.value(
          """
          (async () => {
            const refused = [];
            addEventListener('securitypolicyviolation', violation =>
              refused.push(violation.effectiveDirective));
            const script = document.createElement('script');
            script.textContent = 'document.title = "taken"';
            document.body.append(script);
            document.body.insertAdjacentHTML('beforeend',
              '<p onclick="document.title = `taken`" style="color: red">');
            document.body.lastElementChild.click();
            const sent = await fetch('http://127.0.0.3:9/').then(() => 'sent', () => 'refused');
            while (refused.length < 4) await new Promise(done => setTimeout(done));
            return [document.title, sent, ...new Set(refused)].sort();
          })()
          """)
        #expect(
          taken == [
            "compliance-server", "connect-src", "refused", "script-src-attr", "script-src-elem",
            "style-src-attr",
          ])
      }
    }
  }

  /// The page loads nothing except its own updates.
  @Test func thePageIsSelfContained() async throws {
    try await LocalService.run { service in
      let page = try await service.get("/")
      #expect(page.headers.first(name: "content-type") == "text/html; charset=utf-8")
      #expect(page.headers.first(name: "cache-control") == "no-store")
      for loading in ["src=", "@import", "url(", "<iframe", "<object", "://", "http-equiv"] {
        #expect(!page.text.contains(loading), "\(loading)")
      }
      try await Browser.run { browser in
        let tab = try await browser.tab()
        try await tab.open(service.baseURL + "/")
        try await tab.until("performance.getEntriesByType('resource').length >= 2")
        let requested: [String] = try await tab.value(
          """
          [...new Set(performance.getEntriesByType('resource').map(entry =>
            entry.initiatorType + ' ' + entry.name))]
          """)
        #expect(requested == ["fetch \(service.baseURL)/"])
      }
      let metrics = try await service.get("/metrics").text
      #expect(!metrics.contains(#"endpoint="unknown""#))
    }
  }

  /// `fetch` refuses a URL with a user name and a password. The page must update itself nevertheless.
  @Test func thePageUpdatesItselfWithAPasswordInTheURL() async throws {
    try await LocalService.run({ $0.adminToken = "secret" }) { service in
      try await Browser.run { browser in
        let tab = try await browser.tab()
        try await tab.open(
          service.baseURL.replacing("http://", with: "http://operator:secret@") + "/")
        let job = try await service.create()
        try await tab.until("document.getElementById('job-\(job.id)') !== null")
        #expect(try await tab.value("document.getElementById('notice').textContent") == "")
      }
    }
  }
}
