import Foundation
import Ledger

/// This process, and what Linux reports about processes on this machine.
enum LocalProcess {
  private static let bootIDFile = "/proc/sys/kernel/random/boot_id"

  /// The program with its subcommand, for messages: for example `lethe run`.
  static var command: String {
    guard let word = CommandLine.arguments.dropFirst().first, word.wholeMatch(of: /[a-z]+/) != nil
    else { return "lethe" }
    return "lethe \(word)"
  }

  static var identity: ProcessIdentity {
    let processID = getpid()
    let start: Int64 = if case .started(let ticks) = state(of: processID) { ticks } else { 0 }
    return ProcessIdentity(
      host: hostName, processID: processID, bootID: bootID, pidNamespace: pidNamespace,
      start: start)
  }

  /// What is known about a process ID.
  enum State: Equatable {
    /// A process with this ID runs. It started at this time, in clock ticks since the boot.
    case started(Int64)
    /// A process with this ID exists, but its data is hidden: `/proc` can be mounted with `hidepid`.
    case hidden
    case ended
  }

  /// Whether a process is known to have ended. False for a process of another machine, boot or container, because its
  /// process ID means nothing here.
  static func hasEnded(_ process: ProcessIdentity) -> Bool {
    guard !bootID.isEmpty, !pidNamespace.isEmpty, process.bootID == bootID,
      process.pidNamespace == pidNamespace
    else { return false }
    return hasEnded(process, state: state(of: process.processID))
  }

  /// - Parameter state: the current state of the process ID. Another process may have this ID now.
  static func hasEnded(_ process: ProcessIdentity, state: State) -> Bool {
    switch state {
    case .started(let start): process.start != 0 && start != process.start
    case .hidden: false
    case .ended: true
    }
  }

  /// The machine's host name. DNS is not queried, because a query could take long.
  static var hostName: String {
    var name = [UInt8](repeating: 0, count: 256)
    guard name.withUnsafeMutableBytes({ gethostname($0.baseAddress!, $0.count - 1) }) == 0 else {
      return "unknown"
    }
    return String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
  }

  private static var bootID: String {
    (try? String(contentsOfFile: bootIDFile, encoding: .utf8))?
      .trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
  }

  private static var pidNamespace: String {
    (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/pid")) ?? ""
  }

  /// See proc(5), `/proc/pid/stat`.
  static func state(of processID: Int32) -> State {
    guard let text = try? String(contentsOfFile: "/proc/\(processID)/stat", encoding: .utf8) else {
      return kill(processID, 0) != 0 && errno == ESRCH ? .ended : .hidden
    }
    // The name of the program, in parentheses, may contain spaces and parentheses.
    guard let end = text.lastIndex(of: ")") else { return .hidden }
    let fields = text[text.index(after: end)...].split(separator: " ")
    guard fields.count > 19, let start = Int64(fields[19]) else { return .hidden }
    // A zombie has ended, but its parent has not read its exit status yet.
    return fields[0] == "Z" || fields[0] == "X" ? .ended : .started(start)
  }
}
