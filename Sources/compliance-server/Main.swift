import ArgumentParser
import Foundation

@main
struct Main {
  static func main() async {
    do {
      var command = try ComplianceServerCommand.parseAsRoot()
      if var command = command as? any AsyncParsableCommand {
        try await command.run()
      } else {
        try command.run()
      }
    } catch {
      guard ComplianceServerCommand.exitCode(for: error) == .validationFailure else {
        ComplianceServerCommand.exit(withError: error)
      }
      // Wrong usage is 2, as with the other commands of this program.
      let message = ComplianceServerCommand.fullMessage(for: error)
      FileHandle.standardError.write(Data((message + "\n").utf8))
      exit(2)
    }
  }
}

struct ComplianceServerCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compliance-server",
    abstract: "The Batch Compliance endpoints over a database of platform state.",
    discussion: """
      Answers as X's Batch Compliance API does, from the tables platform.accounts and \
      platform.posts, for development, tests and demonstrations.
      """,
    subcommands: [Serve.self, Seed.self, Faults.self, Migrate.self])
}
