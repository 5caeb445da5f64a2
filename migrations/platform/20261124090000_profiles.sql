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
