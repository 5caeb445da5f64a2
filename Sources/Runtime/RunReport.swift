/// What came of a run, from the ledger.
public struct RunReport: Sendable, Codable, Equatable {
  public enum Status: String, Sendable, Codable {
    /// Stages are left to do.
    case running
    case done
    /// A limit stopped a chunk; see `stopped`.
    case stopped
    /// A chunk was given up; see `failures`.
    case failed
  }

  public var runID: Int64
  public var pipeline: String
  public var status: Status
  public var datasets: [String: DatasetReport]
  /// Why chunks were given up.
  public var failures: [String]
  /// The chunks that wait for somebody's word, and why.
  public var stopped: [StoppedChunk]

  enum CodingKeys: String, CodingKey {
    case runID = "run_id"
    case pipeline, status, datasets, failures, stopped
  }

  public struct StoppedChunk: Sendable, Codable, Equatable {
    public var chunkID: Int64
    public var dataset: String
    public var reason: String

    enum CodingKeys: String, CodingKey {
      case chunkID = "chunk_id"
      case dataset, reason
    }

    public init(chunkID: Int64, dataset: String, reason: String) {
      self.chunkID = chunkID
      self.dataset = dataset
      self.reason = reason
    }
  }

  public struct DatasetReport: Sendable, Codable, Equatable {
    public var ids: Int
    public var chunks: Int
    public var jobs: Int
    public var events: Int
    /// By table, then by action. Empty if no row had to be changed.
    public var rows: [String: [String: Int]]
    public var quarantined: Int
    /// By stage, of this process.
    public var seconds: [String: Double]
  }

  public var quarantined: Int { datasets.values.reduce(0) { $0 + $1.quarantined } }

  public var rowsChanged: Int {
    datasets.values.reduce(0) { $0 + $1.rows.values.flatMap(\.values).reduce(0, +) }
  }
}
