import ComplianceService
import FaultPlans
import Foundation
import PostgreSQL
import TestSupport
import Testing

/// The layout of the status page: everything is visible, readable and large enough to tap, on phones and desktops.
@Suite(.endedIfItHangs) struct StatusPageLayoutTests {
  /// The widths of an old phone, a phone, a tablet and a desktop, in pixels.
  private static let widths = [320, 390, 768, 1280]

  /// Returns the problems in the page's layout.
  private static func problems(_ tab: Browser.Tab) async throws -> [String] {
    try await tab.value(String(contentsOfFile: Tool.script("measure_page.js"), encoding: .utf8))
  }

  /// Opens the page in every size and colour scheme, and checks its layout.
  private static func checkLayout(
    of service: LocalService, _ browser: Browser, _ what: String,
    _ location: SourceLocation = #_sourceLocation
  ) async throws {
    let tab = try await browser.tab()
    for width in widths {
      for isDark in [false, true] {
        try await tab.show(width: width, isDark: isDark)
        try await tab.open(service.baseURL + "/")
        let found = try await problems(tab)
        #expect(
          found.isEmpty, "\(what), \(width) px, dark \(isDark): \(found.prefix(9))",
          sourceLocation: location)
        let seen: Int = try await tab.value("innerWidth")
        #expect(seen == width, sourceLocation: location)
      }
    }
  }

  /// Jobs in every state, with difficult names.
  private static let jobs = #"""
    INSERT INTO compliance.jobs (id, app_id, type, name, status, error, created_at, upload_expires_at,
      download_expires_at, uploaded_at, finished_at, submission_file, result_file, result_bytes, profile, resumable)
    SELECT 1900000000000000000 + n, lpad(to_hex(n), 64, 'a'),
      (ARRAY['tweets', 'users'])[1 + n % 2]::compliance.job_type,
      left((ARRAY[NULL, 'nightly', repeat('n', 64), repeat('W', 64), repeat('l', 64),
        '<script>document.title="taken"</script><img src=x onerror=alert(1)>',
        'مهمة الامتثال الليلية رقم ' || repeat('ابجد', 9),
        U&'\202E\2067right to left ' || repeat('x', 40), repeat(U&'\+01F469\200D\+01F680', 21), repeat('漢', 64),
        repeat('﷽', 64), '"quoted" & ''name''', repeat(U&'e\0301\0302\0303\0304', 12), U&'\FEFF\200B',
        E'\n\t ', repeat('two words ', 6)])[1 + n % 16], 64),
      status,
      CASE WHEN status = 'failed' THEN CASE WHEN n % 2 = 0 THEN 'The job was cancelled.'
        ELSE 'Line 3 is no ID: ' || repeat('9', 120) END END,
      now() - n * interval '1 minute', now() + interval '3 hours', now() + interval '7 days',
      CASE WHEN status IN ('in_progress', 'complete') THEN now() - n * interval '1 minute' END,
      CASE WHEN status IN ('complete', 'failed', 'expired') THEN now() END,
      CASE WHEN status = 'in_progress' THEN 'none' END,
      CASE WHEN status = 'complete' THEN 'none' END,
      CASE WHEN status = 'complete' THEN n * 123456789012 END,
      (ARRAY['native', 'gcs'])[1 + n % 2]::compliance.profile, false
    FROM (SELECT n, (ARRAY['created', 'in_progress', 'complete', 'failed', 'expired'])[1 + n % 5]
                      ::compliance.job_status AS status
          FROM generate_series(1, 80) AS n) AS numbers
    """#

  private static let plan = """
    faults:
      - {name: \(String(repeating: "flood", count: 20)), at: list, every: 2, answer: {status: 429}}
      - {name: "طوفان <b>", at: list, every: 3, answer: {status: 503}}

    """

  /// Runs a service with many jobs, requests and faults. The gate holds all jobs.
  private static func serving(_ body: (LocalService) async throws -> Void) async throws {
    let plan = try FaultPlan(yaml: plan, file: "plan.yaml")
    try await LocalService.run({ $0.faults = plan }) { service in
      service.gate.hold { if case .processing = $0 { true } else { false } }
      try await service.execute(Self.jobs)
      for _ in 1...4 {
        _ = try await service.get("\(LocalService.jobsPath)?type=tweets")
        _ = try await service.get("\(LocalService.jobsPath)/1")
        _ = try await service.get("/nothing")
      }
      try await body(service)
      service.gate.release()
    }
  }

  @Test func theLayoutHasNoProblems() async throws {
    try await Browser.run { browser in
      try await Self.serving { service in
        try await Self.checkLayout(of: service, browser, "80 jobs")
      }
      try await LocalService.run { service in
        try await Self.checkLayout(of: service, browser, "no jobs")
        try await service.withoutDatabase {
          try await Self.checkLayout(of: service, browser, "no database")
        }
      }
    }
  }

  private static let mistakes = [
    ("<p style='width: 3000px'>wide", "the document is"),
    ("<div style='position: absolute; left: -50px'>left", "outside the page"),
    ("<p style='width: 60px; white-space: nowrap'>overflows its area", "text overflows"),
    (
      "<p style='width: 60px; overflow: hidden; white-space: nowrap'>is cut off",
      "truncated without"
    ),
    ("<p style='height: 10px; overflow: hidden'>two lines<br>of text", "truncated without"),
    (
      "<p title='is cut' style='width: 60px; overflow: hidden; white-space: nowrap'>is cut off",
      "truncated without"
    ),
    ("<p style='color: #888'>gray", "contrast"),
    ("<p style='font-size: 8px'>tiny", "too small"),
    ("<p><a href='/'>link</a>", "tap target"),
    (
      "<table><tr><td>1<td style='position: relative; left: -9px; padding: 9px'>2</table>",
      "overlaps"
    ),
  ]

  /// Tests the layout check itself with a page for each kind of mistake.
  @Test func theLayoutCheckFindsMistakes() async throws {
    try await Browser.run { browser in
      let tab = try await browser.tab()
      try await tab.show(width: 390, isDark: false)
      let begin = "data:text/html,<!DOCTYPE html><meta name=viewport content='width=device-width'>"
      let allowed = CharacterSet.alphanumerics.union(.init(charactersIn: ":,;/<>='-!"))
      func found(_ body: String) async throws -> [String] {
        try await tab.open(
          (begin + body).addingPercentEncoding(withAllowedCharacters: allowed) ?? "")
        return try await Self.problems(tab)
      }
      #expect(try await found("<p>text").isEmpty)
      for (mistake, problem) in Self.mistakes {
        let problems = try await found(mistake)
        #expect(problems.contains { $0.contains(problem) }, "\(mistake): \(problems)")
      }
    }
  }

  /// Screen readers find tables, even on a phone, where the rows are shown as cards.
  @Test func screenReadersFindThePartsOfThePage() async throws {
    try await Self.serving { service in
      try await Browser.run { browser in
        let tab = try await browser.tab()
        for width in Self.widths {
          try await tab.show(width: width, isDark: false)
          try await tab.open(service.baseURL + "/")
          try await Self.expectParts(tab, showsCards: width < 1000)
        }
      }
    }
  }

  private static func expectParts(_ tab: Browser.Tab, showsCards: Bool) async throws {
    struct Tree: Decodable {
      struct Node: Decodable {
        struct Text: Decodable {
          let value: String

          init(from decoder: any Decoder) throws {
            let members = try decoder.container(keyedBy: CodingKeys.self)
            // Some values are numbers.
            value = (try? members.decode(String.self, forKey: .value)) ?? ""
          }

          private enum CodingKeys: String, CodingKey { case value }
        }
        let ignored: Bool
        let role: Text?
        let name: Text?
      }
      let nodes: [Node]
    }
    let tree = try await tab.ask("Accessibility.getFullAXTree", as: Tree.self)
    let nodes = tree.nodes.filter { !$0.ignored }
    func names(_ role: String) -> [String] {
      nodes.filter { $0.role?.value == role }.map { $0.name?.value ?? "" }
    }
    for landmark in ["banner", "main", "contentinfo", "navigation", "status"] {
      #expect(names(landmark).count == 1, "\(landmark)")
    }
    let sections = [
      "Jobs the newest 50 of 80", "Requests since the start", "Faults of the fault plan",
    ]
    #expect(names("region") == sections)
    #expect(names("table") == sections)
    #expect(names("heading") == ["compliance-server"] + sections)
    #expect(
      names("columnheader").prefix(8) == [
        "Status", "Type", "Job", "Name", "App", "Created (UTC)", "Work", "Result",
      ])
    // 50 jobs, at least 3 endpoints, 2 faults. `row` also counts the 3 header rows.
    let cells = names("cell").count
    #expect(cells >= 50 * 8 + 3 * 6 + 2 * 4)
    #expect(names("row").count >= 3 + 50 + 3 + 2)
    #expect(
      names("progressbar").count
        == (try await tab.value("document.querySelectorAll('progress').length")))
    // On a phone, each cell of a card shows its column's title.
    let titles: [String] = try await tab.value(
      """
      [...document.querySelectorAll('#jobs tbody tr:first-child td')].map(cell =>
        getComputedStyle(cell, '::before').content.split(' /')[0])
      """)
    #expect(titles.first == (showsCards ? "\"Status\"" : "none"))
    #expect(Set(titles).count == (showsCards ? 8 : 1))
  }

  @Test func theKeyboardFocusIsVisible() async throws {
    try await LocalService.run { service in
      try await Browser.run { browser in
        let tab = try await browser.tab()
        try await tab.open(service.baseURL + "/")
        let links: Int = try await tab.value("document.querySelectorAll('a').length")
        // The link in <noscript> does not count.
        #expect(links == 4)
        for _ in 1...links {
          for type in ["keyDown", "keyUp"] {
            try await tab.ask(
              "Input.dispatchKeyEvent",
              ["type": type, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9])
          }
          let outline: String = try await tab.value(
            "document.activeElement.localName + getComputedStyle(document.activeElement).outline")
          #expect(outline.hasPrefix("a") && outline.contains("solid 3px"), "\(outline)")
        }
      }
    }
  }

  /// Checks only that the browser draws the page differently in the two colour schemes.
  @Test func aBrowserDrawsThePageInLightAndDark() async throws {
    try await LocalService.run { service in
      _ = try await service.create()
      try await Browser.run { browser in
        let tab = try await browser.tab()
        var images: [Data] = []
        for isDark in [false, true] {
          try await tab.show(width: 800, isDark: isDark)
          try await tab.open(service.baseURL + "/")
          images.append(try await tab.image())
        }
        for image in images { #expect(image.starts(with: [0x89, 0x50, 0x4E, 0x47])) }
        #expect(images[0] != images[1])
      }
    }
  }

  /// Without scripts, the page does not update itself. It shows a notice about that.
  @Test func thePageWorksWithoutScripts() async throws {
    try await Self.serving { service in
      try await Browser.run { browser in
        let tab = try await browser.tab()
        try await tab.ask("Emulation.setScriptExecutionDisabled", ["value": true])
        for width in [390, 1280] {
          try await tab.show(width: width, isDark: false)
          try await tab.ask("Page.navigate", ["url": service.baseURL + "/"])
          // `until` needs scripts in the page, so the test polls.
          while try await !tab.value("document.readyState === 'complete'", as: Bool.self) {
            try await pollingPause()
          }
          #expect(try await tab.value("document.querySelectorAll('#jobs tbody tr').length") == 50)
          let text: String = try await tab.value("document.querySelector('header').innerText")
          #expect(text.contains("Without JavaScript this page does not update itself"))
          #expect(try await Self.problems(tab).isEmpty)
        }
      }
    }
  }
}

extension LocalService {
  /// Makes the database unavailable to the server while `body` runs.
  func withoutDatabase(_ body: () async throws -> Void) async throws {
    let name = database.name
    try await withTestDatabase { other in
      try await other.withConnection {
        try await $0.runScript("ALTER DATABASE \(trusted: name) WITH ALLOW_CONNECTIONS false")
        _ = try await $0.query(
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = \(name)")
      }
      let result: Result<Void, any Error>
      do {
        result = .success(try await body())
      } catch {
        result = .failure(error)
      }
      try await other.withConnection {
        try await $0.runScript("ALTER DATABASE \(trusted: name) WITH ALLOW_CONNECTIONS true")
      }
      try result.get()
    }
  }
}
