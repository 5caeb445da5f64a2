import Foundation
import SystemPackage
import TestSupport
import Testing

/// The tutorial and the pages that continue it. The test runs each command and writes each file. The output must equal
/// the output on the page, except for the parts that differ between runs, such as times, job IDs and hashes.
@Suite struct TutorialTests {
  private static let pages = [
    "limits-and-approvals", "holds", "quarantine", "audit", "guard", "least-privilege",
  ]

  @Test func thePagesShowTheOutputOfEachCommand() async throws {
    let tutorial = try Walk.Part(Page("docs/tutorial.md"))
    let parts = try Self.pages.map { try Walk.Part(Page("docs/how-to/\($0).md")) }
    // The other pages use the databases of the tutorial. So the tutorial's last commands, which drop the
    // databases, run last.
    let walk = Walk(parts: [tutorial.beforeCleanup] + parts + [tutorial.cleanup])
    let outputs = try await walk.outputs()
    try #require(outputs.count == walk.commands.count, "\(outputs)")
    if Page.isUpdating {
      var left = outputs[...]
      var whole: [String: [String]] = [:]
      for part in walk.parts {
        whole[part.page.path, default: []] += left.prefix(part.commands.count)
        left = left.dropFirst(part.commands.count)
      }
      for part in [tutorial] + parts {
        try part.page.write(part.text(with: whole[part.page.path] ?? []))
      }
      return
    }
    for (command, output) in zip(walk.commands, outputs) {
      #expect(
        Walk.withoutVaryingParts(output) == Walk.withoutVaryingParts(command.output),
        "\(command.place): \(command.text): the output differs from the page: run make docs")
    }
  }
}

/// A series of pages. Their commands run in one shell, one page after another.
private struct Walk {
  /// The files and the commands of a page, or of a part of it.
  struct Part {
    let page: Page
    var commands: [Command] = []

    init(_ page: Page) throws {
      self.page = page
      var files: [(name: String, text: String)] = []
      for block in page.codeBlocks {
        if block.language == "console" {
          commands += Walk.commands(of: block, page, after: files)
          files = []
        } else if let name = block.fileName {
          files.append((String(name), block.text))
        }
      }
      try #require(commands.count > 2)
    }

    /// The last block of commands, which drops the databases.
    private var cleanupBlock: Page.CodeBlock? { page.codeBlocks.last { $0.language == "console" } }

    var beforeCleanup: Part {
      var part = self
      part.commands.removeAll { $0.line >= cleanupBlock?.line ?? 0 }
      return part
    }

    var cleanup: Part {
      var part = self
      part.commands.removeAll { $0.line < cleanupBlock?.line ?? 0 }
      return part
    }
  }

  struct Command {
    let text: String
    let output: String
    /// The files that the reader must write before the command.
    let files: [(name: String, text: String)]
    let page: String
    /// The number of the command's line, counted from 1.
    let line: Int

    var place: String { "\(page):\(line)" }
  }

  let parts: [Part]
  var commands: [Command] { parts.flatMap(\.commands) }

  /// Returns the commands of a block. `$ ` begins a command, `> ` continues it, and all other lines are its output.
  private static func commands(
    of block: Page.CodeBlock, _ page: Page, after files: [(name: String, text: String)]
  ) -> [Command] {
    var commands: [(text: String, output: String, line: Int)] = []
    for (index, line) in block.text.split(separator: "\n", omittingEmptySubsequences: false)
      .dropLast().enumerated()
    {
      if line.hasPrefix("$ ") {
        commands.append((String(line.dropFirst(2)), "", block.line + index))
      } else if line.hasPrefix("> "), commands.last?.output.isEmpty == true {
        commands[commands.count - 1].text += "\n" + line.dropFirst(2)
      } else if !commands.isEmpty {
        commands[commands.count - 1].output += line + "\n"
      }
    }
    return commands.enumerated().map { index, command in
      Command(
        text: command.text, output: command.output, files: index == 0 ? files : [],
        page: page.path, line: command.line)
    }
  }

  // MARK: Running the pages

