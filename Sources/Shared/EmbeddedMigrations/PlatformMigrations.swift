// Made by scripts/embed-migrations from migrations/platform/*.sql: change those, and run it again.
// swift-format-ignore-file

/// The service's migrations, as their files have them, in the order of their versions.
public enum PlatformMigrations {
  public static let files: [(name: String, text: String)] = [
("20261123090200_platform.sql", ##"""
-- What the platform knows of its accounts and posts: the state that compliance answers derive from.
-- migrate:up
CREATE SCHEMA platform;

CREATE TYPE platform.account_state AS ENUM (
    'active', 'protected', 'suspended', 'deactivated', 'deleted'
);

CREATE TABLE platform.accounts (
    account_id       bigint PRIMARY KEY,
    username         text NOT NULL,
    created_at       timestamptz NOT NULL,
    state            platform.account_state NOT NULL DEFAULT 'active',
    -- When it came to that state; an active account that never changed has none.
    state_changed_at timestamptz,
    CHECK (state = 'active' OR state_changed_at IS NOT NULL)
);

CREATE TABLE platform.posts (
    post_id        bigint PRIMARY KEY,
    author_id      bigint NOT NULL REFERENCES platform.accounts,
    created_at     timestamptz NOT NULL,
    -- Each is null until it happened.
    deleted_at     timestamptz,
    edited_at      timestamptz,
    geo_removed_at timestamptz
);
CREATE INDEX posts_author_id ON platform.posts (author_id);

-- migrate:down
DROP SCHEMA platform CASCADE;

"""##),
("20261123090300_jobs.sql", ##"""
-- The local service's own memory: the jobs of the Apps that use it, and the key that signs their URLs.
-- migrate:up
CREATE SCHEMA compliance;

CREATE TYPE compliance.job_type AS ENUM ('tweets', 'users');
CREATE TYPE compliance.job_status AS ENUM (
    'created', 'in_progress', 'complete', 'failed', 'expired'
);

-- A snowflake: milliseconds since 2010-11-04T01:42:54.657Z above 22 bits that tell one millisecond's jobs apart.
CREATE SEQUENCE compliance.job_number AS bigint MINVALUE 0 MAXVALUE 4194303 CYCLE;
CREATE FUNCTION compliance.next_job_id() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT ((floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - 1288834974657) << 22)
        | nextval('compliance.job_number')
$$;

CREATE TABLE compliance.jobs (
    id                  bigint PRIMARY KEY DEFAULT compliance.next_job_id(),
    -- The SHA-256 of the App's bearer token; the token itself is nowhere.
    app_id              text NOT NULL CHECK (app_id ~ '^[0-9a-f]{64}$'),
    type                compliance.job_type NOT NULL,
    name                text CHECK (char_length(name) <= 64),
    status              compliance.job_status NOT NULL DEFAULT 'created',
    error               text,
    created_at          timestamptz NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp()),
    upload_expires_at   timestamptz NOT NULL,
    download_expires_at timestamptz NOT NULL,
    uploaded_at         timestamptz,
    finished_at         timestamptz,
    -- Names in the spool directory. Whether the file is still there follows from the status and the expiry.
    submission_file     text,
    result_file         text,
    result_bytes        bigint CHECK (result_bytes >= 0),
    CHECK (upload_expires_at >= created_at AND download_expires_at >= created_at),
    CHECK ((error IS NOT NULL) = (status = 'failed')),
    CHECK ((finished_at IS NOT NULL) = (status IN ('complete', 'failed', 'expired'))),
    CHECK (status <> 'created' OR uploaded_at IS NULL),
    CHECK (status <> 'in_progress' OR (uploaded_at IS NOT NULL AND submission_file IS NOT NULL)),
    CHECK ((result_bytes IS NOT NULL) = (status = 'complete')),
    CHECK ((result_file IS NOT NULL) = (status = 'complete'))
);

-- An App has at most one active job of a type. The name is what the service knows the conflict by.
CREATE UNIQUE INDEX jobs_one_active ON compliance.jobs (app_id, type)
    WHERE status IN ('created', 'in_progress');
CREATE INDEX jobs_listed ON compliance.jobs (app_id, type, created_at DESC, id DESC);
CREATE INDEX jobs_unused ON compliance.jobs (upload_expires_at) WHERE status = 'created';
CREATE INDEX jobs_waiting ON compliance.jobs (uploaded_at) WHERE status = 'in_progress';

-- One row, made by the first server that starts, so that a URL outlives the server that signed it.
CREATE TABLE compliance.signing_key (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    key      bytea NOT NULL CHECK (octet_length(key) = 32)
);

-- migrate:down
DROP SCHEMA compliance CASCADE;

"""##),
("20261124090000_profiles.sql", ##"""
-- A job's wire profile is fixed when it is created: its URLs stay what they are whatever the server is told later.
-- migrate:up
CREATE TYPE compliance.profile AS ENUM ('native', 'gcs');

ALTER TABLE compliance.jobs
    ADD profile compliance.profile NOT NULL DEFAULT 'native',
    ADD resumable boolean NOT NULL DEFAULT false,
    ADD CHECK (NOT resumable OR profile = 'gcs');

-- A post that could not be delivered to its readers. The gcs profile calls that bounced, the native one deleted.
ALTER TABLE platform.posts ADD bounced_at timestamptz;

-- migrate:down
ALTER TABLE platform.posts DROP bounced_at;
ALTER TABLE compliance.jobs DROP resumable, DROP profile;
DROP TYPE compliance.profile;

"""##),
("20261124090100_storage.sql", ##"""
-- What the gcs profile's storage host remembers: resumable uploads, and the checksums that it sends with objects.
-- migrate:up
ALTER TABLE compliance.jobs
    -- As in x-goog-hash: crc32c=…,md5=…; null in the native profile.
    ADD submission_hash text,
    ADD result_hash     text;

CREATE TABLE compliance.upload_sessions (
    -- The SHA-256 of the session's ID; the ID itself, which opens the session, is nowhere.
    id_sha256    bytea PRIMARY KEY CHECK (octet_length(id_sha256) = 32),
    job_id       bigint NOT NULL REFERENCES compliance.jobs ON DELETE CASCADE,
    -- A name in the spool directory.
    file         text NOT NULL,
    -- So many bytes of it are on disk for sure; what may follow them counts for nothing.
    stored_bytes bigint NOT NULL DEFAULT 0 CHECK (stored_bytes >= 0),
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    completed_at timestamptz,
    cancelled_at timestamptz,
    CHECK (completed_at IS NULL OR cancelled_at IS NULL)
);
CREATE INDEX upload_sessions_job_id ON compliance.upload_sessions (job_id);

-- migrate:down
DROP TABLE compliance.upload_sessions;
ALTER TABLE compliance.jobs DROP result_hash, DROP submission_hash;

"""##),
("20261126100000_spool.sql", ##"""
-- Which folder has the bytes of this database's jobs: a server that is started with another one would take them for lost.
-- migrate:up
CREATE TABLE compliance.spool (
    only_one  boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    -- In the folder's file spool.id, too.
    id        uuid NOT NULL DEFAULT gen_random_uuid(),
    -- Where the folder was when it was used last.
    directory text NOT NULL
);

-- migrate:down
DROP TABLE compliance.spool;

"""##),
("20261126110000_session_use.sql", ##"""
-- When a resumable upload was last gone on with: one that is abandoned must not keep its job's slot for a week.
-- migrate:up
ALTER TABLE compliance.upload_sessions
    ADD used_at timestamptz NOT NULL DEFAULT clock_timestamp();

-- migrate:down
ALTER TABLE compliance.upload_sessions DROP used_at;

"""##),
  ]
}
