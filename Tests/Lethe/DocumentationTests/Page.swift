import Foundation
import TestSupport
import Testing

/// A page of the documentation, or the README.
struct Page: Sendable, CustomTestStringConvertible {
  /// The path from the repository's root, such as `docs/tutorial.md`.
  let path: String
  let text: String

  var testDescription: String { path }

  init(_ path: String) throws {
    self.path = path
    text = try String(contentsOfFile: "\(repositoryRootPath)/\(path)", encoding: .utf8)
  }

  /// The README, the changelog, and all pages in `docs`.
  static func all() throws -> [Page] {
    let docs = FileManager.default.enumerator(atPath: "\(repositoryRootPath)/docs")?
      .compactMap { $0 as? String }.filter { $0.hasSuffix(".md") }.sorted()
    return try (["README.md", "CHANGELOG.md"] + (docs ?? []).map { "docs/\($0)" }).map(Page.init)
  }

  var lines: [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false) }

  // MARK: Code blocks

  struct CodeBlock: Sendable {
    /// The text after the fence, such as `yaml shop.yaml`.
    let info: String
    let text: String
    /// The number of the line on which the text begins, counted from 1.
    let line: Int

    var language: Substring { info.split(separator: " ").first ?? "" }
    /// The file to which the reader must write the text.
    var fileName: Substring? { info.split(separator: " ").dropFirst().first }
  }

  var codeBlocks: [CodeBlock] {
    var blocks: [CodeBlock] = []
    var open: (info: String, line: Int, lines: [Substring])?
    for (index, line) in lines.enumerated() {
      if line.hasPrefix("```") {
        if let block = open {
          blocks.append(
            CodeBlock(
              info: block.info, text: block.lines.map { $0 + "\n" }.joined(), line: block.line))
          open = nil
        } else {
          open = (String(line.dropFirst(3)), index + 2, [])
        }
      } else {
        open?.lines.append(line)
      }
    }
    return blocks
  }

  /// The lines outside of code blocks.
  var prose: [Substring] {
    var isCode = false
    return lines.filter { line in
      if line.hasPrefix("```") { isCode.toggle() }
      return !isCode && !line.hasPrefix("```")
    }
  }

  // MARK: Headings and tables

  struct Section: Sendable {
    let heading: String
    let lines: [Substring]

    /// The cells of each row of the section's tables, without the heading rows.
    var rows: [[String]] {
      var rows: [[String]] = []
      for (index, line) in lines.enumerated() where line.hasPrefix("|") {
        let isHeading = index + 1 < lines.count && lines[index + 1].hasPrefix("|--")
        if !isHeading, !line.hasPrefix("|--") { rows.append(Self.cells(of: line)) }
      }
      return rows
    }

    private static func cells(of line: Substring) -> [String] {
      line.replacing("\\|", with: "\u{0}").split(separator: "|", omittingEmptySubsequences: false)
        .dropFirst().dropLast()
        .map {
          $0.replacing("\u{0}", with: "|").trimmingCharacters(in: .whitespaces)
        }
    }
  }

  /// The text before the first heading, as a section with an empty heading. Then each heading with the text up to the
  /// next heading of any level. Code blocks are left out.
  var sections: [Section] {
    var sections: [(heading: String, lines: [Substring])] = [("", [])]
    for line in prose {
      if line.hasPrefix("#") {
        sections.append((line.drop { $0 == "#" }.trimmingCharacters(in: .whitespaces), []))
      } else {
        sections[sections.count - 1].lines.append(line)
      }
    }
    return sections.map { Section(heading: $0.heading, lines: $0.lines) }
  }

  func section(_ heading: String) throws -> Section {
    try #require(sections.first { $0.heading == heading }, "\(path) has no heading \(heading)")
  }

  // MARK: Parts that are generated from the program

  /// Compares a part of the page with the text that the program generates. If `LETHE_UPDATE_DOCS` is set, replaces the
  /// part with the text instead.
  func expectPart(_ name: String, is generated: String) throws {
    let (begin, end) = ("<!-- \(name): made from the program -->\n", "<!-- end of \(name) -->\n")
    let start = try #require(text.firstRange(of: begin), "\(path) has no line \(begin)").upperBound
    let stop = try #require(text.firstRange(of: end), "\(path) has no line \(end)").lowerBound
    let whole = "\n\(generated)\n"
    if Self.isUpdating {
      try write(text[..<start] + whole + text[stop...])
    } else {
      #expect(
        text[start..<stop] == whole, "\(path) differs from the text of the program: run make docs")
    }
  }

  func write(_ text: some StringProtocol) throws {
    try String(text).write(
      toFile: "\(repositoryRootPath)/\(path)", atomically: true, encoding: .utf8)
  }

  static var isUpdating: Bool {
    ProcessInfo.processInfo.environment["LETHE_UPDATE_DOCS"] != nil
  }
}

/// Returns the parts of a text that are in backquotes.
func quoted(_ text: some StringProtocol) -> [String] {
  text.split(separator: "`", omittingEmptySubsequences: false).enumerated()
    .filter { $0.offset % 2 == 1 }.map { String($0.element) }
}
