import Foundation
import TestSupport
import Testing

/// Each test and each suite that docs/reliability.md names exists.
@Suite struct NamedTestTests {
  @Test func eachNamedTestAndSuiteExists() throws {
    let names = try Page("docs/reliability.md").prose.flatMap { quoted($0) }
      .filter { $0.wholeMatch(of: /[A-Z][A-Za-z0-9]*Tests(\.[a-z][A-Za-z0-9]*)?/) != nil }
    #expect(names.count > 50, "the page names its tests as Suite.test")
    let suites = try Self.suites()
    for name in Set(names).sorted() {
      let parts = name.split(separator: ".").map(String.init)
      guard let tests = suites[parts[0]] else {
        Issue.record("there is no suite \(parts[0])")
        continue
      }
      if parts.count == 2 { #expect(tests.contains(parts[1]), "there is no test \(name)") }
    }
  }

  /// Returns the tests of each suite. They are the functions in the files that declare or extend the suite.
  private static func suites() throws -> [String: Set<String>] {
    let root = "\(repositoryRootPath)/Tests"
    var suites: [String: Set<String>] = [:]
    for case let path as String in try #require(FileManager.default.enumerator(atPath: root))
    where path.hasSuffix(".swift") {
      let text = try String(contentsOfFile: "\(root)/\(path)", encoding: .utf8)
      let tests = Set(text.matches(of: /func ([a-z][A-Za-z0-9]*)\(/).map { String($0.1) })
      for match in text.matches(of: /(?:struct|extension) ([A-Z][A-Za-z0-9]*Tests)\b/) {
        suites[String(match.1), default: []].formUnion(tests)
      }
    }
    return suites
  }
}
