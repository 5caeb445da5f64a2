-- The ledger: all that Lethe remembers. Nothing that matters lives in files or processes.
-- migrate:up
CREATE SCHEMA lethe;

CREATE TYPE lethe.job_type AS ENUM ('tweets', 'users');

-- Why an ID needs action; 'clean' is an ID that Lethe had protected and that came back without an event.
CREATE TYPE lethe.reason AS ENUM (
    'deleted', 'bounced', 'suspended', 'deactivated', 'protected', 'geo_scrubbed', 'tweet_edited', 'clean'
);

CREATE TYPE lethe.action AS ENUM ('delete', 'protect', 'scrub_geo', 'rehydrate', 'ignore', 'restore');

-- running: a process works on it, or one that died did. stopped: a limit asks for a decision.
-- Both are unfinished; the next run goes on with them.
CREATE TYPE lethe.run_status AS ENUM ('running', 'stopped', 'done', 'failed');

-- The order matters: a later state implies the timestamps of the earlier ones.
CREATE TYPE lethe.chunk_state AS ENUM (
    'exported', 'created', 'uploaded', 'complete', 'collected', 'applied', 'failed'
);

CREATE TABLE lethe.run (
    run_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Part of the jobs' names, so that ledgers that share an App never mistake each other's jobs.
    key            text NOT NULL UNIQUE CHECK (key ~ '^[0-9a-f]{12}$'),
    pipeline       text NOT NULL,
    -- As it was when the run began; without connection strings and tokens.
    definition     jsonb NOT NULL,
    work_directory text NOT NULL,
    status         lethe.run_status NOT NULL DEFAULT 'running',
    -- The process that works on the run. Another one that takes it over changes the lease, and
    -- whatever the first one still tries to record is refused.
    lease          uuid NOT NULL,
    started_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at    timestamptz,
    failure        text,
    CHECK ((status IN ('done', 'failed')) = (finished_at IS NOT NULL)),
    CHECK (status <> 'failed' OR failure IS NOT NULL)
);
CREATE INDEX run_unfinished ON lethe.run (pipeline, run_id) WHERE finished_at IS NULL;

-- How far the export of a dataset has come in a run.
CREATE TABLE lethe.export (
    run_id           bigint NOT NULL REFERENCES lethe.run ON DELETE CASCADE,
    dataset          text NOT NULL,
    type             lethe.job_type NOT NULL,
    -- Every ID up to this one is in a recorded chunk.
    exported_through bigint NOT NULL DEFAULT 0 CHECK (exported_through >= 0),
    chunks           integer NOT NULL DEFAULT 0 CHECK (chunks >= 0),
    ids              bigint NOT NULL DEFAULT 0 CHECK (ids >= 0),
    started_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at      timestamptz,
    PRIMARY KEY (run_id, dataset)
);

CREATE TABLE lethe.chunk (
    chunk_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id          bigint NOT NULL REFERENCES lethe.run ON DELETE CASCADE,
    dataset         text NOT NULL,
    type            lethe.job_type NOT NULL,
    number          integer NOT NULL CHECK (number > 0),
    first_id        bigint NOT NULL CHECK (first_id > 0),
    last_id         bigint NOT NULL,
    ids             bigint NOT NULL CHECK (ids > 0),
    bytes           bigint NOT NULL CHECK (bytes > 0),
    sha256          bytea NOT NULL CHECK (octet_length(sha256) = 32),
    path            text NOT NULL,
    state           lethe.chunk_state NOT NULL DEFAULT 'exported',
    lease           uuid NOT NULL,
    exported_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at      timestamptz,
    uploaded_at     timestamptz,
    completed_at    timestamptz,
    collected_at    timestamptz,
    applied_at      timestamptz,
    failed_at       timestamptz,
    failure         text,
    -- Whether the next run's fresh chunk of these IDs may fare better.
    is_retryable    boolean,
    events          bigint CHECK (events >= 0),
    quarantined     bigint CHECK (quarantined >= 0),
    -- Every event up to this ID is applied.
    applied_through bigint,
    -- Why the limits stopped it, and when somebody said to go on.
    stopped_reason  text,
    approved_at     timestamptz,
    UNIQUE (run_id, dataset, number),
    CHECK (first_id <= last_id),
    CHECK (ids <= last_id - first_id + 1),
    CHECK (state = 'failed' OR (created_at IS NOT NULL) = (state >= 'created')),
    CHECK (state = 'failed' OR (uploaded_at IS NOT NULL) = (state >= 'uploaded')),
    CHECK (state = 'failed' OR (completed_at IS NOT NULL) = (state >= 'complete')),
    CHECK (state = 'failed' OR (collected_at IS NOT NULL) = (state >= 'collected')),
    CHECK (state = 'failed' OR (applied_at IS NOT NULL) = (state >= 'applied')),
    CHECK ((state = 'failed') = (failed_at IS NOT NULL)),
    CHECK ((state = 'failed') = (failure IS NOT NULL)),
    CHECK ((state = 'failed') = (is_retryable IS NOT NULL)),
    CHECK ((collected_at IS NULL) = (events IS NULL)),
    CHECK ((collected_at IS NULL) = (quarantined IS NULL)),
    CHECK ((collected_at IS NULL) = (applied_through IS NULL))
);
CREATE INDEX chunk_unfinished ON lethe.chunk (run_id, state) WHERE state NOT IN ('applied', 'failed');

