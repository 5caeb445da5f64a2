import ComplianceService
import Foundation
import TestSupport
import Testing

/// Compares the pages and metrics in docs/reference with a live service.
@Suite(.endedIfItHangs) struct ServiceReferenceTests {
  /// Returns the first cell of each row of a table.
  private static func names(_ file: String, _ heading: String) throws -> [String] {
    let page = try String(
      contentsOfFile: "\(repositoryRootPath)/docs/reference/\(file)", encoding: .utf8)
    let section = try #require(
      page.split(separator: "\n## ").first { $0.hasPrefix("\(heading)\n") })
    return section.split(separator: "\n").filter { $0.hasPrefix("| `") }
      .map { String($0.dropFirst(3).prefix { $0 != "`" }) }
  }

  @Test func eachPageOnTheReferencePageIsServed() async throws {
    let paths = try Self.names("service.md", "Pages")
    #expect(paths.count == 7)
    try await LocalService.run { service in
      for path in paths {
        let status = try await service.get(path).status
        #expect(status == 200, "\(path)")
      }
    }
  }

  @Test func theReferencePageHasExactlyTheServedMetrics() async throws {
    try await LocalService.run { service in
      let metrics = try await service.get("/metrics").text
      let served = metrics.matches(of: /(?m)^# TYPE (\S+)/).map { String($0.1) }
      let documented = try Self.names("metrics.md", "The service")
      #expect(documented == served)
    }
  }
}
