import Foundation
import TestSupport
import Testing

/// A command in the JSON that a program prints with `--experimental-dump-help`.
struct CommandHelp: Decodable, Sendable {
  let commandName: String
  let abstract: String?
  let discussion: String?
  let subcommands: [CommandHelp]?
  let arguments: [Argument]?

  struct Argument: Decodable, Sendable, Hashable {
    let kind: String
    let names: [Name]?
    let valueName: String?
    let abstract: String?
    let discussion: String?
    let allValues: [String]?
    let defaultValue: String?
    let isOptional: Bool
    let isRepeating: Bool
    let shouldDisplay: Bool

    struct Name: Decodable, Sendable, Hashable {
      let kind: String
      let name: String

      var written: String { kind == "long" ? "--\(name)" : "-\(name)" }
    }

    var isPositional: Bool { kind == "positional" }

    /// The argument as the reference writes it, such as `--work-dir <dir>`, `--dry-run` or `<pipeline>`.
    var written: String {
      let value = "<\(valueName ?? "")>"
      if isPositional { return isRepeating ? "\(value)…" : value }
      let names = (names ?? []).map(\.written).joined(separator: ", ")
      return kind == "option" ? "\(names) \(value)" : names
    }

    var meaning: String {
      var sentences = [abstract, discussion].compactMap { $0 }
      if let allValues { sentences.append("Values: \(allValues.joined(separator: ", ")).") }
      if let defaultValue, kind == "option" { sentences.append("Default: \(defaultValue).") }
      return sentences.joined(separator: " ").replacing(/\s+/, with: " ")
        .replacing("|", with: "\\|").replacing("<", with: "&lt;")
    }
  }

  var ownArguments: [Argument] { (arguments ?? []).filter(\.shouldDisplay) }
  var commands: [CommandHelp] { (subcommands ?? []).filter { $0.commandName != "help" } }
  /// The commands that have no subcommands.
  var leaves: [CommandHelp] { commands.isEmpty ? [self] : commands.flatMap(\.leaves) }

  /// Returns the help of a program that was built with the tests.
  static func of(_ program: String) async throws -> CommandHelp {
    struct Dump: Decodable {
      let command: CommandHelp
    }
    let result = try await Program.run(program, ["--experimental-dump-help"])
    return try JSONDecoder().decode(Dump.self, from: Data(result.stdout.utf8)).command
  }

  // MARK: The form of a page

  /// Returns the reference of all commands of a program, in Markdown. Options of four or more commands are listed once,
  /// before the commands.
  func reference() -> String {
    var counts: [Argument: Int] = [:]
    for argument in leaves.flatMap(\.ownArguments) { counts[argument, default: 0] += 1 }
    let shared = Set(counts.filter { $0.value >= 4 && !$0.key.isPositional }.keys)
    let inOrder = leaves.flatMap(\.ownArguments).filter(shared.contains)
    var seen: Set<Argument> = []
    var parts = [
      "### Options that several commands take",
      Self.table(inOrder.filter { seen.insert($0).inserted }),
    ]
    for command in commands { parts += command.sections(commandName, shared, depth: 3) }
    return parts.joined(separator: "\n\n")
  }

