import Foundation
import Synchronization
import SystemPackage
import TestSupport
import Testing

/// Headless Chromium, controlled with the DevTools protocol over two pipes.
final class Browser: Sendable {
  struct Failed: Error, CustomStringConvertible {
    let description: String
  }

  /// A browser tab. Each call waits for the browser's response. No call waits for a fixed time.
  struct Tab: Sendable {
    let browser: Browser
    fileprivate let target: String
    private let session: String

    fileprivate init(_ browser: Browser) async throws {
      self.browser = browser
      struct Created: Decodable { let targetId: String }
      target = try await browser.ask(
        "Target.createTarget", ["url": "about:blank"], nil, as: Created.self
      )
      .targetId
      struct Attached: Decodable { let sessionId: String }
      session = try await browser.ask(
        "Target.attachToTarget", ["targetId": target, "flatten": true], nil, as: Attached.self
      ).sessionId
      try await ask("Page.enable")
    }

    func ask(_ method: String, _ parameters: [String: any Sendable] = [:]) async throws {
      struct Nothing: Decodable {}
      _ = try await browser.ask(method, parameters, session, as: Nothing.self)
    }

    func ask<T: Decodable & Sendable>(
      _ method: String, _ parameters: [String: any Sendable] = [:], as type: T.Type
    ) async throws -> T {
      try await browser.ask(method, parameters, session, as: type)
    }

    /// Loads a page completely.
    func open(_ url: String) async throws {
      struct Navigated: Decodable { let errorText: String? }
      let navigated = try await ask("Page.navigate", ["url": url], as: Navigated.self)
      if let error = navigated.errorText { throw Failed(description: "\(url): \(error)") }
      try await until("document.readyState === 'complete'")
    }

    /// Returns the value of an expression in the page. For a promise, returns its result.
    func value<T: Decodable & Sendable>(
      _ expression: String, as type: T.Type = T.self
    ) async throws -> T {
      let reply = try await browser.reply(
        "Runtime.evaluate",
        ["expression": expression, "awaitPromise": true, "returnByValue": true], session)
      let evaluated = try JSONDecoder().decode(Reply<Evaluated<T>>.self, from: reply).result
      if let details = evaluated.exceptionDetails {
        throw Failed(
          description: "\(expression): \(details.exception?.description ?? details.text)")
      }
      guard let value = evaluated.result.value else {
        throw Failed(description: "\(expression) has no value")
      }
      return value
    }

    /// Waits until a condition holds in the page.
    func until(_ condition: String) async throws {
      let holds: Bool = try await value(
        """
        new Promise(done => {
          if (\(condition)) return done(true);
          const timer = setInterval(() => {
            if (!(\(condition))) return;
            clearInterval(timer);
            done(true);
          }, 20);
        })
        """)
      #expect(holds)
    }

    /// Emulates the screen of a phone, a tablet or a desktop, and a colour scheme.
    func show(width: Int, isDark: Bool) async throws {
      let isMobile = width < 1000
      try await ask(
        "Emulation.setDeviceMetricsOverride",
        ["width": width, "height": 844, "deviceScaleFactor": 1, "mobile": isMobile])
      try await ask("Emulation.setTouchEmulationEnabled", ["enabled": isMobile])
      try await ask(
        "Emulation.setEmulatedMedia",
        ["features": [["name": "prefers-color-scheme", "value": isDark ? "dark" : "light"]]])
    }

    func image() async throws -> Data {
      struct Screenshot: Decodable { let data: Data }
      return try await ask("Page.captureScreenshot", as: Screenshot.self).data
    }

    func bringToFront() async throws { try await ask("Page.bringToFront") }
  }

  fileprivate struct Reply<T: Decodable>: Decodable {
    let result: T
  }

  fileprivate struct Evaluated<T: Decodable>: Decodable {
    struct Value: Decodable {
      let value: T?
    }
    struct Details: Decodable {
      struct Exception: Decodable {
        let description: String?
      }
      let text: String
      let exception: Exception?
    }
    let result: Value
    let exceptionDetails: Details?
  }

  private typealias Waiting = CheckedContinuation<Data, any Error>

  private struct State {
    var number = 0
    /// The waiting calls, by message number.
    var waiting: [Int: Waiting] = [:]
    var hasEnded = false
  }

