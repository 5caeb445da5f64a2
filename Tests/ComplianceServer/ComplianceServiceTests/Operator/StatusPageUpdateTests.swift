import ComplianceService
import Foundation
import TestSupport
import Testing

/// The page updates itself without a reload while it is visible. After an outage of the server or of the database, it
/// continues to do so.
@Suite(.endedIfItHangs) struct StatusPageUpdateTests {
  /// Adds finished jobs. A job with a lower number is older.
  private static func addJobs(_ numbers: ClosedRange<Int>, to service: LocalService) async throws {
    try await service.execute(
      """
      INSERT INTO compliance.jobs (id, app_id, type, name, status, created_at, upload_expires_at,
        download_expires_at, finished_at)
      SELECT 1900000000000000000 + n, repeat('a', 64), 'tweets', 'number ' || n, 'expired', now(), now(), now(), now()
      FROM generate_series(\(numbers.lowerBound), \(numbers.upperBound)) AS n
      """)
  }

  private static func element(_ number: Int) -> String {
    "document.getElementById('job-\(1_900_000_000_000_000_000 + number)')"
  }

  private static let notice = "document.getElementById('notice').textContent"

  /// An update keeps the scroll position, a text selection and the focus while new jobs appear.
  @Test(arguments: [390, 1280])
  func anUpdateKeepsScrollPositionSelectionAndFocus(width: Int) async throws {
    try await LocalService.run { service in
      try await Self.addJobs(1...45, to: service)
      try await Browser.run { browser in
        let tab = try await browser.tab()
        try await tab.show(width: width, isDark: false)
        try await tab.open(service.baseURL + "/")
        // These properties of the window later show that the page was not reloaded.
        let isSet: Bool = try await tab.value(
          """
          (() => {
            window.row = \(Self.element(20));
            window.row.scrollIntoView({block: 'center'});
            document.querySelector('footer a').focus({preventScroll: true});
            const name = window.row.querySelector('[title]').firstChild;
            getSelection().setBaseAndExtent(name, 1, name, 6);
            window.rowTop = window.row.getBoundingClientRect().top;
            return scrollY > 0 && getSelection().toString() === 'umber';
          })()
          """)
        #expect(isSet)
        try await Self.addJobs(46...60, to: service)
        try await tab.until("\(Self.element(60)) !== null")
        // The oldest rows have been removed.
        #expect(try await tab.value("\(Self.element(10)) === null"))
        let kept: [Bool] = try await tab.value(
          """
          [window.row === \(Self.element(20)), getSelection().toString() === 'umber',
           document.activeElement === document.querySelector('footer a'),
           Math.abs(window.row.getBoundingClientRect().top - window.rowTop) <= 1]
          """)
        #expect(kept == [true, true, true, true])
        let order: [String] = try await tab.value(
          "[...document.querySelectorAll('#jobs [title]')].map(name => name.title)")
        #expect(order == (11...60).reversed().map { "number \($0)" })

        // If an update changes a text, a selection in this text is kept, too.
        try await tab.until(
          """
          (() => {
            const text = document.querySelector('#about time').firstChild;
            if (!window.time) {
              getSelection().setBaseAndExtent(text, 3, text, 9);
              window.time = text.data;
            }
            return text.data !== window.time;
          })()
          """)
        let offsets: [Int] = try await tab.value(
          """
          [getSelection().anchorOffset, getSelection().focusOffset,
           Number(getSelection().anchorNode === document.querySelector('#about time').firstChild)]
          """)
        #expect(offsets == [3, 9, 1])
      }
    }
  }

  /// Runs the page's update function on random pages. It must change the old page into the new page. Elements whose ID
  /// is in both pages must stay the same objects.
  @Test func anUpdateChangesOnePageIntoTheOther() async throws {
    let seed = SeededGenerator.seedOfTest()
    try await LocalService.run { service in
      try await Browser.run { browser in
        let tab = try await browser.tab()
        try await tab.open(service.baseURL + "/")
        let wrong: [String] = try await tab.value(
          """
          (() => {
            let state = \(seed % 4_294_967_296);
            const random = sides => {
              state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
              return Math.floor(state / 4294967296 * sides);
            };
            const grow = (depth, ids) => {
              const element = document.createElement(['p', 'b', 'i'][random(3)]);
              if (random(2)) element.setAttribute(['class', 'title'][random(2)], random(3));
              const mine = [...Array(9).keys()].map(number => `${ids}-${number}`)
                .filter(() => random(2));
              for (let count = random(6); count > 0; count--) {
                if (depth > 0 && random(2)) {
                  const child = grow(depth - 1, `${ids}-x${count}`);
                  if (random(2) && mine.length) child.id = mine.shift();
                  element.append(child);
                } else if (element.lastChild?.nodeType !== Node.TEXT_NODE) {
                  element.append(`text ${random(4)}`);
                }
              }
              return element;
            };
            const wrong = [];
            for (let round = 0; round < 500; round++) {
              const old = document.createElement('div'), fresh = document.createElement('div');
              for (const page of [old, fresh]) {
                const rows = [...Array(8).keys()].filter(() => random(2));
                if (random(4) === 0) rows.reverse();
                for (const row of rows) {
                  const child = document.createElement('p');
                  child.id = `row-${row}`;
                  child.append(grow(2, `row-${row}`));
                  page.append(child, '\\n');
                }
              }
              const before = old.outerHTML;
              const kept = new Map([...old.children].map(child => [child.id, child]));
              patch(old, fresh);
              if (!old.isEqualNode(fresh)) wrong.push(`${before} → ${fresh.outerHTML}: ${old.outerHTML}`);
              for (const child of old.children)
                if (kept.has(child.id) && kept.get(child.id) !== child) wrong.push(`new: ${child.id}`);
            }
            return wrong;
          })()
          """)
        #expect(wrong.isEmpty, "seed \(seed): \(wrong.prefix(3))")
      }
    }
  }