  private func sections(_ path: String, _ shared: Set<Argument>, depth: Int) -> [String] {
    let path = "\(path) \(commandName)"
    var parts = ["\(String(repeating: "#", count: depth)) `\(path)`", abstract ?? ""]
    if let discussion {
      let isPreformatted = discussion.split(separator: "\n").contains { $0.hasPrefix("  ") }
      parts.append(isPreformatted ? "```text\n\(discussion)\n```" : discussion)
    }
    if commands.isEmpty { parts += leaf(path, shared) }
    return parts + commands.flatMap { $0.sections(path, shared, depth: depth + 1) }
  }

  private func leaf(_ path: String, _ shared: Set<Argument>) -> [String] {
    let positional = ownArguments.filter(\.isPositional)
      .map { $0.isOptional ? "[\($0.written)]" : $0.written }
    let required = ownArguments.filter { !$0.isPositional && !$0.isOptional }.map(\.written)
    let own = ownArguments.filter { !shared.contains($0) }
    let others = ownArguments.filter(shared.contains).compactMap { $0.names?.last?.written }
      .map { "`\($0)`" }
    return [
      "```text\n\(([path] + positional + required + ["[options]"]).joined(separator: " "))\n```"
    ]
      + (own.isEmpty ? [] : [Self.table(own)])
      + (others.isEmpty ? [] : ["Also: \(others.joined(separator: ", "))."])
  }

  private static func table(_ arguments: [Argument]) -> String {
    (["| argument or option | meaning |", "|---|---|"]
      + arguments.map { "| `\($0.written)` | \($0.meaning) |" }).joined(separator: "\n")
  }

  // MARK: Checking a command line

  /// Returns the first mistake in the arguments of the program. Nil if there is no mistake.
  func mistake(in arguments: [String]) -> String? {
    var command = self
    var path = commandName
    for (index, word) in arguments.enumerated() {
      if word.hasPrefix("-") {
        let name = String(word.prefix { $0 != "=" })
        let known = command.ownArguments.flatMap { $0.names ?? [] }.map(\.written)
        if !known.contains(name) { return "\(path) has no option \(name)" }
      } else if !command.commands.isEmpty {
        guard let inner = command.subcommands?.first(where: { $0.commandName == word }) else {
          return "\(path) has no command \(word)"
        }
        command = inner
        path += " \(word)"
        if word == "help" { return nil }
      } else if index > 0, Self.endsCommand(word) {
        return nil
      }
    }
    return nil
  }

  private static func endsCommand(_ word: String) -> Bool {
    word.wholeMatch(of: /[0-9]?[<>|&;].*/) != nil
  }
}

/// Compares the commands and options in the documentation with the programs.
@Suite struct CommandReferenceTests {
  @Test(arguments: [
    ("lethe", "docs/reference/commands.md"), ("compliance-server", "docs/reference/service.md"),
  ])
  func thePageHasEachCommandAndOption(program: String, path: String) async throws {
    let help = try await CommandHelp.of(program)
    #expect(help.leaves.count > 4)
    try Page(path).expectPart("commands", is: help.reference())
  }

  /// Checks the commands in code blocks and in the text.
  @Test(arguments: try Page.all().filter { $0.path != "CHANGELOG.md" })
  func aPageNamesOnlyCommandsAndOptionsThatExist(page: Page) async throws {
    let programs = [
      "lethe": try await CommandHelp.of("lethe"),
      "compliance-server": try await CommandHelp.of("compliance-server"),
    ]
    let blocks = page.codeBlocks.filter { ["sh", "console", "text"].contains($0.language) }
    let lines =
      blocks.flatMap { $0.text.replacing("\\\n", with: " ").split(separator: "\n") }.map(
        String.init)
      + page.prose.flatMap { quoted($0) }
    for line in lines {
      for (program, arguments) in Self.commands(in: line) {
        if let mistake = programs[program]?.mistake(in: arguments) {
          Issue.record("\(page.path): \(line): \(mistake)")
        }
      }
    }
  }

  /// Returns the calls of the programs in a line of shell code. A call is at the beginning of the line, or after an
  /// operator.
  private static func commands(in line: String) -> [(program: String, arguments: [String])] {
    var words = line.replacing(/'[^']*'|"[^"]*"/, with: "…").split(separator: " ").map(String.init)
    if ["$", ">", "#"].contains(words.first) { words.removeFirst() }
    var commands: [(String, [String])] = []
    for part in words.split(whereSeparator: { ["|", "||", "&&", ";", "$("].contains($0) }) {
      // Environment variables may come before the program's name.
      let command = part.drop { $0.wholeMatch(of: /[A-Z_]+=.*/) != nil }
      guard let program = command.first, ["lethe", "compliance-server"].contains(program) else {
        continue
      }
      commands.append((program, Array(command.dropFirst())))
    }
    return commands
  }
}