  private let process: ChildProcess
  private let input: FileHandle
  private let state = Mutex(State())

  static func run<R: Sendable>(_ body: (Browser) async throws -> R) async throws -> R {
    try await withTemporaryDirectory { directory in
      let browser = try Browser(profile: directory.string)
      defer { browser.end() }
      return try await withTaskCancellationHandler {
        let value = try await body(browser)
        // The browser's child processes write to the directory until the browser ends them.
        _ = try await browser.reply("Browser.close", [:], nil)
        _ = await browser.process.ended()
        return value
      } onCancel: {
        // A browser that hangs must not block the tests.
        browser.end()
      }
    }
  }

  /// Opens a new tab. The new tab hides the other tabs.
  func tab() async throws -> Tab { try await Tab(self) }

  private init(profile: String) throws {
    let (stdin, stdout) = (Pipe(), Pipe())
    // The protocol uses the descriptors 3 and 4. The sandbox needs privileges that root does not have in a
    // container.
    process = try ChildProcess(
      [
        "/bin/bash", "-c", "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "bash",
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--remote-debugging-pipe", "--user-data-dir=\(profile)",
        "about:blank",
      ], stdin: FileDescriptor(rawValue: stdin.fileHandleForReading.fileDescriptor),
      stdout: FileDescriptor(rawValue: stdout.fileHandleForWriting.fileDescriptor))
    try stdin.fileHandleForReading.close()
    try stdout.fileHandleForWriting.close()
    input = stdin.fileHandleForWriting
    // Writing to a browser that has ended must fail with an error, not with a signal that ends the tests.
    signal(SIGPIPE, SIG_IGN)
    let output = stdout.fileHandleForReading
    Thread.detachNewThread { [self] in read(output) }
  }

  private func read(_ output: FileHandle) {
    var bytes = Data()
    var part = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      // FileHandle's read would wait until the whole buffer is full.
      let count = Foundation.read(output.fileDescriptor, &part, part.count)
      guard count > 0 else { break }
      bytes.append(contentsOf: part[..<count])
      while let end = bytes.firstIndex(of: 0) {
        take(Data(bytes[bytes.startIndex..<end]))
        bytes = Data(bytes[bytes.index(after: end)...])
      }
    }
    let pending = state.withLock { state in
      defer { state.waiting = [:] }
      state.hasEnded = true
      return state.waiting.values
    }
    for waiting in pending {
      waiting.resume(throwing: Failed(description: "the browser has ended"))
    }
  }

  private func take(_ message: Data) {
    struct Head: Decodable {
      struct Failure: Decodable { let message: String }
      let id: Int?
      let error: Failure?
    }
    guard let head = try? JSONDecoder().decode(Head.self, from: message), let id = head.id,
      let waiting = state.withLock({ $0.waiting.removeValue(forKey: id) })
    else { return }
    if let error = head.error {
      waiting.resume(throwing: Failed(description: error.message))
    } else {
      waiting.resume(returning: message)
    }
  }

  fileprivate func ask<T: Decodable & Sendable>(
    _ method: String, _ parameters: [String: any Sendable], _ session: String?, as type: T.Type
  ) async throws -> T {
    let reply = try await reply(method, parameters, session)
    return try JSONDecoder().decode(Reply<T>.self, from: reply).result
  }

  fileprivate func reply(
    _ method: String, _ parameters: [String: any Sendable], _ session: String?
  ) async throws -> Data {
    let number = state.withLock { state in
      state.number += 1
      return state.number
    }
    var message: [String: Any] = ["id": number, "method": method, "params": parameters]
    message["sessionId"] = session
    let bytes = try JSONSerialization.data(withJSONObject: message) + [0]
    return try await withCheckedThrowingContinuation { waiting in
      let hasEnded = state.withLock { state in
        if !state.hasEnded { state.waiting[number] = waiting }
        return state.hasEnded
      }
      if hasEnded { return waiting.resume(throwing: Failed(description: "the browser has ended")) }
      do {
        try input.write(contentsOf: bytes)
      } catch {
        state.withLock { $0.waiting.removeValue(forKey: number) }?.resume(throwing: error)
      }
    }
  }

  private func end() {
    if process.exitCode == nil { process.send(signal: SIGKILL) }
  }
}
