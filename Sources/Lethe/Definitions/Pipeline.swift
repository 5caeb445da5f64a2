internal import DefinitionFiles
import Foundation
public import SQLText
public import Vocabulary

/// A pipeline ready to run: what to do, and the connections and credentials of this process.
public struct Pipeline: Sendable {
  public let file: String
  public let definition: Definition
  public let warehouse: ConnectionString
  public let api: APISettings
  /// The line that each key of the file stands on, by its path.
  let lines: [String: Int]

  /// The line of a key such as `datasets.posts.table`, or of the nearest one around it.
  public func line(of path: String) -> Int? {
    var path = path[...]
    while true {
      // The one reason that may be written in two ways.
      let other = path.replacing(".actions.geo_scrubbed", with: ".actions.scrub_geo")
      if let line = lines[String(path)] ?? lines[String(other)] { return line }
      guard let end = path.lastIndex(where: { $0 == "." || $0 == "[" }) else { return nil }
      path = path[..<end]
    }
  }

  /// Reads and checks a definition, with variables from `environment`.
  /// - Parameter readingToken: false for what does without the API: where the token is to come from has to be said
  ///   all the same, but it need not be there.
  /// - Throws: `DefinitionError` with all that is wrong, each naming file, line and remedy. Nothing has run
  ///   by then.
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

  /// The same, from text.
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
    guard let pipeline else { preconditionFailure("what cannot be read has a mistake") }
    return pipeline
  }
}

/// Where the API is and how to talk to it.
public struct APISettings: Sendable {
  /// Without a slash at its end. The token is sent to this scheme, host and port alone.
  public let baseURL: String
  public let token: BearerToken
  /// Hosts, or host:port, that bytes may go to or come from; the API's own is always one.
  public let allowedHosts: [String]
  /// Between two looks at a job: at first, and at most.
  public let pollSeconds: Double
  public let pollSecondsMax: Double
  /// How many jobs a chunk gets before it is given up.
  public let jobAttemptsMax: Int
  /// How long a job may be in processing before it is cancelled and tried anew.
  public let jobHoursMax: Double
  /// How long another job may hold a type's slot before the chunks that wait for it are set aside.
  public let slotHoursMax: Double
  /// Where the bytes of jobs go.
  public let profile: UploadProfile
  /// Proxies, certificates and times.
  public let network: NetworkSettings
}
