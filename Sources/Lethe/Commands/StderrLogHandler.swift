import Foundation
import Logging

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

  func log(event: LogEvent) {
    let time = Date().formatted(.iso8601)
    switch format {
    case .text:
      let level = event.level >= .warning ? "\(event.level): " : ""
      writeLine("\(time) \(level)\(event.message)", to: STDERR_FILENO)
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

/// Writes a complete line without stdio's buffers. Several threads cannot share these buffers safely.
func writeLine(_ line: String, to descriptor: Int32) {
  let bytes = Array(line.utf8) + [0x0A]
  var written = 0
  while written < bytes.count {
    let count = bytes[written...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    if count < 0, errno != EINTR { return }
    written += max(count, 0)
  }
}
