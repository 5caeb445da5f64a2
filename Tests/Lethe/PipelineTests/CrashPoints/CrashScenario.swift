import ComplianceService
import CrashPoints
import FaultPlans
import Foundation
import PostgreSQL

/// A night that a test interrupts at crash points. All scenarios begin after the same first night, which has hidden some
/// rows. The outcome of a scenario does not depend on which of its types or stages is faster.
enum CrashScenario: String, CaseIterable, Sendable {
  /// Two datasets, several chunks and batches, rows to hide and to restore, deletions, renamed columns and another key,
  /// refused events, refused creations and uploads, failed jobs, and a job of no chunk in the slot.
  case night
  /// A run was interrupted during an upload, two of its files were lost, and it continues in another folder.
  case lostFiles
  /// A run was interrupted during an upload, and continues in another folder.
  case movedFolder
  /// A limit stops a chunk, another chunk is set aside, and a dataset cannot be exported.
  case halted
  /// Connections are cut during a download and an upload, and another download is not a result.
  case brokenTransfers
  /// A run was interrupted during a download.
  case interruptedDownload
  /// A process loses its lease between the creation of a job and the record of it. Then the night is run again.
  case lostLease

  /// The changes between the first night and this one.
  var changes: SQL {
    switch self {
    case .night, .lostFiles, .movedFolder: "\(Self.platformChanges);\n\(Self.warehouseChanges)"
    case .halted: "\(Self.platformChanges);\n\(Self.obstacles)"
    case .brokenTransfers, .interruptedDownload: Self.platformChanges
    case .lostLease: "\(Self.platformChanges);\n\(Self.refusedJob)"
    }
  }

  var definition: String {
    switch self {
    case .night, .lostFiles, .movedFolder: Self.definition(postColumn: "audience")
    case .halted: Self.haltedDefinition
    case .brokenTransfers, .interruptedDownload, .lostLease:
      Self.definition(postColumn: "visibility")
    }
  }

  /// The faults of the service, each of which happens once. The calls for uploads are several, because one of them may be
  /// an upload that is too large.
  var faults: [String] {
    if self == .brokenTransfers {
      return [
        "{at: download, call: 1, cut: during}",
        #"{at: download, call: 3, answer: {status: 200, body: html}}"#,
        "{at: upload, call: 1, cut: before}",
      ]
    }
    guard self == .night else { return [] }
    return [
      "{at: create, call: 2, lose_response: true}",
      "{at: upload, call: [4, 6, 10], rewrite: {status: 400}}",
      #"{at: get, call: 2, answer: {status: 200, text: "{}"}}"#,
      "{fail: out of luck, call: 3}",
    ]
  }

  /// The largest upload that the service accepts. Nil for the service's own limit. A chunk of 12 posts has 72 bytes. The
  /// refusal does not end, so it is the same chunks that are cut in a night that is run again.
  var uploadBytesMax: Int? { self == .night ? 60 : nil }

  /// The largest number of attempts that end without a result: for each fault, for the refused upload, for the chunk that
  /// is set aside, or for the job that a process with a lost lease cancels.
  var failedAttemptsMax: Int {
    switch self {
    case .night: 6
    case .halted, .lostLease: 1
    case .lostFiles, .movedFolder, .brokenTransfers, .interruptedDownload: 0
    }
  }

  /// Whether a job that no chunk uses is in the slot of posts.
  var hasOrphan: Bool { self == .night }

  /// Whether all chunks are applied at the end.
  var isComplete: Bool { self != .lostFiles && self != .halted }

  /// The point at which the night was interrupted before. Nil if it has not begun.
  var formerPoint: CrashPoint? {
    switch self {
    case .lostFiles, .movedFolder: CrashPoint(moment: .before, step: .uploadCall)
    case .interruptedDownload: CrashPoint(moment: .during, step: .downloadCall)
    case .night, .halted, .brokenTransfers, .lostLease: nil
    }
  }

  /// Whether the night continues in another folder than the one in which it began.
  var isMoved: Bool { self == .lostFiles || self == .movedFolder }
}

// MARK: The data

