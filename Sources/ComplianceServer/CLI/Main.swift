import ArgumentParser
import Failures
import Foundation
import ProductVersion

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
    } catch let error as any ExplainedError {
      FileHandle.standardError.write(Data("Error: \(error)\n".utf8))
      exit(error.disposition.exitCode)
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
      platform.posts: for development and tests, and for a platform's own data consumers.

        createdb platform
        export DATABASE_URL=postgres:///platform COMPLIANCE_SERVER_TOKEN=anything
        compliance-server migrate up
        compliance-server seed --accounts 1000 --posts 100000
        compliance-server serve

      Besides the API, serve has these pages:
        /                 jobs and requests, for a browser
        /metrics          counts, for Prometheus
        /admin/faults     the faults of a plan that were served
        /healthz          what it knows of its database and spool, 503 if not all is well; open to everybody
        /livez            200 while the process answers; open to everybody
        /readyz           whether it can serve now, else 503; open to everybody
        /2/openapi.json   what it serves, in OpenAPI; open to everybody
      """,
    version: Product.version,
    subcommands: [Serve.self, Seed.self, Faults.self, Migrate.self])
}