  /// Runs all commands in one shell and returns their outputs. The names of the databases and the service's address are
  /// unique to this run. The databases are dropped afterwards.
  func outputs() async throws -> [String] {
    let suffix = "_\(ProcessInfo.processInfo.processIdentifier)"
    let names = ["tutorial_shop", "tutorial_platform", "tutorial_nightly"]
    let address = LoopbackAddress.random().description
    func withUniqueNames(_ text: String) -> String {
      names.reduce(text.replacing("127.0.0.1:8080", with: address)) {
        $0.replacing($1, with: $1 + suffix)
      }
    }
    func withNamesOfPage(_ text: String) -> String {
      text.replacing(address, with: "127.0.0.1:8080").replacing(suffix, with: "")
    }
    return try await withTemporaryDirectory { directory in
      let separator = "\u{1}"
      // The trap ends the service, which runs in the background, no matter how the shell exits.
      var script = """
        trap 'jobs -p | xargs --no-run-if-empty kill; wait' EXIT
        exec >walk.out 2>&1
        export HOME=$PWD

        """
      for (index, command) in commands.enumerated() {
        for file in command.files {
          let copy = "\(file.name).\(index)"
          try withUniqueNames(file.text).write(
            toFile: directory.appending(copy).string, atomically: true, encoding: .utf8)
          script += "mv '\(copy)' '\(file.name)'\n"
        }
        script +=
          "printf '\(separator)'; (exit ${code:-0}); \(withUniqueNames(command.text))\ncode=$?\n"
      }
      try await Self.bash("-c", script, in: directory.string)
      let output = try String(
        contentsOfFile: directory.appending("walk.out").string, encoding: .utf8)
      let cleanup = names.dropLast().map { "dropdb --force --if-exists \($0)\(suffix)" }
      try await Self.bash(
        "-c",
        "exec 2>walk.err; \((cleanup + ["dropuser --if-exists \(withUniqueNames(names[2]))"]).joined(separator: "; "))",
        in: directory.string)
      return withNamesOfPage(output).split(separator: separator, omittingEmptySubsequences: false)
        .dropFirst()
        .map(String.init)
    }
  }

  private static func bash(_ arguments: String..., in directory: String) async throws {
    let programs = URL(filePath: Program.path("lethe")).deletingLastPathComponent().path
    let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
    _ = try await Program.external(
      ["/bin/bash"] + arguments, environment: ["PATH": "\(programs):\(path)"],
      without: [
        "DATABASE_URL", "SSL_CERT_FILE", "SSL_CERT_DIR", "LETHE_WORK_DIR", "XDG_STATE_HOME",
      ], directory: directory)
  }

  // MARK: Comparing

  /// Returns the output without the parts that differ between runs. These are times, job IDs, hashes, and the
  /// column widths that depend on them. Other parts depend on the order in which the datasets' jobs are processed and
  /// their chunks are applied.
  static func withoutVaryingParts(_ output: String) -> String {
    output.replacing(/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z/, with: "TIME")
      .replacing(/\b[0-9a-f]{64}\b/, with: "HASH").replacing(/\b2[0-9]{18}\b/, with: "JOB")
      .replacing(/\b(export|submit|await|collect|apply) [0-9.]+/) { "\($0.output.1) SECONDS" }
      .replacing(/in [0-9.]+ s/, with: "in SECONDS s")
      .replacing(/record [0-9]+/, with: "record NUMBER")
      .replacing(/--after [0-9]+/, with: "--after HOLD")
      .replacing(/(?m)^ *[0-9]+ +app\./, with: "HOLD app.")
      .replacing(/(?m)^.*"reason":"archived".*$/, with: "LINE")
      .replacing(#/ +/#, with: " ").trimmingCharacters(in: .whitespacesAndNewlines)
  }
}

extension Walk.Part {
  /// Returns the page's text with these outputs instead of its own outputs.
  fileprivate func text(with outputs: [String]) -> String {
    let old = page.lines
    var lines: [String] = []
    var outputs = outputs[...]
    var index = 0
    var isConsole = false
    while index < old.count {
      let line = old[index]
      lines.append(String(line))
      index += 1
      if line.hasPrefix("```") { isConsole = line.hasPrefix("```console") }
      guard isConsole, line.hasPrefix("$ "), let output = outputs.popFirst() else { continue }
      while old[index].hasPrefix("> ") {
        lines.append(String(old[index]))
        index += 1
      }
      lines += Self.lines(of: output)
      while !old[index].hasPrefix("$ "), !old[index].hasPrefix("```") { index += 1 }
    }
    return lines.joined(separator: "\n")
  }

  private static func lines(of output: String) -> [String] {
    let text = output.trimmingCharacters(in: .newlines)
    if text.isEmpty { return [] }
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    return lines.map { String($0.replacing(/\s+$/, with: "")) }
  }
}