extension CrashScenario {
  /// Accounts 1 to 6 are in the dataset of users, which reaches their posts. The dataset of posts has only the posts of
  /// the other accounts. So no row is reached by both datasets, and their order does not matter.
  static let firstNight: SQL = """
    INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
    SELECT u, 'user' || u, now() - interval '1 year',
           (CASE WHEN u IN (2, 102) THEN 'protected' ELSE 'active' END)::platform.account_state, now()
    FROM unnest(ARRAY[1, 2, 3, 4, 5, 6, 101, 102, 103]) AS u;

    INSERT INTO platform.posts (post_id, author_id, created_at)
    SELECT u * 100 + p, u, now() - interval '1 month'
    FROM generate_series(1, 6) AS u, generate_series(1, 4) AS p
    UNION ALL
    SELECT 10000 + p, 101 + p % 3, now() - interval '1 month' FROM generate_series(1, 24) AS p;

    INSERT INTO warehouse.users (user_id, username, created_at)
    SELECT account_id, username, created_at FROM platform.accounts WHERE account_id < 100;

    INSERT INTO warehouse.posts
      (post_id, author_id, text, latitude, longitude, place_id, created_at)
    SELECT post_id, author_id, 'text of ' || post_id, 51.5, -0.1, 'london', created_at
    FROM platform.posts;

    INSERT INTO warehouse.post_media (post_id, media_key, url)
    SELECT post_id, 'key', 'https://media.example/' || post_id FROM warehouse.posts
    WHERE post_id % 2 = 0;
    """

  private static let platformChanges: SQL = """
    UPDATE platform.accounts
    SET state_changed_at = now(),
        state = (CASE WHEN account_id IN (4, 103) THEN 'protected' WHEN account_id = 3 THEN 'deleted'
                      ELSE 'active' END)::platform.account_state
    WHERE account_id IN (2, 3, 4, 102, 103);
    UPDATE platform.posts SET deleted_at = now() WHERE post_id IN (10003, 10006, 10009, 10015, 10024);
    UPDATE platform.posts SET geo_removed_at = now() WHERE post_id IN (10012, 10018);
    UPDATE platform.posts SET edited_at = now() WHERE post_id = 10021
    """

  /// Post 10006 is referenced by a table of no target. A trigger refuses the deletion of post 10015.
  private static let warehouseChanges: SQL = """
    ALTER TABLE warehouse.posts RENAME visibility TO audience;
    ALTER TABLE warehouse.users ADD region integer NOT NULL DEFAULT 1;
    ALTER TABLE warehouse.users DROP CONSTRAINT users_pkey;
    ALTER TABLE warehouse.users ADD PRIMARY KEY (region, user_id);
    CREATE TABLE warehouse.notes (post_id bigint REFERENCES warehouse.posts);
    CREATE INDEX ON warehouse.notes (post_id);
    INSERT INTO warehouse.notes VALUES (10006);
    CREATE FUNCTION warehouse.keep() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN RAISE EXCEPTION ''this row stays''; END';
    CREATE TRIGGER keep BEFORE DELETE ON warehouse.posts FOR EACH ROW WHEN (OLD.post_id = 10015)
      EXECUTE FUNCTION warehouse.keep();
    """

  /// The ledger cannot record the upload of a chunk of users.
  private static let obstacles: SQL = """
    CREATE SCHEMA obstacle;
    CREATE FUNCTION obstacle.here() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN
         IF (SELECT dataset FROM lethe.chunk WHERE chunk_id = NEW.chunk_id) = ''users'' THEN
           RAISE EXCEPTION ''no upload'' USING ERRCODE = ''23514'';
         END IF;
         RETURN NEW;
       END';
    CREATE TRIGGER obstacle BEFORE UPDATE ON lethe.job FOR EACH ROW
      WHEN (OLD.uploaded_at IS NULL AND NEW.uploaded_at IS NOT NULL)
      EXECUTE FUNCTION obstacle.here()
    """

  /// The ledger refuses the first job, as if another process had taken over.
  private static let refusedJob: SQL = """
    CREATE SCHEMA obstacle;
    CREATE SEQUENCE obstacle.jobs;
    CREATE FUNCTION obstacle.here() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN RETURN CASE WHEN nextval(''obstacle.jobs'') > 1 THEN NEW END; END';
    CREATE TRIGGER obstacle BEFORE UPDATE ON lethe.job FOR EACH ROW
      WHEN (OLD.api_id IS NULL AND NEW.api_id IS NOT NULL)
      EXECUTE FUNCTION obstacle.here()
    """

