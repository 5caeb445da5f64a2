import Foundation
import Logging
import SystemPackage

/// Writes log lines to stderr, as text or as one JSON object per line.
struct StderrLogHandler: LogHandler {
  enum Format: String, CaseIterable, Sendable {
    case text
    case json
  }

  let format: Format
  var logLevel: Logger.Level
  var metadata: Logger.Metadata = [:]

  init(format: Format, level: Logger.Level) {
    self.format = format
    logLevel = level
  }

  static func logger(_ format: Format, _ level: Logger.Level) -> Logger {
    Logger(label: "lethe") { _ in StderrLogHandler(format: format, level: level) }
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  /// Whether the message contains the words. "run 12" does not contain "run 1".
  private static func contains(_ words: String, in message: String) -> Bool {
    message.ranges(of: words).contains {
      message[$0.upperBound...].first.map { !$0.isLetter && !$0.isNumber } ?? true
    }
  }

  /// The message of a warning or an error. The run and the job in the metadata are added to its first line, unless the
  /// message already names them.
  private func named(_ event: LogEvent) -> String {
    let message = "\(event.message)"
    let fields = metadata.merging(event.metadata ?? [:]) { $1 }
    let names = ["run", "job"].compactMap { key in
      fields[key].map { "\(key) \($0)" }.flatMap { Self.contains($0, in: message) ? nil : $0 }
    }
    guard !names.isEmpty else { return message }
    let lines = message.split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false)
    return (["\(lines[0]) (\(names.joined(separator: ", ")))"] + lines.dropFirst().map(String.init))
      .joined(separator: "\n")
  }

  func log(event: LogEvent) {
    let time = Date().formatted(.iso8601)
    switch format {
    case .text:
      let level = event.level >= .warning ? "\(event.level): " : ""
      let text = event.level >= .warning ? named(event) : "\(event.message)"
      writeLine("\(time) \(level)\(text)", to: STDERR_FILENO)
    case .json:
      var fields = metadata.merging(event.metadata ?? [:]) { $1 }.mapValues { "\($0)" }
      fields["time"] = time
      fields["level"] = "\(event.level)"
      fields["message"] = "\(event.message)"
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      guard let line = try? encoder.encode(fields) else { return }
      writeLine(String(decoding: line, as: UTF8.self), to: STDERR_FILENO)
    }
  }
}

/// Writes a line directly to the file descriptor, without stdio's buffers.
/// - Returns: why the line was not written. Nil if it was written.
@discardableResult
func writeLine(_ line: String, to descriptor: Int32) -> Errno? {
  let bytes = Array(line.utf8) + [0x0A]
  var written = 0
  while written < bytes.count {
    let count = bytes[written...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    if count < 0 {
      switch Errno(rawValue: errno) {
      case .interrupted: continue
      // Another process that shares the descriptor has made it non-blocking.
      case .resourceTemporarilyUnavailable:
        var ready = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        poll(&ready, 1, -1)
        continue
      case let error: return error
      }
    }
    written += count
  }
  return nil
}
