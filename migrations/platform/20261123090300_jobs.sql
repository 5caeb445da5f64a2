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
