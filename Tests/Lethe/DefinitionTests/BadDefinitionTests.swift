import DefinitionFiles
import Definitions
import TestFiles
import Testing

/// Each mistake in a definition is found before a run begins, and is reported with file, line and remedy.
@Suite struct BadDefinitionTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let part: String
    let other: String
    let line: Int?
    let message: String
    let remedy: String

    var testDescription: String { message }

    /// Creates a case. `part` is the text in the good definition that `other` replaces. The other values describe the
    /// expected error.
    init(
      _ part: String, _ other: String, line: Int?, _ message: String, remedy: String = ""
    ) {
      self.part = part
      self.other = other
      self.line = line
      self.message = message
      self.remedy = remedy
    }
  }

  private static let shapes: [Case] = [
    Case(
      "  base_url:", "  base_ulr:", line: 4, "unknown key api.base_ulr",
      remedy: "did you mean base_url?"),
    Case("limits:\n", "limit:\n", line: 6, "unknown key limit", remedy: "did you mean limits?"),
    Case(
      "    id: user_id", "    id: user_id\n    wehre: x > 1", line: 14,
      "unknown key datasets.users.wehre", remedy: "did you mean where?"),
    Case(
      "    id: user_id", "    id: user_id\n    '': red", line: 14,
      "unknown key datasets.users.\"\"", remedy: "known keys here: type, table"),
    Case(
      "    id: user_id", "    id: user_id\n    colour: red", line: 14,
      "unknown key datasets.users.colour",
      remedy: "known keys here: type, table, id, id_time, where"),
    Case(
      "match: author_id", "match: author_id\n        where: x", line: 23,
      "unknown key datasets.users.targets[0].where", remedy: "known keys here: table, match"),
    Case(
      "{protect: {set:", "{protect: {sett:", line: 19,
      "unknown key datasets.users.actions.protected.protect.sett", remedy: "did you mean set?"),
    Case(
      "chunk: {ids: 1000,", "chunk: {ids: 1000, size: 5,", line: 14,
      "unknown key datasets.users.chunk.size", remedy: "known keys here: ids, bytes"),
    Case("name: nightly\n", "", line: 1, "name is missing", remedy: "add name: to the definition"),
    Case("warehouse: ${DATABASE_URL}\n", "", line: 1, "warehouse is missing"),
    Case("    table: warehouse.users\n", "", line: 11, "datasets.users.table is missing"),
    Case(
      "        match: author_id\n", "", line: 21, "datasets.users.targets[0].match is missing",
      remedy: "add match: to datasets.users.targets[0]"),
    Case(
      "max_redacted_rows: 1000", "max_redacted_rows: many", line: 8,
      "limits.max_redacted_rows is not a whole number"),
    Case(
      "max_redacted_rows: 1000", "max_redacted_rows: 1.5", line: 8,
      "limits.max_redacted_rows is not a whole number"),
    Case(
      "max_redacted_percent: 20", "max_redacted_percent: 20 %", line: 7,
      "limits.max_redacted_percent is not a number"),
    Case(
      "table: warehouse.users", "table: [warehouse, users]", line: 12,
      "datasets.users.table is not a string"),
    Case("id: user_id", "id:", line: 13, "datasets.users.id is not a string"),
    Case(
      "id: user_id", "id: user_id\n    tombstones: yes", line: 14,
      "datasets.users.tombstones is not true or false"),
    Case(
      "chunk: {ids: 1000, bytes: 20000}", "chunk: 1000", line: 14,
      "datasets.users.chunk is not a mapping"),
    Case(
      "targets:\n          - table: warehouse.post_media\n            match: post_id\n            actions: {deleted: delete}",
      "targets: none", line: 27, "datasets.users.targets[0].targets is not a list of targets"),
    Case(
      "https://api.x.com", "https://api.x.com\n  allowed_hosts: api.x.com", line: 5,
      "api.allowed_hosts is not a list"),
    Case(
      "deactivated: ignore", "deactivated:", line: 18,
      "datasets.users.actions.deactivated has no action", remedy: "ignore"),
    Case(
      "deactivated: ignore", "deactivated: ~", line: 18,
      "datasets.users.actions.deactivated has no action"),
    Case(
      "deactivated: ignore", "deactivated: {}", line: 18,
      "datasets.users.actions.deactivated is not one action"),
    Case(
      "deactivated: ignore", "deactivated: {erase: all}", line: 18,
      "unknown key datasets.users.actions.deactivated.erase"),
    Case(
      "deactivated: ignore", "deactivated: {scrub_geo: []}", line: 18,
      "datasets.users.actions.deactivated.scrub_geo is not a list"),
    Case(
      "{protect: {set: {visibility: protected}, restore: {visibility: public}}}", "{protect: {}}",
      line: 19, "datasets.users.actions.protected.protect.set is missing"),
    Case(
      "{set: {visibility: protected}, restore: {visibility: public}}", "{set: {}}", line: 19,
      "datasets.users.actions.protected.protect.set is not {column: value"),
    Case(
      "restore: {visibility: public}", "restore: {visibility: [public]}", line: 19,
      "datasets.users.actions.protected.protect.restore.visibility is not a single value"),
  ]

  private static let meanings: [Case] = [
    Case(
      "deactivated: ignore", "deactivated: erase", line: 18, "unknown action erase",
      remedy: "write delete"),
    Case(
      "deactivated: ignore", "deactivated: protect", line: 18, "protect names no columns",
      remedy: "{protect: {set:"),
    Case(
      "deactivated: ignore", "deactivated: scrub_geo", line: 18, "scrub_geo names no columns",
      remedy: "{scrub_geo: ["),
    Case(
      "deactivated: ignore", "withheld: ignore", line: 18, "unknown reason withheld",
      remedy: "deleted, suspended, deactivated, protected"),
    Case(
      "deactivated: ignore", "bounced: delete", line: 18, "unknown reason bounced",
      remedy: "a job of type users"),
    Case(
      "deactivated: ignore", "deactivate: ignore", line: 18, "unknown reason deactivate",
      remedy: "did you mean deactivated?"),
    Case(
      "      deactivated: ignore\n", "", line: 16, "has no action for the reason deactivated",
      remedy: "add deactivated:"),
    Case(
      "restore: {visibility: public}", "restore: {hidden: no}", line: 19,
      "restore names the column hidden, but set does not name it"),
    Case(
      "        id: post_id\n        type: tweets\n", "", line: 21,
      "this target has targets, but no id", remedy: "the column of warehouse.posts"),
    Case(
      "match: post_id\n            actions: {deleted: delete}",
      "match: post_id\n            actions: {deleted: rehydrate}", line: 30,
      "a target cannot be rehydrated", remedy: "the dataset's own actions"),
    Case(
      "match: post_id\n            actions: {deleted: delete}",
      "match: post_id\n            actions: {tweet_edited: delete}", line: 30,
      "unknown reason tweet_edited"),
    Case(
      "id: user_id", "id: user_id\n    batch: 5\n    atomic: chunk", line: 14,
      "batch and atomic cannot be used together", remedy: "keep batch: or atomic: chunk"),
    Case(
      "id: user_id", "id: user_id\n    atomic: run", line: 14, "unknown atomic: run",
      remedy: "write atomic: chunk"),
    Case("id: user_id", "id: user_id\n    batch: 0", line: 14, "batch is not at least 1"),
    Case("ids: 1000,", "ids: 0,", line: 14, "chunk.ids is not at least 1"),
    Case(
      "bytes: 20000", "bytes: 128000001", line: 14, "chunk.bytes is larger than the API's limit",
      remedy: "120000000"),
    Case("bytes: 20000", "bytes: 19", line: 14, "chunk.bytes is too small for one ID"),
    Case(
      "max_redacted_percent: 20", "max_redacted_percent: 100.5", line: 7,
      "limits.max_redacted_percent is not between 0 and 100"),
    Case(
      "max_redacted_percent: 20", "max_redacted_percent: -1", line: 7,
      "limits.max_redacted_percent is not between 0 and 100"),
    Case(
      "max_redacted_percent: 20", "max_redacted_percent: nan", line: 7,
      "limits.max_redacted_percent is not between 0 and 100"),
    Case(
      "max_redacted_rows: 1000", "max_redacted_rows: -1", line: 8,
      "limits.max_redacted_rows is negative"),
    Case("type: users", "type: posts", line: 11, "unknown type posts", remedy: "tweets or users"),
    Case(
      "table: warehouse.users", "table: a.b.c", line: 12, "not a table's name: a.b.c",
      remedy: "schema.table"),
    Case("table: warehouse.users", "table: 'my users'", line: 12, "not a table's name: my users"),
    Case("table: warehouse.users", "table: warehouse.", line: 12, "not a table's name: warehouse."),
    Case("table: warehouse.users", "table: '\"users'", line: 12, "not a table's name: \"users"),
    Case(
      "name: nightly", "name: Nightly Run", line: 1, "the pipeline's name is not valid: Nightly Run"
    ),
    Case("name: nightly", "name: -x", line: 1, "the pipeline's name is not valid: -x"),
    Case(
      "name: nightly", "name: abcdefghijklmnopqrstuvwxyz0123456", line: 1,
      "the pipeline's name is not valid"),
    Case("  users:\n", "  ../users:\n", line: 10, "the dataset's name is not valid: ../users"),
  ]

  private static let access: [Case] = [
    Case(
      "${DATABASE_URL}", "${NOT_SET}", line: 2, "the environment variable NOT_SET is not set",
      remedy: "${NOT_SET:-"),
    Case("${X_BEARER_TOKEN}", "${NOT_SET}", line: 5, "the environment variable NOT_SET is not set"),
    Case(
      "table: warehouse.users", "table: ${NOT SET}", line: 12,
      "${NOT SET} does not name an environment variable"),
    Case(
      "table: warehouse.users", "table: '${}'", line: 12,
      "${} does not name an environment variable"),
    Case(
      "table: warehouse.users", "table: '${1X}'", line: 12,
      "${1X} does not name an environment variable"),
    Case(
      "table: warehouse.users", "table: '${TABLE'", line: 12, "a ${ without its }", remedy: "$$"),
    Case(
      "  bearer_token: ${X_BEARER_TOKEN}\n", "", line: 4, "api has no token",
      remedy: "bearer_token_file"),
    Case(
      "${X_BEARER_TOKEN}", "${X_BEARER_TOKEN}\n  bearer_token_file: /t", line: 6,
      "api has two tokens"),
    Case(
      "bearer_token: ${X_BEARER_TOKEN}", "bearer_token_file: /nowhere/token", line: 5,
      "cannot read the token's file /nowhere/token"),
    Case(
      "${X_BEARER_TOKEN}", "${EMPTY}", line: 5,
      "the token from api.bearer_token is empty, or contains spaces"),
    Case(
      "${X_BEARER_TOKEN}", "'a b'", line: 5,
      "the token from api.bearer_token is empty, or contains spaces"),
    Case(
      "${X_BEARER_TOKEN}", "schlüssel", line: 5,
      "the token from api.bearer_token is empty, or contains spaces"),
    Case(
      "https://api.x.com", "http://api.x.com", line: 4,
      "api.base_url would send the token unencrypted to api.x.com", remedy: "https"),
    Case(
      "https://api.x.com", "http://128.0.0.1", line: 4, "would send the token unencrypted"),
    Case(
      "https://api.x.com", "http://127.1", line: 4, "would send the token unencrypted"),
    Case(
      "https://api.x.com", "http://127.0.0.1.evil.com", line: 4, "would send the token unencrypted"),
    Case(
      "https://api.x.com", "https://api.x.com/2", line: 4,
      "api.base_url is not a URL with only a host and a port"),
    Case(
      "https://api.x.com", "https://api.x.com?a=b", line: 4,
      "api.base_url is not a URL with only a host and a port"),
    Case(
      "https://api.x.com", "'https://api.x.com#a'", line: 4,
      "api.base_url is not a URL with only a host and a port"),
    Case(
      "https://api.x.com", "https://me:hunter2@api.x.com", line: 4,
      "api.base_url is not a URL with only a host and a port"),
    Case(
      "https://api.x.com", "api.x.com", line: 4,
      "api.base_url is not a URL with only a host and a port"),
    Case(
      "https://api.x.com", "ftp://api.x.com", line: 4,
      "api.base_url is not a URL with only a host and a port"),
    Case(
      "https://api.x.com", "https://api.x.com\n  poll_seconds: 0", line: 5,
      "api.poll_seconds is not a finite number greater than 0"),
    Case(
      "https://api.x.com", "https://api.x.com\n  poll_seconds: 1e20", line: 5,
      "api.poll_seconds is greater than 1000000000", remedy: "smaller"),
    Case(
      "https://api.x.com", "https://api.x.com\n  connect_seconds: 0", line: 5,
      "api.connect_seconds is not a finite number greater than 0"),
    Case(
      "https://api.x.com", "https://api.x.com\n  stall_seconds: 0", line: 5,
      "api.stall_seconds is not a finite number greater than 0"),
    Case(
      "https://api.x.com", "https://api.x.com\n  answer_seconds: 0", line: 5,
      "api.answer_seconds is not a finite number greater than 0"),
    Case(
      "https://api.x.com", "https://api.x.com\n  transfer_seconds: 0", line: 5,
      "api.transfer_seconds is not a finite number greater than 0"),
    Case(
      "https://api.x.com", "https://api.x.com\n  profile: gsc", line: 5,
      "unknown api.profile gsc"),
    Case(
      "https://api.x.com", "https://api.x.com\n  proxy: http://me:hunter2@proxy/path", line: 5,
      "api.proxy is not the address of a proxy"),
    Case(
      "https://api.x.com", "https://api.x.com\n  proxy: https://me:hunter2@proxy", line: 5,
      "api.proxy names a proxy that is neither http nor socks5"),
    Case(
      "https://api.x.com", "https://api.x.com\n  ca_file: there/is/none.pem", line: 5,
      "api.ca_file: "),
    Case(
      "https://api.x.com", "https://api.x.com\n  poll_seconds_max: inf", line: 5,
      "api.poll_seconds_max is not a finite number greater than 0"),
    Case(
      "https://api.x.com", "https://api.x.com\n  job_attempts: 0", line: 5,
      "api.job_attempts is not at least 1"),
    Case(
      "https://api.x.com", "https://api.x.com\n  job_hours_max: -1", line: 5,
      "api.job_hours_max is not a finite number greater than 0"),
    Case(
      "limits:\n", "timeouts: {statement_seconds: 0}\nlimits:\n", line: 6,
      "timeouts.statement_seconds is not a finite number greater than 0"),
    Case(
      "limits:\n", "timeouts: {statement_seconds: nan}\nlimits:\n", line: 6,
      "timeouts.statement_seconds is not a finite number greater than 0"),
    Case(
      "limits:\n", "timeouts: {statement_seconds: 30s}\nlimits:\n", line: 6,
      "timeouts.statement_seconds is not a number"),
    Case(
      "limits:\n", "timeouts: {lock_seconds: 0.0001}\nlimits:\n", line: 6,
      "timeouts.lock_seconds is not between 0.001 and 2000000"),
    Case(
      "limits:\n", "timeouts: {statement_seconds: 1e9}\nlimits:\n", line: 6,
      "timeouts.statement_seconds is not between 0.001 and 2000000"),
    Case(
      "limits:\n", "timeouts: {lease_seconds: 14}\nlimits:\n", line: 6,
      "timeouts.lease_seconds is not between 15 and 3600"),
    Case(
      "limits:\n", "timeouts: {lease_seconds: 3601}\nlimits:\n", line: 6,
      "timeouts.lease_seconds is not between 15 and 3600"),
    Case(
      "limits:\n", "timeouts: {lock_second: 1}\nlimits:\n", line: 6,
      "unknown key timeouts.lock_second", remedy: "did you mean lock_seconds?"),
  ]

  private static let paces: [Case] = [
    Case(
      "limits:\n", "apply: {pauses_ms: 5}\nlimits:\n", line: 6, "unknown key apply.pauses_ms",
      remedy: "did you mean pause_ms?"),
    Case(
      "limits:\n", "apply: {replicas_lag_max: 5s}\nlimits:\n", line: 6,
      "unknown key apply.replicas_lag_max",
      remedy: "did you mean replica_lag_max?"),
    Case(
      "limits:\n", "apply: 10\nlimits:\n", line: 6, "apply is not a mapping",
      remedy: "key: value"),
    Case(
      "limits:\n", "apply: {pause_ms: 0}\nlimits:\n", line: 6,
      "apply.pause_ms is not between 1 and 600000",
      remedy: "leave it out"),
    Case(
      "limits:\n", "apply: {pause_ms: 600001}\nlimits:\n", line: 6,
      "apply.pause_ms is not between 1 and 600000",
      remedy: "milliseconds"),
    Case(
      "limits:\n", "apply: {pause_ms: 1s}\nlimits:\n", line: 6,
      "apply.pause_ms is not a whole number",
      remedy: "a whole number"),
    Case(
      "limits:\n", "apply: {rows_per_second: 0}\nlimits:\n", line: 6,
      "apply.rows_per_second is not at least 1",
      remedy: "positive"),
    Case(
      "limits:\n", "apply: {rows_per_second: 49}\nlimits:\n", line: 6,
      "apply.rows_per_second: a transaction of users may change 10000 + 20000 rows",
      remedy: "write at least 50, or make batch"),
    Case(
      "limits:\n", "apply: {replica_lag_max: 10}\nlimits:\n", line: 6,
      "apply.replica_lag_max is neither a time nor a size: 10",
      remedy: "10s (ms, s, min, h, d)"),
    Case(
      "limits:\n", "apply: {replica_lag_max: 10 sec}\nlimits:\n", line: 6,
      "apply.replica_lag_max is neither a time nor a size: 10 sec",
      remedy: "64MB (kB, MB, GB, TB)"),
    Case(
      "limits:\n", "apply: {replica_lag_max: 64mb}\nlimits:\n", line: 6,
      "apply.replica_lag_max is neither a time nor a size: 64mb",
      remedy: "64MB"),
    Case(
      "limits:\n", "apply: {replica_lag_max: -5s}\nlimits:\n", line: 6,
      "apply.replica_lag_max is neither a time nor a size: -5s",
      remedy: "10s"),
    Case(
      "limits:\n", "apply: {replica_lag_max: 0s}\nlimits:\n", line: 6,
      "apply.replica_lag_max is neither a time nor a size: 0s",
      remedy: "10s"),
    Case(
      "limits:\n", "apply: {replicas: [one]}\nlimits:\n", line: 6,
      "apply.replicas has no effect without apply.replica_lag_max",
      remedy: "add replica_lag_max:"),
    Case(
      "limits:\n", "apply: {replica_lag_max: 1s, replicas: one}\nlimits:\n", line: 6,
      "apply.replicas is not a list",
      remedy: "[a, b]"),
    Case(
      "limits:\n", "apply: {wal_rate_max: 20s}\nlimits:\n", line: 6,
      "apply.wal_rate_max is not a size: 20s",
      remedy: "20MB"),
    Case(
      "limits:\n", "apply: {wal_rate_max: 20MB/s}\nlimits:\n", line: 6,
      "apply.wal_rate_max is not a size: 20MB/s",
      remedy: "20MB"),
    Case(
      "limits:\n", "apply: {wal_rate_max: 0.5B}\nlimits:\n", line: 6,
      "apply.wal_rate_max is not a size: 0.5B",
      remedy: "20MB"),
  ]

  private static let syntax: [Case] = [
    Case("  base_url: https", "\tbase_url: https", line: 4, "not YAML: "),
    Case("table: warehouse.users", "table: \"warehouse.users", line: nil, "not YAML: "),
    Case("table: warehouse.users", "table: a: b", line: 12, "not YAML: "),
    Case("bytes: 20000}", "bytes: 20000", line: nil, "not YAML: "),
    Case("limits:\n", "name: again\nlimits:\n", line: 6, "name appears twice: also on line 1"),
    Case(
      "deactivated: ignore", "deactivated: ignore\n      deleted: ignore", line: 19,
      "deleted appears twice: also on line 16"),
  ]

  @Test(arguments: shapes + meanings + access + paces + syntax)
  func aMistakeIsReportedWithFileLineAndRemedy(mistake: Case) throws {
    let yaml = Samples.good.editing(mistake.part, to: mistake.other)
    do {
      _ = try Samples.parse(yaml)
      Issue.record("the definition was accepted")
    } catch let error as DefinitionError {
      #expect(error.file == "p.yaml")
      if let line = mistake.line {
        #expect(error.line == line, "\(error)")
      } else {
        #expect(error.line != nil)
      }
      #expect(error.message.contains(mistake.message), "\(error)")
      #expect(!error.remedy.isEmpty)
      #expect(error.remedy.contains(mistake.remedy), "\(error)")
      #expect(!"\(error)".contains("hunter2"))
      #expect("\(error)".hasPrefix("p.yaml:\(error.line ?? 0): "))
    }
  }

  // MARK: Posts

  private static let posts = """
    name: posts
    warehouse: x
    api: {bearer_token: t}
    datasets:
      posts:
        type: tweets
        table: posts
        id: id
        actions:
          deleted: delete
          bounced: delete
          suspended: delete
          deactivated: delete
          protected: ignore
          geo_scrubbed: {scrub_geo: [latitude]}
          tweet_edited: rehydrate
    """

  private static let postCases: [Case] = [
    Case(
      "geo_scrubbed: {scrub_geo: [latitude]}", "geo_scrubbed: delete", line: 15,
      "would delete a post that only lost its location", remedy: "{scrub_geo: ["),
    Case(
      "geo_scrubbed: {scrub_geo: [latitude]}", "scrub_geo: delete", line: 15,
      "would delete a post that only lost its location"),
    Case(
      "tweet_edited: rehydrate", "tweet_edited: rehydrate\n      scrub_geo: ignore", line: 17,
      "has the reason geo_scrubbed twice", remedy: "the same reason"),
    Case(
      "      geo_scrubbed: {scrub_geo: [latitude]}\n", "", line: 10,
      "no action for the reason geo_scrubbed"),
  ]

  @Test(arguments: postCases)
  func anInvalidActionForARemovedLocationIsRefused(mistake: Case) throws {
    try #require(Self.posts.ranges(of: mistake.part).count == 1)
    do {
      _ = try Samples.parse(Self.posts.editing(mistake.part, to: mistake.other))
      Issue.record("the definition was accepted")
    } catch let error as DefinitionError {
      #expect(error.line == mistake.line, "\(error)")
      #expect(error.message.contains(mistake.message), "\(error)")
      #expect(error.remedy.contains(mistake.remedy), "\(error)")
    }
  }

  // MARK: Whole files

  @Test(arguments: [
    ("", 1, "the definition is empty"), ("# only a comment\n", 1, "the definition is empty"),
    ("- a\n- b\n", 1, "the definition is not a mapping"),
    ("nightly", 1, "the definition is not a mapping"),
    ("name: x\nwarehouse: y\napi: {bearer_token: t}\ndatasets: {}\n", 4, "there is no dataset"),
    (
      "name: x\nwarehouse: y\napi: {bearer_token: t}\ndatasets: [posts]\n", 4,
      "datasets is not a mapping"
    ),
    ("name: x\nwarehouse: y\napi: token\ndatasets: {}\n", 3, "api is not a mapping"),
  ])
  func aFileWithoutADefinitionIsRefused(yaml: String, line: Int, message: String) {
    do {
      _ = try Samples.parse(yaml)
      Issue.record("the definition was accepted")
    } catch let error as DefinitionError {
      #expect(error.message == message)
      #expect(error.line == line)
      #expect(!error.remedy.isEmpty)
    } catch {
      Issue.record("\(error)")
    }
  }
}