-- One attempt at a chunk. The row is there before the API is called.
CREATE TABLE lethe.job (
    job_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chunk_id      bigint NOT NULL REFERENCES lethe.chunk ON DELETE CASCADE,
    attempt       integer NOT NULL CHECK (attempt > 0),
    name          text NOT NULL UNIQUE CHECK (length(name) <= 64),
    -- The API's ID for it; null until the API has answered, or a listing has shown it.
    api_id        text UNIQUE CHECK (api_id ~ '^[0-9]{1,19}$'),
    -- The API's last word, as it said it.
    status        text,
    intended_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at    timestamptz,
    uploaded_at   timestamptz,
    completed_at  timestamptz,
    -- Set when nothing more comes of it: collected, or dead with the reason in failure.
    ended_at      timestamptz,
    failure       text,
    result_bytes  bigint,
    result_lines  bigint,
    result_sha256 bytea CHECK (octet_length(result_sha256) = 32),
    UNIQUE (chunk_id, attempt),
    CHECK ((api_id IS NULL) = (created_at IS NULL)),
    CHECK (failure IS NULL OR ended_at IS NOT NULL)
);
-- At most one attempt at a chunk is alive.
CREATE UNIQUE INDEX job_alive ON lethe.job (chunk_id) WHERE ended_at IS NULL;

-- The events of collected chunks that wait to be applied.
CREATE TABLE lethe.collected (
    chunk_id    bigint NOT NULL REFERENCES lethe.chunk ON DELETE CASCADE,
    id          bigint NOT NULL,
    reason      lethe.reason NOT NULL,
    created_at  timestamptz,
    redacted_at timestamptz,
    -- Lethe had protected the ID, and this answer says that it no longer has to be: it is clean, or
    -- it comes with an event that a protection would have outweighed.
    restores    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (chunk_id, id)
);

-- The audit record: an event as it was applied. Partitioned by month.
CREATE TABLE lethe.event (
    id          bigint NOT NULL,
    type        lethe.job_type NOT NULL,
    reason      lethe.reason NOT NULL,
    -- What was done to the dataset's own table.
    action      lethe.action NOT NULL,
    chunk_id    bigint NOT NULL,
    job_id      bigint NOT NULL,
    created_at  timestamptz,
    redacted_at timestamptz,
    applied_at  timestamptz NOT NULL,
    -- Rows changed, by action and table: {"delete warehouse.posts": 1}. Null if none was.
    changed     jsonb
) PARTITION BY RANGE (applied_at);
CREATE INDEX event_id ON lethe.event (id);
CREATE INDEX event_chunk_id ON lethe.event (chunk_id);

-- Makes the partitions of the month that a time is in and of the next one.
-- Runs as its owner: whoever applies events need not own the table.
CREATE FUNCTION lethe.ensure_event_partitions(at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    month timestamp := date_trunc('month', at AT TIME ZONE 'UTC');
    name  text;
BEGIN
    FOR step IN 0..1 LOOP
        name := 'event_' || to_char(month, 'YYYY_MM');
        IF to_regclass('lethe.' || name) IS NULL THEN
            PERFORM pg_advisory_xact_lock(hashtext('lethe.ensure_event_partitions'));
            EXECUTE format(
                'CREATE TABLE IF NOT EXISTS lethe.%I PARTITION OF lethe.event FOR VALUES FROM (%L) TO (%L)',
                name, month::text || '+00', (month + interval '1 month')::text || '+00');
        END IF;
        month := month + interval '1 month';
    END LOOP;
END
$$;

-- What remains of a deletion. No content.
CREATE TABLE lethe.tombstone (
    type       lethe.job_type NOT NULL,
    id         bigint NOT NULL,
    reason     lethe.reason NOT NULL,
    job_id     bigint NOT NULL,
    deleted_at timestamptz NOT NULL,
    PRIMARY KEY (type, id)
);

-- The IDs that a dataset of a pipeline has protected and may restore.
CREATE TABLE lethe.protection (
    pipeline     text NOT NULL,
    dataset      text NOT NULL,
    id           bigint NOT NULL,
    chunk_id     bigint NOT NULL,
    protected_at timestamptz NOT NULL,
    PRIMARY KEY (pipeline, dataset, id)
);

-- Result lines that nobody may act on.
CREATE TABLE lethe.quarantine (
    quarantine_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chunk_id       bigint NOT NULL REFERENCES lethe.chunk ON DELETE CASCADE,
    job_id         bigint NOT NULL REFERENCES lethe.job ON DELETE CASCADE,
    line           bigint NOT NULL CHECK (line > 0),
    raw            bytea NOT NULL,
    why            text NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    resolved_at    timestamptz,
    UNIQUE (job_id, line)
);

-- Rows changed by a chunk, by table, action and reason.
CREATE TABLE lethe.change (
    chunk_id   bigint NOT NULL REFERENCES lethe.chunk ON DELETE CASCADE,
    table_name text NOT NULL,
    action     lethe.action NOT NULL,
    reason     lethe.reason NOT NULL,
    rows       bigint NOT NULL CHECK (rows > 0),
    PRIMARY KEY (chunk_id, table_name, action, reason)
);

-- When each key range of a dataset was last checked.
CREATE TABLE lethe.coverage (
    pipeline   text NOT NULL,
    dataset    text NOT NULL,
    first_id   bigint NOT NULL,
    last_id    bigint NOT NULL,
    ids        bigint NOT NULL,
    checked_at timestamptz NOT NULL,
    chunk_id   bigint NOT NULL REFERENCES lethe.chunk ON DELETE CASCADE,
    PRIMARY KEY (pipeline, dataset, first_id)
);

-- IDs to fetch again.
CREATE TABLE lethe.rehydration (
    type      lethe.job_type NOT NULL,
    id        bigint NOT NULL,
    reason    lethe.reason NOT NULL,
    job_id    bigint NOT NULL,
    queued_at timestamptz NOT NULL,
    PRIMARY KEY (type, id)
);

-- migrate:down
DROP SCHEMA lethe CASCADE;
