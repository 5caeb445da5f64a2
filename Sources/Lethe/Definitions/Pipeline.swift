internal import DefinitionFiles
import Foundation
public import SQLText
public import Vocabulary

/// A pipeline that is ready to run: its definition, connections and credentials.
public struct Pipeline: Sendable {
  public let file: String
  public let definition: Definition
  public let warehouse: ConnectionString
  public let api: APISettings
  /// How long the lease of a process lasts after a renewal. After that, another process may take over the pipeline.
  public let leaseSeconds: Int
  /// The pace in this file. It also applies to runs that have another definition.
  public let pace: ApplyPace
  /// The line of each key and each list item of the file, by its path.
  let lines: [String: Int]

  /// The line of a key such as `datasets.posts.table`, or else the line of the nearest enclosing key.
  public func line(of path: String) -> Int? {
    var path = path[...]
    while true {
      // `scrub_geo` and `geo_scrubbed` are names of the same reason.
      let other = path.replacing(".actions.geo_scrubbed", with: ".actions.scrub_geo")
      if let line = lines[String(path)] ?? lines[String(other)] { return line }
      guard let end = path.lastIndex(where: { $0 == "." || $0 == "[" }) else { return nil }
      path = path[..<end]
    }
  }

  /// Reads and checks a definition, with variables from `environment`.
  /// - Parameter readingToken: false for commands that do not call the API. The definition must still name the token's
  ///   source, but the token may be missing. Proxies and certificates are not read, either.
  /// - Throws: `DefinitionError` if the file cannot be read or is not UTF-8, or with all mistakes in it, each with its
  ///   remedy, and with its line if it is on one line.
  public static func load(
    file: String, environment: [String: String], readingToken: Bool = true
  ) throws -> Pipeline {
    guard let data = FileManager.default.contents(atPath: file) else {
      throw DefinitionError(
        file: file, line: nil, message: "cannot read the file",
        remedy: "check the path and its permissions")
    }
    guard let yaml = String(data: data, encoding: .utf8) else {
      throw DefinitionError(
        file: file, line: nil, message: "the file is not UTF-8", remedy: "save it as UTF-8")
    }
    return try parse(
      yaml: yaml, file: file, environment: environment, readingToken: readingToken)
  }

  /// Reads and checks a definition from its text, as `load` does.
  public static func parse(
    yaml: String, file: String, environment: [String: String], readingToken: Bool = true
  ) throws -> Pipeline {
    let mistakes = Mistakes(file: file)
    let pipeline = WrittenPipeline(yaml: yaml, mistakes).flatMap {
      Resolver(
        file: file, written: $0, interpolation: Interpolation(environment: environment),
        mistakes: mistakes, readsToken: readingToken
      ).pipeline()
    }
    try mistakes.rethrow()
    guard let pipeline else { preconditionFailure("a definition without mistakes has a pipeline") }
    return pipeline
  }
}

/// The settings of the API.
public struct APISettings: Sendable {
  /// The URL without a slash at its end. The token is sent only to this scheme, host and port.
  public let baseURL: String
  public let token: BearerToken
  /// The hosts, or host:port, that are allowed for uploads and downloads. The API's own host is always one of them.
  public let allowedHosts: [String]
  /// The first delay between two requests for a job's status. The delay grows up to `pollSecondsMax`.
  public let pollSeconds: Double
  public let pollSecondsMax: Double
  /// The largest number of jobs that are tried for a chunk. The chunk fails if the last of them fails. Jobs from before
  /// the chunk was cut, or before its file was lost with another host, do not count.
  public let jobAttemptsMax: Int
  /// The longest time that a job may take after its upload. After that, Lethe tries to cancel the job, and its attempt
  /// fails, unless the job has completed in the meantime.
  public let jobHoursMax: Double
  /// The API accepts one job of a type at a time. This is how long another job of the type may block chunks before they
  /// are set aside.
  public let slotHoursMax: Double
  /// How the files of jobs are uploaded.
  public let profile: UploadProfile
  /// Proxies, certificates and timeouts.
  public let network: NetworkSettings
}
