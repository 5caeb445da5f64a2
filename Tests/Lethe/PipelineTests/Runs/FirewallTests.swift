import Foundation
import PostgreSQL
import TestSupport
import Testing

/// A firewall between `lethe`, the database and the API drops the packets of connections that were idle for too long. It
/// informs neither side.
@Suite(.endedIfItHangs) struct FirewallTests {
  /// The rules of the firewall. They need a network of their own.
  private static let rules = """
    table inet firewall {
      counter dropped {}
      chain input {
        type filter hook input priority 0; policy accept;
        ct state invalid counter name dropped drop
      }
    }
    """

  /// A script that sets up a network with the firewall.
  /// - Parameters:
  ///   - idleSeconds: how long a connection may be idle.
  ///   - then: the commands that it runs after that.
  private static func script(idleSeconds: Int, _ then: String) -> String {
    """
    set -e
    ip link set lo up
    nft -f - <<'RULES'
    \(rules)
    RULES
    echo 0 >/proc/sys/net/netfilter/nf_conntrack_tcp_loose
    echo \(idleSeconds) >/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established
    \(then)
    """
  }

  @Sendable private static func canFilter() async throws -> Bool {
    try await Program.external(
      [
        "/usr/bin/unshare", PrivateNamespace.network, "/bin/bash", "-c",
        script(idleSeconds: 30, "true"),
      ]
    ).code == 0
  }

  /// At the first place, all connections are idle for longer than the firewall allows. They are replaced before they are
  /// used again. At the second one, a statement takes longer than that. Its keepalive packets come more often.
  @Test(
    .enabled("a network with a firewall is not allowed here", canFilter),
    arguments: [(Place.jobIsNotProcessed, 7), (.firstBatchIsNotCommitted, 13)])
  func aRunContinuesBehindAFirewall(place: Place, idleSeconds: Int) async throws {
    try await PipelineFixture.with { fixture in
      try await fixture.addSamples(posts: 1500, users: 40)
      let file = try fixture.definitionFile {
        $0.editing("limits:", to: "timeouts: {lease_seconds: 60}\nlimits:")
      }
      let directory = fixture.directory
      try TCPBalancer.script.write(
        toFile: directory + "/relay.py", atomically: true, encoding: .utf8)
      let service = try #require(fixture.service.firstRange(of: "://")).upperBound
      let address = String(fixture.service[service...])
      // Unix sockets are the same in all networks.
      let outside = Task {
        try await Program.external(
          ["/usr/bin/python3", directory + "/relay.py", directory + "/service", address])
      }
      defer { outside.cancel() }
      while !FileManager.default.fileExists(atPath: directory + "/service") {
        try await pollingPause()
      }
      let launcher = Self.script(
        idleSeconds: idleSeconds,
        """
        run() { coproc RELAY { exec /usr/bin/python3 \(directory)/relay.py "$@"; }; read -r _ <&"${RELAY[0]}"; } 2>/dev/null
        run 127.0.0.1:5432 \(fixture.database.socket); first=$RELAY_PID
        run \(address) \(directory)/service; second=$RELAY_PID
        code=0; "$0" "$@" || code=$?
        nft list counter inet firewall dropped >\(directory)/dropped
        kill -9 "$first" "$second"
        exit $code
        """)
      try await fixture.database.withConnection { connection in
        if let trigger = place.trigger {
          try await fixture.hold(trigger, connection)
          try await connection.makeHoldSlow()
        }
        fixture.gate.hold { place.isReached(by: $0) }
        let program = try Program(
          "lethe", ["run", file],
          environment: fixture.environment.merging([
            "DATABASE_URL": "postgresql://lethe@127.0.0.1/\(fixture.database.name)"
          ]) { $1 },
          launcher: ["/usr/bin/unshare", PrivateNamespace.network, "/bin/bash", "-c", launcher])
        let isReached = try await fixture.wait(connection, for: program) {
          place.trigger == nil
            ? fixture.gate.history.contains { place.isReached(by: $0) }
            : try await connection.hasSlowStatement()
        }
        #expect(isReached)
        try await connection.wait(seconds: idleSeconds + 3)
        try await fixture.release(place, connection)
        let result = await program.ended()
        #expect(result.code == 0, "\(result.stderr)")
        #expect(
          !result.stderr.contains("the session with the database is lost"), "\(result.stderr)")
        if place.trigger != nil { try await connection.execute("DROP SCHEMA hold CASCADE") }
      }
      let dropped = try String(contentsOfFile: directory + "/dropped", encoding: .utf8)
      #expect(place == .firstBatchIsNotCommitted || !dropped.contains("packets 0 "), "\(dropped)")
      try await fixture.expectEndOfRun()
    }
  }
}

extension Connection {
  /// Lets the held statement take long without a wait for a lock, which has a timeout.
  fileprivate func makeHoldSlow() async throws {
    try await runScript(
      """
      CREATE OR REPLACE FUNCTION hold.here() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN
           WHILE NOT pg_try_advisory_xact_lock_shared(\(literal: PipelineFixture.heldLock)) LOOP
             PERFORM pg_sleep(0.05);
           END LOOP;
           RETURN NEW;
         END'
      """)
  }

  fileprivate func hasSlowStatement() async throws -> Bool {
    try await query(
      """
      SELECT EXISTS (SELECT FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event = 'PgSleep')
      """
    ).onlyRow(as: Bool.self)
  }

  /// Returns when this time has passed on the server's clock. The firewall has then forgotten idle connections.
  fileprivate func wait(seconds: Int) async throws {
    let end = try await query(
      "SELECT (clock_timestamp() + make_interval(secs => \(seconds)))::text"
    ).onlyRow(as: String.self)
    while try await query("SELECT clock_timestamp() < \(end)::timestamptz").onlyRow(as: Bool.self) {
      try await pollingPause()
    }
  }
}
