import Foundation
import TestSupport
import Testing

/// Each link within the repository leads to an existing file, and to an existing heading in it.
@Suite struct LinkTests {
  @Test(arguments: try Page.all())
  func eachLinkHasAnExistingTarget(page: Page) throws {
    let folder = URL(filePath: "/\(page.path)").deletingLastPathComponent().path
    for link in Self.links(of: page) where !link.contains("://") && !link.hasPrefix("mailto:") {
      let parts = link.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false)
      let path = parts[0].isEmpty ? "/\(page.path)" : "\(folder)/\(parts[0])"
      let target = String(URL(filePath: path).standardizedFileURL.path.dropFirst())
      guard FileManager.default.fileExists(atPath: "\(repositoryRootPath)/\(target)") else {
        Issue.record("\(page.path) links to \(link), which does not exist")
        continue
      }
      guard parts.count == 2 else { continue }
      let anchors = Self.anchors(of: try Page(target))
      #expect(anchors.contains(String(parts[1])), "\(page.path) links to \(link)")
    }
  }

  /// Every page can be reached from the README by links.
  @Test func everyPageCanBeReachedFromTheReadme() throws {
    var seen: Set<String> = []
    var waiting = ["README.md"]
    while let path = waiting.popLast() {
      guard seen.insert(path).inserted, path.hasSuffix(".md") else { continue }
      let folder = URL(filePath: "/\(path)").deletingLastPathComponent().path
      for link in Self.links(of: try Page(path)) where !link.contains("://") {
        let file = link.prefix { $0 != "#" }
        if file.isEmpty { continue }
        waiting.append(
          String(URL(filePath: "\(folder)/\(file)").standardizedFileURL.path.dropFirst()))
      }
    }
    for page in try Page.all() {
      #expect(seen.contains(page.path), "\(page.path) cannot be reached from README.md")
    }
  }

  @Test func theReadmeIsShort() throws {
    #expect(try Page("README.md").lines.count <= 150)
  }

  private static func links(of page: Page) -> [String] {
    page.prose.joined(separator: "\n").matches(of: /\]\(([^()\s]+)\)/).map { String($0.1) }
  }

  /// The anchors that GitHub and GitLab create from headings.
  private static func anchors(of page: Page) -> Set<String> {
    var counts: [String: Int] = [:]
    var anchors: Set<String> = []
    for heading in page.sections.dropFirst().map(\.heading) {
      let plain = heading.replacing(/\[([^\]]*)\]\([^)]*\)/) { $0.output.1 }
      let anchor = plain.lowercased().filter {
        $0.isLetter || $0.isNumber || $0 == " " || $0 == "-" || $0 == "_"
      }.replacing(" ", with: "-")
      let count = counts[anchor, default: 0]
      counts[anchor] = count + 1
      anchors.insert(count == 0 ? anchor : "\(anchor)-\(count)")
    }
    return anchors
  }
}
