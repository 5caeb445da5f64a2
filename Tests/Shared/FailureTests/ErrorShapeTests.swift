import Failures
import Foundation
import TestSupport
import Testing

@Suite struct ErrorShapeTests {
  private struct Sample: ExplainedError {
    var message = "there is no table shop.posts"
    var remedy = "create it"
    var context = ErrorContext()
    var disposition = Disposition.usage
  }

  @Test func theDescriptionHasMessagePositionAndRemedy() {
    #expect("\(Sample())" == "there is no table shop.posts\n  remedy: create it")
    let located = Sample(context: ErrorContext(file: "nightly.yaml", line: 7))
    #expect("\(located)" == "nightly.yaml:7: there is no table shop.posts\n  remedy: create it")
  }

  @Test(arguments: [
    (ErrorContext(), nil), (ErrorContext(file: "a.yaml"), "a.yaml"),
    (ErrorContext(chunk: 12, number: 3, dataset: "posts"), "chunk 12 (posts #3)"),
    (ErrorContext(operation: "get job 5"), "get job 5"),
  ])
  func aContextHasALabel(context: ErrorContext, label: String?) {
    #expect(context.label == label)
  }

  @Test func eachDispositionHasItsOwnExitCode() {
    let codes = Disposition.allCases.map(\.exitCode)
    #expect(Set(codes).count == codes.count)
    // No error has these exit codes: 0 (done), 3 (stopped by a limit), 4 (lines in quarantine) and 99 (idle). They come
    // from a command's report.
    #expect(Set(codes).isDisjoint(with: [0, 3, 4, 99]))
  }

  /// A public error that is not an `ExplainedError` would end a program with exit code 1 and without a remedy.
  @Test func everyPublicErrorIsAnExplainedError() throws {
    // These errors do not end a program. The first two are caught and reported as a mistake in a definition or an
    // option. `DuplicateJobID` ends one attempt to create a job.
    let caught = ["ProxyRefusal", "Malformed", "DuplicateJobID"]
    let sources = "\(repositoryRootPath)/Sources"
    let paths = try #require(FileManager.default.enumerator(atPath: sources)).compactMap {
      $0 as? String
    }.filter { $0.hasSuffix(".swift") }
    #expect(paths.count > 200)
    for path in paths {
      let text = try String(contentsOfFile: "\(sources)/\(path)", encoding: .utf8)
      for match in text.matches(
        of: /public (?:struct|enum|final class|actor) (\w+): [^{]*\bError\b/)
      {
        #expect(caught.contains(String(match.1)), "\(path): \(match.0)")
      }
    }
  }
}
