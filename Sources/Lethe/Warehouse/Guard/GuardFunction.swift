import Definitions
import Foundation
import PostgreSQL
import Vocabulary

/// The trigger function of a guard. It is generated for one table, so that each row needs only one look-up by
/// key and no dynamic SQL.
struct GuardFunction {
  static let trigger = Identifier("lethe_guard")
  /// A regular expression for the functions' names. The names are random, because a table's name or OID may later
  /// belong to another table.
  static let namePattern = "^guard_[0-9a-f]{12}$"

  let guarding: IngestGuard
  let column: WarehouseTable.Column
  let kind: IDKind
  let name: Identifier

  init(_ guarding: IngestGuard, column: WarehouseTable.Column, kind: IDKind) {
    self.guarding = guarding
    self.column = column
    self.kind = kind
    let digits = UUID().uuidString.lowercased().filter(\.isHexDigit).prefix(12)
    name = Identifier("guard_\(digits)")
  }

  /// The description of a guard, stored in the comment of its function.
  struct Description: Codable, Equatable {
    let id: String
    /// The type of the column.
    let column: String
    let type: String
    let onReturn: String
    /// The digest of the function when it was created; nil if an earlier version created it.
    var function: String?
    /// Other triggers that the operator has acknowledged, and the digests of their functions.
    var acknowledged: [String: String]?

    enum CodingKeys: String, CodingKey {
      case id, column, type, function, acknowledged
      case onReturn = "on_return"
    }
  }

  /// The SQL expression of the digest of a function's source, its settings and whether it is SECURITY DEFINER.
  /// - Parameter function: the alias of a row of `pg_proc`.
  static func digest(_ function: SQL) -> SQL {
    """
    md5(pg_catalog.concat_ws(E'\\n', \(function).prosrc, \(function).prosecdef::text, \(function).proconfig::text))
    """
  }

  private var sql: SQL { "lethe.\(identifier: name)()" }

  /// Creates the function. It is SECURITY DEFINER, so roles that insert rows need no privileges on the ledger.
  var create: SQL {
    """
    CREATE FUNCTION \(sql) RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    -- A session keeps its plan. A plan from a time with few tombstones would read the whole table.
    SET enable_seqscan = off
    AS \(literal: body.description);
    REVOKE ALL ON FUNCTION \(sql) FROM PUBLIC
    """
  }

  /// Sets the comment of the function.
  /// - Parameters:
  ///   - digest: the function's digest at its creation.
  ///   - acknowledged: the digests of other triggers that the operator has acknowledged, by name.
  func comment(digest: String, acknowledged: [String: String]) -> SQL {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let value = Description(
      id: guarding.id, column: column.type, type: guarding.type.rawValue,
      onReturn: guarding.onReturn.rawValue, function: digest,
      acknowledged: acknowledged.isEmpty ? nil : acknowledged)
    let text = String(decoding: (try? encoder.encode(value)) ?? Data(), as: UTF8.self)
    return "COMMENT ON FUNCTION \(sql) IS \(literal: text)"
  }

  /// Creates the table's trigger with this function, or replaces the function of an existing trigger.
  var attach: SQL {
    """
    CREATE OR REPLACE TRIGGER \(identifier: Self.trigger)
    BEFORE INSERT OR UPDATE OF \(column.sql) ON \(guarding.table.sql)
    FOR EACH ROW EXECUTE FUNCTION \(sql)
    """
  }

  private var body: SQL {
    let new: SQL = "NEW.\(column.sql)"
    return """

      DECLARE
          stone record;
      BEGIN
          -- An update that keeps the ID does not bring a row back.
          IF TG_OP = 'UPDATE' THEN
              IF \(new) IS NOT DISTINCT FROM OLD.\(column.sql) THEN RETURN NEW; END IF;
          END IF;
          SELECT t.reason, t.deleted_at INTO stone FROM lethe.tombstone AS t
          WHERE t.type = \(literal: guarding.type.rawValue) AND t.id = \(number(new));
          IF NOT FOUND THEN RETURN NEW; END IF;
          \(consequence(new))
      END

      """
  }

  /// The ID as a number. Blanks and leading zeros in a text column are always ignored, even if the definition does
  /// not normalize IDs, so that a deleted row does not come back with its ID in another form.
  private func number(_ new: SQL) -> SQL {
    IDKind.integer.cast(kind == .text ? IDNormalization.digits.sql(new) : new, from: kind)
  }

  private func consequence(_ new: SQL) -> SQL {
    switch guarding.onReturn {
    case .skip: "RETURN NULL;"
    case .raise:
      """
      RAISE EXCEPTION USING
              ERRCODE = '23L01',
              MESSAGE = format('ID %s is tombstoned and must not come back into %I.%I',
                               \(new), TG_TABLE_SCHEMA, TG_TABLE_NAME),
              DETAIL = format('Its tombstone: %s, since %s.', stone.reason,
                              \(SQL.utc("stone.deleted_at"))),
              HINT = 'Leave the row out, or let the guard skip such rows: lethe guard install … --on-return skip',
              SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
              COLUMN = \(literal: column.name), CONSTRAINT = TG_NAME;
      """
    }
  }
}
