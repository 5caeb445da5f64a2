import PostgreSQL

/// The text of a partition's bound, such as `FOR VALUES FROM ('2026-01-01', 1) TO (MAXVALUE, 5)`.
enum PartitionBound {
  /// The lists in parentheses, with the text of each value. A nil entry means MINVALUE, MAXVALUE or NULL.
  static func tuples(_ bound: String) -> [[String?]] {
    var tuples: [[String?]] = []
    var rest = bound[...]
    // The bound of a hash partition has no values.
    guard !bound.contains("WITH (modulus") else { return [] }
    while let start = rest.firstIndex(of: "(") {
      var tuple: [String?] = []
      rest = rest[rest.index(after: start)...]
      while let value = next(&rest) {
        tuple.append(value.text)
        if value.isLast { break }
      }
      tuples.append(tuple)
    }
    return tuples
  }

  private static func next(_ rest: inout Substring) -> (text: String?, isLast: Bool)? {
    var (text, isQuoted, isInside, hasEscapes) = ("", false, false, false)
    while let character = rest.popFirst() {
      if isInside {
        guard character == "'" else {
          text.append(character)
          if hasEscapes, character == "\\", rest.first == character { rest.removeFirst() }
          continue
        }
        if rest.first == "'" { text.append(rest.removeFirst()) } else { isInside = false }
      } else if character == "'" {
        hasEscapes = text.hasSuffix("E")
        (text, isInside, isQuoted) = ("", true, true)
      } else if character == "," || character == ")" {
        let word = isQuoted ? text : text.filter { !$0.isWhitespace }
        let isNone = !isQuoted && ["MINVALUE", "MAXVALUE", "NULL", ""].contains(word)
        return (isNone ? nil : word, character == ")")
      } else if !isQuoted {
        text.append(character)
      }
    }
    return nil
  }
}

/// Candidate values of a column. One of them probably fits the partition.
struct Candidates {
  let column: GuardedLeafTable.Column
  let bounds: [String]
  let count: Int
  let table: SQL

  /// The number of values to generate for each key column, in addition to values near the bounds. It is small enough to
  /// try all combinations.
  /// - Parameter columns: the number of key columns.
  static func count(columns: Int) -> Int {
    switch columns {
    case ...1: 5000
    case 2: 80
    case 3: 20
    default: 5
    }
  }

  /// A query that returns the candidates in one column.
  var sql: SQL {
    ((column.isID ? [] : ["SELECT (SELECT \(identifier: column.name) FROM \(table) LIMIT 1)"])
      + near + general).joined(separator: " UNION ALL\n")
  }

  private var type: SQL { SQL(trusted: column.type) }

  private var values: SQL {
    bounds.map { "(\(literal: $0)::\(type))" as SQL }.joined(separator: ", ")
  }

  /// The values in the bounds, and values near them.
  private var near: [SQL] {
    guard !bounds.isEmpty else { return [] }
    let from: SQL = "FROM (VALUES \(values)) AS b (v)"
    let random = Int(Double(count).squareRoot()) + 5
    switch column.category {
    case "N":
      return [
        "SELECT v \(from)",
        "SELECT v + d \(from), (VALUES (-1), (1)) AS d (d)",
        """
        SELECT trunc(lo + (hi - lo) * random()::numeric)::\(type)
        FROM (SELECT min(v)::numeric AS lo, max(v)::numeric AS hi \(from)) AS r,
          generate_series(1, \(literal: random))
        """,
        """
        SELECT trunc(greatest(1, v * random()))::\(type) \(from), generate_series(1, \(literal: random))
        """,
        """
        SELECT trunc(least(v::numeric * (1 + random()::numeric), \(literal: greatest)))::\(type)
        \(from), generate_series(1, \(literal: random))
        """,
      ]
    case "D":
      return [
        "SELECT v \(from)",
        "SELECT (v - interval '1 day')::\(type) \(from) WHERE isfinite(v)",
        "SELECT (v + interval '1 day')::\(type) \(from) WHERE isfinite(v)",
      ]
    default: return ["SELECT v \(from)"]
    }
  }

  private var greatest: Int64 {
    switch column.type {
    case "smallint": Int64(Int16.max)
    case "integer": Int64(Int32.max)
    default: Int64.max
    }
  }

  private var general: [SQL] {
    if column.isID { return ids }
    let series: SQL = "generate_series(1, \(literal: column.isKey ? count : 1)) AS g"
    let nothing: SQL = "SELECT NULL::\(type)"
    if column.isEnum {
      return [nothing, "SELECT pg_catalog.unnest(pg_catalog.enum_range(NULL::\(type)))"]
    }
    switch column.category {
    case "N": return [nothing, "SELECT (g - 2)::\(type) FROM \(series)"]
    case "D":
      return [
        nothing,
        "SELECT pg_catalog.unnest(ARRAY['1000-01-01', '2000-01-01', '3000-01-01']::\(type)[])",
        "SELECT (timestamp '2000-01-01' + g * interval '1 day')::\(type) FROM \(series)",
      ]
    case "S":
      return [
        nothing, "SELECT pg_catalog.unnest(ARRAY['', 'zzz']::\(type)[])",
        "SELECT md5(g::text)::\(type) FROM \(series)",
      ]
    case "B": return [nothing, "SELECT pg_catalog.unnest(ARRAY[true, false])"]
    case "U" where column.type == "uuid":
      return [nothing, "SELECT gen_random_uuid() FROM \(series)"]
    default: return [nothing]
    }
  }

  /// Random IDs with as many digits as the column's type allows, at most 18. So the table probably has none of them.
  private var ids: [SQL] {
    let least: SQL = "1\(trusted: String(repeating: "0", count: max(0, column.digits - 1)))"
    let series: SQL = "generate_series(1, \(literal: column.isKey ? count : 50))"
    // Random numbers from `least` to nine times `least`, which still fit in 63 bits.
    let random: SQL = "trunc(\(least)::numeric * (1 + 8 * random()::numeric))"
    return ["SELECT \(random)::\(type) FROM \(series)"]
  }
}
