import Foundation
import Ledger

/// What Linux reports about processes on this machine.
enum OwnProcess {
  private static let bootIDFile = "/proc/sys/kernel/random/boot_id"

  /// Such as `lethe run`, for messages.
  static var command: String {
    guard let word = CommandLine.arguments.dropFirst().first, word.wholeMatch(of: /[a-z]+/) != nil
    else { return "lethe" }
    return "lethe \(word)"
  }

  static var identity: ProcessIdentity {
    let processID = getpid()
    return ProcessIdentity(
      host: ProcessInfo.processInfo.hostName, processID: processID, bootID: bootID,
      pidNamespace: pidNamespace, start: start(of: processID) ?? 0)
  }

  /// Whether a process is known to have ended. A process of another machine or container cannot be seen, so it never
  /// is.
  static func hasEnded(_ process: ProcessIdentity) -> Bool {
    guard !bootID.isEmpty, !pidNamespace.isEmpty, process.bootID == bootID,
      process.pidNamespace == pidNamespace
    else { return false }
    return start(of: process.processID) != process.start
  }

  private static var bootID: String {
    (try? String(contentsOfFile: bootIDFile, encoding: .utf8))?
      .trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
  }

  private static var pidNamespace: String {
    (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/pid")) ?? ""
  }

  /// When a process started, in clock ticks since the boot; nil if it has ended. See proc(5), `/proc/pid/stat`.
  private static func start(of processID: Int32) -> Int64? {
    guard let text = try? String(contentsOfFile: "/proc/\(processID)/stat", encoding: .utf8),
      // The name of the program, in parentheses, may contain spaces and parentheses.
      let end = text.lastIndex(of: ")")
    else { return nil }
    let fields = text[text.index(after: end)...].split(separator: " ")
    // A zombie has ended: only its parent has not noticed yet.
    guard fields.count > 19, fields[0] != "Z", fields[0] != "X" else { return nil }
    return Int64(fields[19])
  }
}
