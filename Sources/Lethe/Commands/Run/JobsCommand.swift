import ArgumentParser
import ComplianceAPI
import Definitions
import Runtime
import Vocabulary

/// `lethe jobs list|show|cancel`: the API's jobs.
struct JobsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "jobs", abstract: "List, show or cancel the API's jobs.",
    subcommands: [List.self, Show.self, Cancel.self])

  struct List: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(
      abstract: "List the App's jobs of each type, in the API's order.")
    @OptionGroup var pipeline: PipelineArgument
    @OptionGroup var output: OutputOptions

    mutating func run() async throws {
      try await runJobs(pipeline, output) { client in
        var jobs: [APIJob] = []
        for type in JobType.allCases { jobs += try await client.jobs(type: type) }
        return jobs
      }
    }
  }

  struct Show: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(abstract: "Show one job.")
    @OptionGroup var pipeline: PipelineArgument
    @Argument(help: "The job's ID.") var id: String
    @OptionGroup var output: OutputOptions

    mutating func validate() throws { try requireJobID(id) }

    mutating func run() async throws {
      let id = id
      try await runJobs(pipeline, output) { [try await $0.job(id: id)] }
    }
  }

  struct Cancel: AsyncParsableCommand, OutputCommand {
    static let configuration = CommandConfiguration(
      abstract: "Cancel a job that has not finished; its chunk gets a new job.")
    @OptionGroup var pipeline: PipelineArgument
    @Argument(help: "The job's ID.") var id: String
    @OptionGroup var output: OutputOptions

    mutating func validate() throws { try requireJobID(id) }

    mutating func run() async throws {
      let id = id
      try await runJobs(pipeline, output) {
        if let job = try await $0.cancelJob(id: id) { return [job] }
        return [try await $0.job(id: id)]
      }
    }
  }
}

private func requireJobID(_ id: String) throws {
  guard (1...19).contains(id.utf8.count), id.utf8.allSatisfy({ $0 &- 0x30 < 10 }) else {
    throw ValidationError("a job's ID has 1 to 19 digits")
  }
}

private func runJobs(
  _ argument: PipelineArgument, _ output: OutputOptions,
  _ body: @escaping @Sendable (ComplianceClient) async throws -> [APIJob]
) async throws {
  let api = try argument.load().api
  try await untilSignalled {
    let jobs = try await api.withClient(logger: output.logger, body)
    try output.write(["jobs": jobs.map(JobLine.init)]) {
      guard !jobs.isEmpty else { return "no jobs" }
      var table = Table("job", "type", "status", "name", "error")
      for job in jobs {
        table.add(
          job.id, job.type?.rawValue ?? "-", "\(job.status)", job.name ?? "-", job.error ?? "")
      }
      return table.text
    }
  }
}

/// A job without its signed URLs.
private struct JobLine: Encodable {
  let id: String
  let type: String?
  let status: String
  let name: String?
  let error: String?

  init(_ job: APIJob) {
    id = job.id
    type = job.type?.rawValue
    status = "\(job.status)"
    name = job.name
    error = job.error
  }
}
