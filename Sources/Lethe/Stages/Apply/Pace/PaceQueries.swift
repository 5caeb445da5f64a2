public import Definitions
public import PostgreSQL

/// Reads from the server what the pace depends on.
extension PaceObservation {
  /// Reads only what `pace` needs.
  /// - Returns: the observation, and the server's position in its WAL, in bytes.
  static func observed(
    for pace: ApplyPace, on session: some Session
  ) async throws -> (observation: PaceObservation, walBytes: Int) {
    var observation = PaceObservation()
    if pace.replicaLagMax != nil {
      (observation.role, observation.seesLags) = try await role(on: session)
      observation.standbys = try await standbys(on: session)
    }
    guard pace.walRateMax != nil else { return (observation, 0) }
    let wal: Int
    (wal, observation.archive) = try await archive(on: session)
    return (observation, wal)
  }

  /// Receivers that replay nothing, such as pg_receivewal and pg_basebackup, are not standbys. Roles without
  /// pg_read_all_stats get NULL for the state and the lag, so for them such receivers count as standbys, too.
  ///
  /// `replay_lag` keeps its last value for some time after a standby has replayed everything, and is NULL after that.
  private static func standbys(on session: some Session) async throws -> [Standby] {
    let rows = try await session.query(
      """
      SELECT coalesce(r.application_name, ''), r.state IS NOT NULL,
        CASE WHEN r.replay_lsn < pg_catalog.pg_current_wal_flush_lsn()
          THEN extract(epoch FROM r.replay_lag)::double precision END,
        greatest(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), r.replay_lsn), 0)::bigint
      FROM pg_catalog.pg_stat_replication AS r
      WHERE r.state IS NULL OR r.replay_lsn IS NOT NULL
      """
    ).rows(as: String.self, Bool.self, Double?.self, Int?.self)
    return rows.map { name, isVisible, seconds, bytes in
      Standby(
        name: name,
        lag: isVisible
          ? Lag(time: TimeSpan(seconds: seconds ?? 0), size: ByteSize(bytes: bytes ?? 0)) : nil)
    }
  }

  private static func role(
    on session: some Session
  ) async throws -> (name: String, seesLags: Bool) {
    try await session.query(
      """
      SELECT pg_catalog.quote_ident(current_user),
        pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
      """
    ).onlyRow(as: String.self, Bool.self)
  }

  /// The server's position in its WAL, and the state of the archive. The name of a WAL file consists of the timeline,
  /// the number of the 4 GiB unit, and the number of the file in that unit.
  private static func archive(
    on session: some Session
  ) async throws -> (walBytes: Int, Archive?) {
    let row = try await session.query(
      """
      WITH server AS (
        SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0')::bigint AS wal,
          pg_catalog.current_setting('archive_mode') <> 'off' AS is_archiving,
          pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')) AS segment
      )
      SELECT s.*,
        CASE WHEN a.last_archived_wal ~ '^[0-9A-F]{24}' THEN
          ('x' || pg_catalog.substr(a.last_archived_wal, 9, 8))::bit(32)::bigint * 4294967296
          + (('x' || pg_catalog.substr(a.last_archived_wal, 17, 8))::bit(32)::bigint + 1) * s.segment
        END AS archived,
        coalesce(a.last_failed_time > coalesce(a.last_archived_time, '-infinity'), false) AS is_failing
      FROM server AS s CROSS JOIN pg_catalog.pg_stat_archiver AS a
      """
    ).onlyRow()
    let wal: Int = try row["wal"]
    guard try row["is_archiving"] else { return (wal, nil) }
    let archived: Int? = try row["archived"]
    return (
      wal,
      Archive(
        waiting: archived.map { ByteSize(bytes: max(0, wal - $0)) },
        isFailing: try row["is_failing"],
        segment: ByteSize(bytes: try row["segment"]))
    )
  }
}

extension ApplyPace {
  /// The bounds that have no effect on this server, for this role.
  public func warnings(on session: some Session) async throws -> [PaceWarning] {
    warnings(on: try await PaceObservation.observed(for: self, on: session).observation)
  }
}
