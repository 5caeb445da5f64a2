public import Failures
public import SystemPackage

/// A migration file in dbmate's format: `<version>_<name>.sql` with `-- migrate:up` and
/// `-- migrate:down` blocks.
public struct Migration: Sendable, Equatable {
  /// The digits at the beginning of the file's name. `schema_migrations` records them.
  public let version: String
  /// The file's name without its version and extension.
  public let name: String
  public let file: FilePath
  public let up: Block
  public let down: Block

  /// The statements of one direction.
  public struct Block: Sendable, Equatable {
    public let sql: String
    /// The line of the file at which `sql` begins; the first is 1.
    public let firstLine: Int
    /// False if the marker has the option `transaction:false`.
    public let inTransaction: Bool
  }
}

/// An error while a migration is read, applied or rolled back. The database keeps none of the migration's
/// changes, unless the block has `transaction:false`.
public struct MigrationError: ExplainedError, Sendable {
  public let file: String
  public let line: Int?
  public let message: String
  public let remedy: String

  public var context: ErrorContext { ErrorContext(file: file, line: line) }
  public var disposition: Disposition { .failed }
}

extension Migration {
  /// Reads the text of a migration file.
  /// - Throws: `MigrationError` if the file's name has no version, if a statement precedes the first marker, or if a
  ///   marker is missing, repeated or out of order.
  public init(file: FilePath, text: String) throws {
    let fileName = file.lastComponent?.stem ?? ""
    let digits = fileName.prefix { $0.isNumber && $0.isASCII }
    func failure(_ line: Int?, _ message: String, _ remedy: String) -> MigrationError {
      MigrationError(file: file.string, line: line, message: message, remedy: remedy)
    }
    guard !digits.isEmpty else {
      throw failure(
        nil, "the file's name has no version",
        "name it <UTC timestamp>_<name>.sql, such as 20261123090000_ledger.sql")
    }
    var blocks: [Direction: (firstLine: Int, options: Substring, lines: [Substring])] = [:]
    var current: Direction?
    // Split at LF only, so that the SQL stays unchanged. The server treats the CR of a CRLF as white space, and
    // Swift's other newline characters can be part of quoted texts.
    let lines = text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false)
      .map { Substring($0) }
    for (index, line) in lines.enumerated() {
      if let (direction, options) = Direction.marker(in: line) {
        guard blocks[direction] == nil else {
          throw failure(
            index + 1, "a second -- migrate:\(direction.rawValue)", "keep one block of each")
        }
        guard direction == .down || blocks[.down] == nil else {
          throw failure(
            index + 1, "-- migrate:up comes after -- migrate:down", "put the up block first")
        }
        blocks[direction] = (index + 2, options, [])
        current = direction
      } else if let current {
        blocks[current]?.lines.append(line)
      } else if !line.allSatisfy(\.isWhitespace), !line.hasPrefix("--") {
        throw failure(
          index + 1, "a statement before -- migrate:up", "move it below the -- migrate:up line")
      }
    }
    guard let up = blocks[.up] else {
      throw failure(nil, "there is no -- migrate:up", "begin the statements with that line")
    }
    guard let down = blocks[.down] else {
      throw failure(
        nil, "there is no -- migrate:down",
        "add that line, and below it the statements that undo the up block")
    }
    version = String(digits)
    name = String(fileName.dropFirst(digits.count).drop { $0 == "_" })
    self.file = file
    self.up = Self.block(up)
    self.down = Self.block(down)
  }

  private static func block(
    _ raw: (firstLine: Int, options: Substring, lines: [Substring])
  ) -> Block {
    Block(
      sql: raw.lines.joined(separator: "\n"), firstLine: raw.firstLine,
      inTransaction: !raw.options.split(whereSeparator: \.isWhitespace)
        .contains("transaction:false"))
  }

  private enum Direction: String {
    case up
    case down

    /// dbmate's marker: `--`, spaces, `migrate:up` or `migrate:down`, options.
    static func marker(in line: Substring) -> (Direction, options: Substring)? {
      guard line.hasPrefix("--") else { return nil }
      let rest = line.dropFirst(2).drop(while: \.isWhitespace)
      guard rest.hasPrefix("migrate:") else { return nil }
      let word = rest.dropFirst("migrate:".count).prefix { !$0.isWhitespace }
      guard let direction = Direction(rawValue: String(word)) else { return nil }
      return (direction, rest[word.endIndex...])
    }
  }
}
