-- What a host finds too large is learnt from: chunks of the same run that are as large are cut before they get a job.
-- migrate:up
ALTER TABLE lethe.job
    -- The host of the job's upload URL; null where the API named none, and of jobs from before.
    ADD upload_host text,
    -- Set when the host took the job's bytes for too many: how many they were.
    ADD refused_bytes bigint CHECK (refused_bytes > 0);

INSERT INTO lethe.version (version) VALUES ('20261126134700');

-- migrate:down
ALTER TABLE lethe.job DROP upload_host, DROP refused_bytes;
DELETE FROM lethe.version WHERE version = '20261126134700';
