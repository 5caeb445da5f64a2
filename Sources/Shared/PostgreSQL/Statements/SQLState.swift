/// A five-character SQLSTATE. The appendix "PostgreSQL Error Codes" of PostgreSQL's manual lists them.
public struct SQLState: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  public let rawValue: String

  public init(rawValue: String) {
    self.rawValue = rawValue
  }

  public var description: String { rawValue }

  /// The first two characters. They are the class of the error.
  public var conditionClass: Substring { rawValue.prefix(2) }

  public static let uniqueViolation = SQLState(rawValue: "23505")
  public static let foreignKeyViolation = SQLState(rawValue: "23503")
  public static let checkViolation = SQLState(rawValue: "23514")
  public static let serializationFailure = SQLState(rawValue: "40001")
  public static let deadlockDetected = SQLState(rawValue: "40P01")
  public static let lockNotAvailable = SQLState(rawValue: "55P03")
  public static let tooManyConnections = SQLState(rawValue: "53300")
  public static let protocolViolation = SQLState(rawValue: "08P01")
  public static let configurationLimitExceeded = SQLState(rawValue: "53400")
  public static let readOnlyTransaction = SQLState(rawValue: "25006")
  public static let queryCanceled = SQLState(rawValue: "57014")
  public static let insufficientPrivilege = SQLState(rawValue: "42501")
  public static let undefinedTable = SQLState(rawValue: "42P01")
  public static let invalidSchemaName = SQLState(rawValue: "3F000")
}
