public import ChunkFiles
public import Definitions
public import Failures
import Foundation
import SystemPackage
public import Vocabulary

/// The token of a process that works on runs. The ledger stores it with each run and each chunk that the process takes.
/// A process that takes a run or a chunk over replaces the token with its own. The guarded updates of the former
/// process then match no row.
public struct Lease: Sendable, Hashable {
  public let token: String
  /// The host of the process. Empty if it is unknown.
  public let host: String

  public init(host: String = "") {
    token = UUID().uuidString.lowercased()
    self.host = host
  }

  /// A part of the names of this process's files. A process that has lost its lease may still run, and must not remove
  /// the files of its successor.
  public var fileTag: String { String(token.prefix(8)) }
}

/// One execution of a pipeline, with its own copy of the definition.
public struct Run: Sendable {
  public let id: Int64
  /// Twelve hexadecimal digits, in the names of the run's jobs.
  public let key: String
  public let definition: Definition
  public let workDirectory: String

  /// The same run, with its folder in another place.
  public func moved(to workDirectory: String) -> Run {
    Run(id: id, key: key, definition: definition, workDirectory: workDirectory)
  }
}

/// A chunk as the ledger has stored it.
public struct Chunk: Sendable, Equatable {
  public let id: Int64
  public let runID: Int64
  public let runKey: String
  public let pipeline: String
  public let dataset: String
  public let type: JobType
  public let number: Int
  public let firstID: Int64
  public let lastID: Int64
  public let ids: Int
  public let bytes: Int
  public let sha256: [UInt8]
  public let path: String
  /// The host that wrote the file. Nil if it is unknown.
  public let fileHost: String?
  public let state: ChunkState
  /// The last applied position: every event up to and including this ID is applied, or is refused and set aside. Nil if
  /// no result was collected.
  public let appliedThrough: Int64?
  public let isApproved: Bool

  /// The chunk's file, as the ledger describes it.
  public var file: ChunkFile {
    ChunkFile(
      path: FilePath(path), number: number, firstID: firstID, lastID: lastID, ids: ids,
      bytes: bytes, sha256: sha256)
  }

  public var errorContext: ErrorContext {
    ErrorContext(chunk: id, number: number, dataset: dataset)
  }

  /// The chunk's name in messages.
  public var label: String { "chunk \(id) (\(dataset) #\(number))" }
}

/// The current attempt at a chunk.
public struct Attempt: Sendable, Equatable {
  public let jobID: Int64
  public let number: Int
  /// The job's name at the API.
  public let name: String
  /// The API's ID. Nil while it is unknown whether the API has created the job.
  public let apiID: String?
}

/// The error that the API returned an ID that another job already has.
public struct DuplicateJobID: Error, Sendable {
  public let apiID: String
  /// The name of the other job.
  public let formerName: String?
}

/// An error of the ledger. Nothing was changed. For example, another process works on the run, or the chunk is not in
/// the state that the change requires.
public struct LedgerError: ExplainedError, Sendable {
  public enum Code: Sendable, Equatable {
    /// Another process has taken over the run or the chunk.
    case leaseLost
    /// The ledger has no run, chunk or line to which the change applies.
    case missing
    /// The ledger contains something that this version cannot read, or lacks something that belongs to a run or chunk.
    case unreadable
    /// The change is not allowed in the current state.
    case refused
  }

  public let code: Code
  public let message: String
  public let remedy: String

  public init(code: Code, message: String, remedy: String) {
    self.code = code
    self.message = message
    self.remedy = remedy
  }

  public var disposition: Disposition {
    switch code {
    case .leaseLost: .held
    case .missing, .unreadable, .refused: .failed
    }
  }

  static func leaseLost(_ what: String) -> LedgerError {
    LedgerError(
      code: .leaseLost, message: "\(what): another process has taken this run over",
      remedy: "wait until that process has finished; lethe status shows its progress")
  }
}
