import Results
import Vocabulary

/// The scanner's result for a line of text.
func scan(_ line: String, _ type: JobType = .tweets) -> ScannedLine {
  scan(Array(line.utf8), type)
}

func scan(_ line: [UInt8], _ type: JobType = .tweets) -> ScannedLine {
  line.withUnsafeBytes { LineScanner(type: type).scan($0) }
}

/// The scanner's message about a line that it refuses, or about an error line. Nil for an event or a blank line.
func refusal(_ line: String, _ type: JobType = .tweets) -> String? {
  switch scan(line, type) {
  case .refused(let why, _), .error(let why, _): why
  case .event, .blank: nil
  }
}
