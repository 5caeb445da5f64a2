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
      // ArgumentParser's default exit code for wrong usage is 64. All programs of this project use 2.
      let message = ComplianceServerCommand.fullMessage(for: error)
      FileHandle.standardError.write(Data((message + "\n").utf8))
      exit(2)
    }
  }
}

struct ComplianceServerCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compliance-server",
    abstract: "A Batch Compliance API on a database with a platform's state.",
    discussion: """
      Implements X's Batch Compliance API on the tables platform.accounts and platform.posts. Use it for \
      development and tests, or to serve the data consumers of your own platform.

        createdb platform
        export DATABASE_URL=postgres:///platform COMPLIANCE_SERVER_TOKEN=anything
        compliance-server migrate up
        compliance-server seed --accounts 1000 --posts 100000
        compliance-server serve

      In addition to the API, serve has these pages:
        /                 the status page: jobs and requests, for a browser
        /metrics          metrics, for Prometheus
        /admin/faults     the injected faults
        /healthz          the state of the database and the spool; 503 if degraded; public
        /livez            200 while the process responds; public
        /readyz           200 if the server can serve requests now, otherwise 503; public
        /2/openapi.json   the OpenAPI description; public
      """,
    version: Product.version,
    subcommands: [Serve.self, Seed.self, Faults.self, Migrate.self])
}