  /// While the server is down, the page keeps its content and shows how old it is. After the restart, the page updates
  /// itself again.
  @Test func thePageUpdatesAgainAfterARestartOfTheServer() async throws {
    try await LocalService.withSite { site in
      var site = site
      // The server must restart at the same address. Other tests do not use the address, because its host is random.
      let host = "127.\((1...3).map { _ in "\(Int.random(in: 1...254))" }.joined(separator: "."))"
      site.configure = {
        $0.host = host
        $0.port = 8090
      }
      try await Browser.run { browser in
        let tab = try await browser.tab()
        let first = try await site.serving { service in
          let first = try await service.create()
          try await tab.open(service.baseURL + "/")
          _ = try await tab.value("window.mark = 1", as: Int.self)
          return first
        }
        try await tab.until("\(Self.notice) !== ''")
        let notice: String = try await tab.value(Self.notice)
        #expect(
          notice.hasPrefix("The server does not respond. This page shows the state of 20"),
          "\(notice)")
        #expect(try await tab.value("document.getElementById('job-\(first.id)') !== null"))
        try await site.serving { service in
          let second = try await service.create("users")
          try await tab.until("document.getElementById('job-\(second.id)') !== null")
          #expect(try await tab.value("\(Self.notice) === '' && window.mark === 1"))
        }
      }
    }
  }

  @Test func thePageUpdatesAgainAfterAnOutageOfTheDatabase() async throws {
    try await LocalService.run { service in
      let first = try await service.create()
      try await Browser.run { browser in
        let tab = try await browser.tab()
        try await tab.open(service.baseURL + "/")
        let late = try await browser.tab()
        try await service.withoutDatabase {
          // A page that is opened during the outage has no jobs.
          try await late.open(service.baseURL + "/")
          #expect(try await late.value(Self.notice) == "The database is not available.")
          #expect(try await late.value("document.querySelectorAll('#jobs tr').length") == 0)
          #expect(try await late.value("document.querySelectorAll('#requests tr').length > 0"))
          // A program gets a problem document instead of a page.
          #expect(try await service.get("/").problem().status == 503)
          try await tab.bringToFront()
          try await tab.until(
            "\(Self.notice).startsWith('The database is not available. This page shows the state of')"
          )
          #expect(try await tab.value("document.getElementById('job-\(first.id)') !== null"))
        }
        let second = try await service.create("users")
        for tab in [tab, late] {
          try await tab.bringToFront()
          try await tab.until("document.getElementById('job-\(second.id)') !== null")
          #expect(try await tab.value("\(Self.notice) === ''"))
        }
      }
    }
  }

  /// The page sends requests only while it is visible. When it becomes visible again, it sends a request at once.
  @Test func aHiddenPageSendsNoRequests() async throws {
    try await LocalService.run { service in
      try await Browser.run { browser in
        let tab = try await browser.tab()
        try await tab.ask(
          "Page.addScriptToEvaluateOnNewDocument",
          [
            "source": """
            window.timers = new Set();
            window.asked = 0;
            window.answered = 0;
            const [set, clear, get] = [setTimeout, clearTimeout, fetch];
            window.setTimeout = (what, after) => {
              const timer = set(() => { timers.delete(timer); what(); }, after);
              timers.add(timer);
              return timer;
            };
            window.clearTimeout = timer => { timers.delete(timer); clear(timer); };
            window.fetch = (...what) => {
              asked += 1;
              return get(...what).finally(() => answered += 1);
            };
            """
          ])
        try await tab.open(service.baseURL + "/")
        try await tab.until("asked >= 2 && asked === answered && timers.size === 1")
        let other = try await browser.tab()
        // A request that was in progress might still end.
        try await tab.until("document.hidden && asked === answered && timers.size === 0")
        let asked: Int = try await tab.value("asked")
        try await other.open("about:blank")
        #expect(try await tab.value("document.hidden && timers.size === 0 && asked === \(asked)"))
        try await tab.bringToFront()
        try await tab.until("asked === \(asked + 1)")
        try await tab.until("timers.size === 1")
      }
    }
  }
}
