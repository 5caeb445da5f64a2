import ApplyStage
import Definitions

/// The statements that apply runs, for people who want to read them or run EXPLAIN on them.
public struct StatementReport: Sendable, Codable, Equatable {
  public var statements: [Statement]

  public struct Statement: Sendable, Codable, Equatable {
    public var dataset: String
    public var phase: String
    public var purpose: String
    public var change: String?
    public var reasons: [String]
    public var sql: String
  }
}

extension PipelineRuntime {
  /// The statements of each dataset, in the order of the phases of a batch. They are not executed.
  public func statements() async throws -> StatementReport {
    let definition = pipeline.definition
    let catalog = try await checkedCatalog(definition)
    return StatementReport(
      statements: try definition.datasets.flatMap { dataset in
        try PlannedStatement.all(of: dataset, in: definition, catalog: catalog).map {
          .init(
            dataset: $0.dataset, phase: $0.phase.rawValue, purpose: $0.purpose.rawValue,
            change: $0.change, reasons: $0.reasons, sql: $0.sql)
        }
      })
  }
}
