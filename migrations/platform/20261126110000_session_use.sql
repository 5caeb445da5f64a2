-- When a resumable upload was last gone on with: one that is abandoned must not keep its job's slot for a week.
-- migrate:up
ALTER TABLE compliance.upload_sessions
    ADD used_at timestamptz NOT NULL DEFAULT clock_timestamp();

-- migrate:down
ALTER TABLE compliance.upload_sessions DROP used_at;