  /// In the legacy profile, a job cannot be cancelled, and keeps the slot until it expires. Here, a job expires when its
  /// attempt has ended. The job of no chunk expires after some renewals of leases, which come before calls of the API.
  static let expiries: SQL = """
    CREATE SCHEMA expiry;
    CREATE SEQUENCE expiry.renewals;
    CREATE FUNCTION expiry.end(text) RETURNS void LANGUAGE sql AS
      'UPDATE compliance.jobs SET status = ''expired'', finished_at = now()
       WHERE name LIKE $1 AND status = ''created''';
    CREATE FUNCTION expiry.attempt() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN PERFORM expiry.end(NEW.name); RETURN NULL; END';
    CREATE FUNCTION expiry.renewal() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN
         IF nextval(''expiry.renewals'') BETWEEN 21 AND 25 THEN PERFORM expiry.end(''%-c999-%''); END IF;
         RETURN NULL;
       END';
    CREATE TRIGGER expiry AFTER UPDATE ON lethe.job FOR EACH ROW
      WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL) EXECUTE FUNCTION expiry.attempt();
    CREATE TRIGGER expiry AFTER UPDATE ON lethe.worker FOR EACH ROW EXECUTE FUNCTION expiry.renewal()
    """

  private static let api = """
    name: night
    warehouse: ${DATABASE_URL}
    api:
      base_url: ${COMPLIANCE_API_URL}
      bearer_token: ${X_BEARER_TOKEN}
      allowed_hosts: [127.0.0.2]
      job_attempts: 6
      poll_seconds: 0.02
      poll_seconds_max: 0.05

    """

  /// - Parameter postColumn: the column that hides posts.
  static func definition(postColumn: String) -> String {
    api + """
      limits: {max_redacted_percent: 100, max_redacted_rows: 1000, max_restored_percent: 100}
      datasets:
        posts:
          type: tweets
          table: warehouse.posts
          id: post_id
          where: author_id > 100
          chunk: {ids: 12}
          batch: 3
          actions:
            deleted: delete
            bounced: delete
            suspended: delete
            deactivated: delete
            protected: {protect: {set: {\(postColumn): protected}, restore: {\(postColumn): public}}}
            geo_scrubbed: {scrub_geo: [latitude, longitude, place_id]}
            tweet_edited: rehydrate
          targets:
            - table: warehouse.post_media
              match: post_id
              actions: {deleted: delete}
        users:
          type: users
          table: warehouse.users
          id: user_id
          batch: 3
          batch_rows: 3
          actions:
            deleted: delete
            suspended: delete
            deactivated: delete
            protected: {protect: {set: {visibility: protected}, restore: {visibility: public}}}
          targets:
            - table: warehouse.posts
              match: author_id
              id: post_id
              type: tweets
              actions:
                deleted: delete
                protected: {protect: {set: {\(postColumn): protected}, restore: {\(postColumn): public}}}
              targets:
                - table: warehouse.post_media
                  match: post_id
                  actions: {deleted: delete}
      """
  }

  private static let haltedDefinition =
    api + """
      limits: {max_redacted_percent: 100, max_redacted_rows: 2, max_restored_percent: 100}
      datasets:
        posts:
          type: tweets
          table: warehouse.posts
          id: post_id
          where: author_id > 100
          actions:
            deleted: delete
            bounced: ignore
            suspended: ignore
            deactivated: ignore
            protected: ignore
            geo_scrubbed: ignore
            tweet_edited: ignore
        located:
          type: tweets
          table: warehouse.posts
          id: post_id
          where: 1 / (post_id - post_id) = 1
          actions:
            deleted: delete
            bounced: ignore
            suspended: ignore
            deactivated: ignore
            protected: ignore
            geo_scrubbed: ignore
            tweet_edited: ignore
        users:
          type: users
          table: warehouse.users
          id: user_id
          actions: {deleted: delete, suspended: ignore, deactivated: ignore, protected: ignore}
      """
}
