import Definitions
import Foundation
import Ledger
import Logging
import PostgreSQL
import Vocabulary
import Warehouse

/// `lethe run --adopt-definition`: open runs continue with the current file, if the changes are allowed.
extension PipelineRuntime {
  /// An open run that has adopted the current definition.
  public struct Adopted: Sendable, Codable, Equatable {
    public let runID: Int64
    /// The changes, by path in the definition: the run's former text and the new text. A text is nil if the path
    /// does not exist there.
    public let changes: [String: [String?]]
    /// The number of the adoption's record in the chain of evidence.
    public let seal: Int64

    enum CodingKeys: String, CodingKey {
      case changes, seal
      case runID = "run_id"
    }
  }

  /// Replaces the definition of every open run by the current file. Allowed changes are names of columns, limits,
  /// sizes, and the actions of reasons for which no event is applied yet. A chunk that a limit has stopped stays
  /// stopped until it is approved.
  ///
  /// - Parameters:
  ///   - by: who decides. Nil for the user who started this process.
  ///   - note: why.
  /// - Throws: `DefinitionError` if the current file does not fit the database. `LedgerError` `.refused` if this
  ///   version cannot read a run's copy of the definition, or if a change is not allowed: it names the run and each
  ///   such change. Then no run is changed.
  public func adoptDefinition(by: String? = nil, note: String? = nil) async throws -> [Adopted] {
    let ledger = RunLedger(connection: lockConnection)
    let catalog = try await checkedCatalog(pipeline.definition)
    let now = catalog.resolved(pipeline.definition)
    var adoptions: [(run: Run, changes: [DefinitionDifference])] = []
    for open in try await ledger.unfinished(pipeline: pipeline.definition.name) {
      let run = try readable(open)
      let changes = run.definition.differences(to: now)
      guard !changes.isEmpty else { continue }
      let rules = AdoptionRules(
        catalog: catalog, applied: try await ledger.appliedReasons(of: run.id))
      let refused = changes.compactMap { change in
        rules.obstacle(to: change).map { "\(change): \($0)" }
      }
      guard refused.isEmpty else { throw refusal(run, refused) }
      adoptions.append((run, changes))
    }
    let seals = try await ledger.adopt(
      adoptions.map { .init(now, by: $0.run, changes: $0.changes) }, by: by ?? NSUserName(),
      note: note)
    return zip(adoptions, seals).map { adoption, seal in
      logger.notice(
        """
        run \(adoption.run.id) continues with the current \(pipeline.file): \
        \(adoption.changes.map(\.description).joined(separator: "; "))
        """)
      return Adopted(
        runID: adoption.run.id,
        changes: Dictionary(
          uniqueKeysWithValues: adoption.changes.map { ($0.path, [$0.before?.text, $0.now?.text]) }),
        seal: seal)
    }
  }

  private func readable(_ open: OpenRun) throws -> Run {
    do {
      return try open.run()
    } catch let error as LedgerError {
      throw LedgerError(
        code: .refused,
        message:
          "\(error.message); it cannot be compared with the current file, and nothing was changed",
        remedy: "run lethe run \(shellWord(pipeline.file)) --give-up to end the run")
    }
  }

  private func refusal(_ run: Run, _ refused: [String]) -> LedgerError {
    LedgerError(
      code: .refused,
      message: """
        run \(run.id) cannot continue with the current \(pipeline.file), and nothing was changed: \
        \(refused.joined(separator: "; "))
        """,
      remedy: """
        undo these changes in the file until the run is done; or run lethe run \(shellWord(pipeline.file)) --give-up \
        to end the run
        """)
  }
}

/// The changes of the definition that an open run may adopt: those that keep its earlier work correct.
struct AdoptionRules {
  /// The catalog of the current definition.
  let catalog: Catalog
  let applied: Set<RunLedger.AppliedReason>

  /// - Returns: the reason why the run must not adopt the change. Nil if the change is allowed.
  func obstacle(to change: DefinitionDifference) -> String? {
    switch ((change.now ?? change.before)?.part, change.before, change.now) {
    case (.limit?, _, _), (.chunkSize?, _, _), (.batchSize?, .some, .some): return nil
    case (.column(let table)?, .some(let before), .some(let now)):
      return obstacle(toRenaming: before.text, to: now.text, of: table)
    case (.condition(let table)?, .some(let before), .some(let now)):
      return obstacle(toCondition: before.text, becoming: now.text, of: table)
    case (.action(_, let reason, let table)?, let before, let now):
      return obstacle(to: reason, of: table, before, now)
    default: return "an open run cannot change this"
    }
  }

  private func obstacle(
    toRenaming column: String, to name: String, of table: TableName
  ) -> String? {
    guard let columns = catalog.table(table)?.columns else { return "there is no table \(table)" }
    return columns[column] == nil
      ? nil : "\(table) still has the column \(column), so \(name) is another column"
  }

  /// A new condition is allowed if it differs from the old one only in columns that were renamed.
  private func obstacle(
    toCondition before: String, becoming now: String, of table: TableName
  ) -> String? {
    let (tokens, tokensNow) = (SQLTokens(before).tokens, SQLTokens(now).tokens)
    let columns = catalog.table(table)?.columns ?? [:]
    let isRenamed =
      tokens.count == tokensNow.count
      && zip(tokens, tokensNow).allSatisfy { token, tokenNow in
        if token == tokenNow { return true }
        guard let name = token.name, let nameNow = tokenNow.name else { return false }
        return columns[name] == nil && columns[nameNow] != nil
      }
    return isRenamed ? nil : "the condition would select other rows"
  }

  private func obstacle(
    to reason: Reason, of table: TableName, _ before: DefinitionEntry?, _ now: DefinitionEntry?
  ) -> String? {
    if case .action(let action, _, _)? = before?.part,
      case .action(let actionNow, _, _)? = now?.part,
      isRenamed(action, actionNow, of: table)
    {
      return nil
    }
    guard let dataset = (now ?? before)?.dataset,
      applied.contains(.init(dataset: dataset, reason: reason.rawValue))
    else { return nil }
    return "events with the reason \(reason.rawValue) are already applied"
  }

  private func isRenamed(_ action: Action, _ now: Action, of table: TableName) -> Bool {
    let pairs = zip(action.columns, now.columns).filter { $0 != $1 }
    guard action.columns.count == now.columns.count, let columns = catalog.table(table)?.columns,
      pairs.allSatisfy({ columns[$0.0] == nil })
    else { return false }
    let names = Dictionary(pairs, uniquingKeysWith: { first, _ in first })
    return action.renamingColumns { names[$0] ?? $0 } == now
  }
}

/// The tokens of a condition, without the blanks between them.
private struct SQLTokens {
  struct Token: Equatable {
    let text: String
    /// The identifier or keyword as PostgreSQL reads it. Nil for other tokens.
    let name: String?
  }

  let tokens: [Token]

  init(_ sql: String) {
    tokens = sql.matches(
      of: #/"(?:[^"]|"")*"|'(?:[^']|'')*'|[\p{L}_][\p{L}\p{N}_$]*|[0-9][0-9.]*|\s+|./#
    ).compactMap { match -> Token? in
      let text = String(match.output)
      guard let first = text.first, !first.isWhitespace else { return nil }
      if first == "\"" {
        let name = text.dropFirst().dropLast().replacing("\"\"", with: "\"")
        return Token(text: text, name: String(name))
      }
      let isWord = first.isLetter || first == "_"
      return Token(
        text: isWord ? text.lowercased() : text, name: isWord ? text.lowercased() : nil)
    }
  }
}
