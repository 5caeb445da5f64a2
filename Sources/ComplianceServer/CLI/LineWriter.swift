import Dispatch
import Foundation
import Synchronization

/// Writes lines to a file. The writes run on a separate queue, so a slow reader of the log does not delay requests.
final class LineWriter: Sendable {
  private let file: FileHandle
  private let queue = DispatchQueue(label: "access log")
  private let waiting = Mutex(0)

  /// If this many lines are waiting, new lines are dropped.
  private static let waitingMax = 10_000

  init(_ file: FileHandle) {
    self.file = file
  }

  func write(_ line: String) {
    let isAccepted = waiting.withLock { waiting in
      guard waiting < Self.waitingMax else { return false }
      waiting += 1
      return true
    }
    guard isAccepted else { return }
    queue.async { [self] in
      try? file.write(contentsOf: Data((line + "\n").utf8))
      waiting.withLock { $0 -= 1 }
    }
  }

  /// Waits until all queued lines are written.
  func flush() {
    queue.sync {}
  }
}
