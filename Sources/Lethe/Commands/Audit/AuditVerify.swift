import ArgumentParser
import Evidence
import Ledger

/// `lethe audit verify`: checks whether records of the ledger were changed or removed.
struct AuditVerify: AsyncParsableCommand, OutputCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Verify the chain of evidence, and list records that were changed or removed.",
    discussion: """
      Prints the head of the chain. Keep its hash in a place where users with write access to the ledger cannot \
      change it, and pass it to the next call with --expect. Then verify also finds that records at the end of the \
      chain were removed. The exit code is 0 if the ledger is intact, and 1 if not.
      """)

  @OptionGroup var database: DatabaseOption
  @OptionGroup var output: OutputOptions

  @Option(
    help: ArgumentHelp(
      "A hash that must be in the chain: the head of an earlier verify.", valueName: "sha256"))
  var expect: String?

  mutating func validate() throws {
    guard let expect else { return }
    guard expect.utf8.count == 64, expect.allSatisfy(\.isHexDigit) else {
      throw ValidationError("--expect must have 64 hexadecimal digits, as verify prints them")
    }
  }

  mutating func run() async throws {
    let (expected, options) = (expect?.lowercased(), output)
    let connectionString = database.connectionString
    try await untilSignalled {
      let verification = try await AuditCommand.withLedger(connectionString) {
        try await $0.verify(expecting: expected)
      }
      try options.write(Result(verification)) { Self.text(verification) }
      guard verification.isIntact else { throw ExitStatus.failed }
    }
  }

  private static func text(_ verification: AuditVerification) -> String {
    var lines = verification.faults.map {
      "\($0.table) where \($0.key): \($0.problem)\n  remedy: \($0.remedy)"
    }
    let more = verification.faultCount - verification.faults.count
    if more > 0 { lines.append("… and \(grouped(more)) more faults") }
    lines.append(
      verification.isIntact
        ? "the ledger is intact"
        : "the ledger is NOT intact, faults: \(grouped(verification.faultCount))")
    lines.append(
      """
      checked: \(grouped(verification.records)) records of the chain; \
      \(grouped(verification.eventsProven)) event records in \(grouped(verification.batchesProven)) \
      batches are unchanged
      """)
    if verification.batchesPruned > 0 {
      lines.append(
        "checked only by the chain: \(grouped(verification.batchesPruned)) batches whose event records were pruned"
      )
    }
    if verification.batchesUnsealed > 0 {
      lines.append(
        """
        not sealed: \(grouped(verification.batchesUnsealed)) batches of chunks that are not \
        completely applied
        """)
    }
    if verification.eventsBeforeChain > 0 {
      lines.append(
        "not proven: \(grouped(verification.eventsBeforeChain)) event records that are older than the chain"
      )
    }
    if let head = verification.head {
      lines.append("head: record \(head.number), \(seconds(head.sealedAt)), SHA-256 \(head.sha256)")
      lines.append("  keep it elsewhere, and pass it to the next verify with --expect")
    }
    return lines.joined(separator: "\n")
  }

  private struct Result: Encodable {
    let is_whole: Bool
    let faults: [Fault]
    let fault_count: Int
    let records: Int
    let head: Head?
    let batches_proven: Int
    let events_proven: Int
    let batches_pruned: Int
    let batches_unsealed: Int
    let events_before_chain: Int

    init(_ verification: AuditVerification) {
      is_whole = verification.isIntact
      faults = verification.faults.map {
        Fault(table: $0.table, key: $0.key, problem: $0.problem, remedy: $0.remedy)
      }
      fault_count = verification.faultCount
      records = verification.records
      head = verification.head.map {
        Head(number: $0.number, sha256: $0.sha256, sealed_at: $0.sealedAt)
      }
      batches_proven = verification.batchesProven
      events_proven = verification.eventsProven
      batches_pruned = verification.batchesPruned
      batches_unsealed = verification.batchesUnsealed
      events_before_chain = verification.eventsBeforeChain
    }
  }

  private struct Fault: Encodable {
    let table, key, problem, remedy: String
  }

  private struct Head: Encodable {
    let number: Int64
    let sha256, sealed_at: String
  }
}
