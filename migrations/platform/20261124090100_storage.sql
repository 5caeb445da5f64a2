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
