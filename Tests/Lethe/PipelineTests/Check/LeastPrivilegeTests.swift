import Definitions
import Foundation
import PostgreSQL
import Runtime
import TestSupport
import Testing
import Warehouse

/// Commands that use a role with only the privileges that `lethe check --grants` prints.
@Suite struct LeastPrivilegeTests {
  /// The privileges of PUBLIC in the database before the grants.
  enum PublicPrivileges: String, CaseIterable, Sendable {
    case asInstalled
    case nothing
  }

  /// Runs `body` with a database in which a role has exactly the privileges that the program prints for it.
  private static func withRole(
    _ publicPrivileges: PublicPrivileges = .asInstalled,
    _ body: @Sendable (PipelineFixture, _ role: String, _ grants: [String]) async throws -> Void
  ) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 400, users: 40)
      // Roles belong to the whole server, so each test has its own role. SQL must quote the role's name.
      let role = fixture.database.name + " Röle"
      let quoted = Identifier(role).quoted
      if publicPrivileges == .nothing {
        try await fixture.execute(
          """
          REVOKE ALL ON DATABASE \(identifier: fixture.database.name) FROM PUBLIC;
          REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA lethe FROM PUBLIC;
          REVOKE USAGE ON TYPE lethe.job_type, lethe.reason, lethe.action, lethe.run_status,
            lethe.chunk_state, lethe.silence FROM PUBLIC;
          """)
      }
      try await fixture.execute("CREATE ROLE \(trusted: quoted)")
      do {
        let printed = try await Program.run(
          "lethe", ["check", try fixture.definitionFile(), "--grants", "--role", role],
          environment: fixture.environment)
        #expect(printed.code == 0, "\(printed.stderr)")
        let grants = printed.stdout.split(separator: "\n").map(String.init)
        #expect(grants.allSatisfy { $0.hasPrefix("GRANT ") && $0.hasSuffix(" TO \(quoted);") })
        try await fixture.execute(SQL(trusted: printed.stdout))
        try await body(fixture, role, grants.map { String($0.dropLast(" TO \(quoted);".count)) })
      } catch {
        try? await fixture.execute("DROP OWNED BY \(trusted: quoted); DROP ROLE \(trusted: quoted)")
        throw error
      }
      try await fixture.execute("DROP OWNED BY \(trusted: quoted); DROP ROLE \(trusted: quoted)")
    }
  }

  /// Returns a function that edits a definition. The sessions of the edited definition use the role.
  private static func asRole(_ role: String) -> @Sendable (String) -> String {
    let name = role.replacing(" ", with: "\\ ")
      .addingPercentEncoding(withAllowedCharacters: .alphanumerics)!
    return { $0.editing("${DATABASE_URL}", to: "${DATABASE_URL}?options=-c%20role%3D\(name)") }
  }

  @Test(arguments: PublicPrivileges.allCases)
  func thePrintedGrantsAreEnoughForCompleteRuns(publicPrivileges: PublicPrivileges) async throws {
    try await Self.withRole(publicPrivileges) { fixture, role, _ in
      let file = try fixture.definitionFile(Self.asRole(role))
      func lethe(_ arguments: String...) async throws -> Program.Result {
        try await Program.run("lethe", arguments, environment: fixture.environment)
      }
      let check = try await lethe("check", file)
      #expect(check.code == 0, "\(check.stdout)\(check.stderr)")
      let run = try await lethe("run", file)
      #expect(run.code == 0, "\(run.stderr)")
      #expect(try await fixture.rowsThatDiffer() == 0)
      #expect(try await fixture.ledgerFaults() == [])
      #expect(try await fixture.value("SELECT count(*) > 0 FROM lethe.tombstone", as: Bool.self))
      #expect(try await fixture.value("SELECT count(*) > 0 FROM lethe.hold", as: Bool.self))

      // All accounts are public again, so the next run restores the hidden rows.
      try await fixture.execute(
        "UPDATE platform.accounts SET state = 'active' WHERE state = 'protected'")
      let plan = try await lethe("plan", file)
      #expect(plan.code == 0, "\(plan.stderr)")
      let restoring = try await lethe("run", file)
      #expect(restoring.code == 0, "\(restoring.stderr)")
      #expect(try await fixture.value("SELECT count(*) FROM lethe.hold", as: Int.self) == 0)
      #expect(
        try await fixture.value(
          "SELECT count(*) FROM warehouse.posts WHERE visibility <> 'public'", as: Int.self) == 0)
    }
  }

  /// A role for monitoring may only read the ledger. It does not know what the role of the runs may do.
  @Test func aRoleThatOnlyReadsTheLedgerReportsNoFaultOfARun() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 50, users: 4)
      let file = try fixture.definitionFile()
      let exported = try await Program.run(
        "lethe", ["export", file], environment: fixture.environment)
      #expect(exported.code == 0, "\(exported.stderr)")
      let role = fixture.database.name + "_monitor"
      try await fixture.execute(
        """
        CREATE ROLE \(trusted: role); GRANT USAGE ON SCHEMA lethe TO \(trusted: role);
        GRANT SELECT ON ALL TABLES IN SCHEMA lethe TO \(trusted: role)
        """)
      func status() async throws -> Program.Result {
        try await Program.run(
          "lethe", ["status", "--output", "json"],
          environment: fixture.environment.merging(["PGOPTIONS": "-c role=\(role)"]) { $1 })
      }
      let results: Result<(Program.Result, Program.Result), any Error>
      do {
        let first = try await status()
        // A fault that every role has is reported.
        try await fixture.execute("ALTER TABLE warehouse.users RENAME user_id TO number")
        results = .success((first, try await status()))
      } catch {
        results = .failure(error)
      }
      try await fixture.execute("DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)")
      let (first, second) = try results.get()
      #expect(first.code == 0, "\(first.stderr)")
      #expect((first.json["runs"] as? [Any])?.count == 1)
      #expect((first.json["unfit"] as? [Any])?.isEmpty == true, "\(first.stdout)")
      #expect((second.json["unfit"] as? [Any])?.count == 1, "\(second.stdout)")
    }
  }

  /// A table that is not in the definition can have a foreign key that prevents a delete. So apply reads its rows.
  @Test func aTableThatRefersToDeletedRowsIsInTheGrants() async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.execute(
        """
        CREATE SCHEMA likes; CREATE TABLE likes.liked (post_id bigint REFERENCES warehouse.posts)
        """)
      let printed = try await Program.run(
        "lethe", ["check", try fixture.definitionFile(), "--grants", "--role", "nightly"],
        environment: fixture.environment)
      #expect(printed.code == 0, "\(printed)")
      #expect(printed.stdout.contains(#"GRANT USAGE ON SCHEMA "likes" TO "nightly""#), "\(printed)")
      #expect(printed.stdout.contains(#"SELECT ON "likes"."liked" TO "nightly""#), "\(printed)")
    }
  }

  /// Runs commands that need no pipeline, with a role that may only read the ledger's version.
  @Test(arguments: [
    ["status"], ["quarantine", "list"], ["quarantine", "prune", "--older-than", "1d"],
    ["audit", "show", "1"], ["holds", "list"], ["migrate", "status"], ["migrate", "up"],
  ])
  func aMissingPrivilegeIsReportedWithItsRemedy(command: [String]) async throws {
    try await PipelineFixture.with { fixture in
      let role = fixture.database.name + "_nobody"
      try await fixture.execute(
        """
        CREATE ROLE \(trusted: role); GRANT USAGE ON SCHEMA lethe TO \(trusted: role);
        GRANT SELECT ON lethe.version TO \(trusted: role)
        """)
      defer {
        Task {
          try? await fixture.execute("DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)")
        }
      }
      let result = try await Program.run(
        "lethe", command + ["--output", "json"],
        environment: fixture.environment.merging(["PGOPTIONS": "-c role=\(role)"]) { $1 })
      let isMigration = command[0] == "migrate"
      guard result.code != 0 || !isMigration else { return }
      #expect([1, 2].contains(result.code), "\(result.stdout)\(result.stderr)")
      let error = try #require(result.json["error"] as? [String: Any], "\(result.stdout)")
      let remedy = error["remedy"] as? String ?? ""
      #expect(remedy.contains("--grants"), "\(remedy)")
      #expect(result.stderr.contains("remedy: "), "\(result.stderr)")
      #expect(
        !command.contains("prune") || remedy.contains("only the ledger's owner can"))
    }
  }

  /// A hold names the parent table. It does not matter whether UPDATE is granted on the table or only on columns. If
  /// two holds had different names for the table of one row, Lethe would restore a row that another holder still hides.
  @Test(arguments: ["UPDATE", "UPDATE (visibility)"])
  func theTableNameInAHoldDoesNotDependOnTheGrants(update: String) async throws {
    try await PipelineFixture.with { fixture in
      let role = Identifier(fixture.database.name + "_plain").quoted
      try await fixture.execute(
        """
        CREATE TABLE public.posts (post_id bigint, at date, visibility text, PRIMARY KEY (post_id, at))
          PARTITION BY RANGE (at);
        CREATE TABLE public.posts_1 PARTITION OF public.posts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        CREATE ROLE \(trusted: role);
        GRANT SELECT, \(trusted: update) ON public.posts, public.posts_1 TO \(trusted: role)
        """)
      let yaml = """
        name: p
        warehouse: ${DATABASE_URL}
        api: {bearer_token: t}
        datasets:
          posts:
            type: tweets
            table: public.posts_1
            id: post_id
            actions: {deleted: ignore, bounced: ignore, suspended: ignore, deactivated: ignore,
                      protected: {protect: {set: {visibility: hidden}, restore: former}},
                      scrub_geo: ignore, tweet_edited: ignore}
        """
      let pipeline = try Pipeline.parse(
        yaml: yaml, file: "p.yaml", environment: ["DATABASE_URL": fixture.database.url])
      let names = try await fixture.database.withConnection { connection in
        try await connection.execute("SET ROLE \(trusted: role)")
        let catalog = try await Catalog(of: pipeline.definition, on: connection)
        try await connection.execute("RESET ROLE")
        return catalog.holdTables
      }
      try await fixture.execute("DROP OWNED BY \(trusted: role); DROP ROLE \(trusted: role)")
      #expect(names == [TableName(schema: "public", name: "posts")])
    }
  }

  /// Splits `GRANT a, b (c, d) ON o` into single privileges: `a ON o`, `b (c) ON o`, `b (d) ON o`.
  private static func single(_ grant: String) -> [String] {
    let halves = grant.dropFirst("GRANT ".count).split(separator: " ON ", maxSplits: 1)
    return halves[0].split(separator: #/, (?![^(]*\))/#).flatMap { privilege -> [String] in
      guard let open = privilege.firstIndex(of: "(") else {
        return ["\(privilege) ON \(halves[1])"]
      }
      return privilege[open...].dropFirst().dropLast().split(separator: ", ").map {
        "\(privilege[..<open])(\($0)) ON \(halves[1])"
      }
    }
  }

  @Test func checkReportsEachMissingPrivilege() async throws {
    try await Self.withRole(.nothing) { fixture, role, grants in
      let pipeline = try fixture.pipeline(Self.asRole(role))
      let quoted = Identifier(role).quoted
      #expect(
        try await PipelineRuntime.findings(of: pipeline).filter { $0.severity == .error } == [])
      let privileges = grants.flatMap(Self.single)
      #expect(privileges.count > 80)
      // The session connects as another role and then sets this role, so this role does not need CONNECT.
      for privilege in privileges where !privilege.hasPrefix("CONNECT") {
        try await fixture.execute("REVOKE \(trusted: privilege) FROM \(trusted: quoted)")
        let errors = try await PipelineRuntime.findings(of: pipeline)
          .filter { $0.severity == .error }
        #expect(
          errors.contains { $0.remedy == "GRANT \(privilege) TO \(quoted)" },
          "\(privilege): \(errors)")
        try await fixture.execute("GRANT \(trusted: privilege) TO \(trusted: quoted)")
      }
    }
  }

  /// Lethe refuses the run before the export, even if the run needs the privilege only at its end.
  @Test(arguments: [
    "TEMPORARY ON DATABASE", "USAGE ON SCHEMA lethe", "INSERT ON lethe.seal",
    "DELETE ON lethe.hold", "SELECT ON lethe.approval", "UPDATE ON lethe.refusal",
    "EXECUTE ON FUNCTION lethe.ensure_event_partitions(timestamp with time zone)",
    "DELETE ON warehouse.post_media", "UPDATE (place_id) ON warehouse.posts",
    "SELECT ON warehouse.reposts",
  ])
  func aRunWithoutAPrivilegeIsRefusedBeforeItBegins(privilege: String) async throws {
    try await Self.withRole(.nothing) { fixture, role, _ in
      let object =
        privilege.hasSuffix("DATABASE") ? " \(Identifier(fixture.database.name).quoted)" : ""
      try await fixture.execute(
        "REVOKE \(trusted: privilege)\(trusted: object) FROM \(identifier: role)")
      let file = try fixture.definitionFile(Self.asRole(role))
      for command in ["run", "export", "plan", "check"] {
        let result = try await Program.run(
          "lethe", [command, file], environment: fixture.environment)
        #expect(result.code == 2, "\(command): \(result.stderr)")
        let printed = result.stdout + result.stderr
        #expect(printed.contains("is not granted"), "\(printed)")
        #expect(printed.contains("GRANT \(privilege.prefix { $0 != " " })"), "\(printed)")
      }
      #expect(try await fixture.value("SELECT count(*) FROM lethe.run", as: Int.self) == 0)
      #expect(try await fixture.value("SELECT count(*) FROM compliance.jobs", as: Int.self) == 0)
    }
  }

  @Test func grantsAreAListInJSONAndTheDefaultRoleIsTheConnectedRole() async throws {
    try await PipelineFixture.with { fixture in
      let file = try fixture.definitionFile()
      func lethe(_ arguments: String...) async throws -> Program.Result {
        try await Program.run("lethe", arguments, environment: fixture.environment)
      }
      let user = try await fixture.value("SELECT current_user::text", as: String.self)
      let json = try await lethe("check", file, "--grants", "--output", "json")
      let grants = try #require(json.json["grants"] as? [String])
      #expect(grants.contains { $0.contains(#""warehouse"."posts""#) })
      #expect(grants.allSatisfy { $0.hasSuffix(" TO \(Identifier(user).quoted)") })
      #expect(try await lethe("check", file, "--role", "x").code == 2)
    }
  }
}
