// Made by scripts/embed-migrations from migrations/*.sql: change those, and run it again.
// swift-format-ignore-file

/// The ledger's migrations, as their files have them, in the order of their versions.
public enum LedgerMigrations {
  public static let files: [(name: String, text: String)] = [
("20261123090000_ledger.sql", ##"""
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

"""##),
("20261124200000_evidence.sql", ##"""
-- What proves what was applied: batches, seals, and the order in which the API gave its answers.
-- migrate:up
-- A row that was kept and emptied.
ALTER TYPE lethe.action ADD VALUE IF NOT EXISTS 'redact';

-- When the API made the job, by its own clock. Jobs of a type follow one another, so this orders their
-- answers, whenever each is collected or applied.
ALTER TABLE lethe.job ADD COLUMN asked_at timestamptz;
UPDATE lethe.job SET asked_at = created_at;
ALTER TABLE lethe.job ADD CHECK ((asked_at IS NULL) = (created_at IS NULL));

-- What the export could see. A row that is newer is not judged by the chunk's answers.
ALTER TABLE lethe.chunk ADD COLUMN exported_snapshot pg_snapshot;

-- Whose answer it rests on, by the job's asked_at.
ALTER TABLE lethe.protection ADD COLUMN asked_at timestamptz;
UPDATE lethe.protection SET asked_at = protected_at;
ALTER TABLE lethe.protection ALTER COLUMN asked_at SET NOT NULL;

ALTER TABLE lethe.collected
    -- The job whose newer answer about the ID was collected before this one was applied.
    ADD COLUMN superseded_by bigint,
    -- Rows changed so far, by action and table, by an event that takes several transactions.
    ADD COLUMN changed jsonb;

ALTER TABLE lethe.event
    -- The ID whose event led to this one's row; null where the event is about the ID itself.
    ADD COLUMN cause_id bigint,
    -- The job whose newer answer about the ID kept this one from being acted on.
    ADD COLUMN superseded_by bigint,
    -- The transaction that wrote the record: lethe.batch.
    ADD COLUMN batch integer;
DROP INDEX lethe.event_chunk_id;
CREATE INDEX event_chunk_id ON lethe.event (chunk_id, batch);

-- A transaction that applied events of a chunk.
CREATE TABLE lethe.batch (
    chunk_id   bigint NOT NULL REFERENCES lethe.chunk ON DELETE CASCADE,
    number     integer NOT NULL CHECK (number > 0),
    -- Rows that this transaction wrote are Lethe's own.
    xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    -- The chunk's position before and after.
    after_id   bigint NOT NULL,
    through_id bigint NOT NULL CHECK (through_id >= after_id),
    applied_at timestamptz NOT NULL DEFAULT now(),
    -- Its event records, and lethe.event_digest of them.
    records    bigint NOT NULL CHECK (records >= 0),
    sha256     bytea NOT NULL CHECK (octet_length(sha256) = 32),
    PRIMARY KEY (chunk_id, number)
);
CREATE INDEX batch_xid ON lethe.batch USING hash (xid);

-- What a batch's hash says of one event record. Without a search_path of its own, so that it is made part
-- of the statement that calls it.
CREATE FUNCTION lethe.event_bytes(
    id bigint, type lethe.job_type, reason lethe.reason, action lethe.action, job_id bigint,
    applied_at timestamptz, created_at timestamptz, redacted_at timestamptz, cause_id bigint,
    superseded_by bigint, changed jsonb
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT int8send(id) || enum_send(type) || enum_send(reason) || enum_send(action)
        || int8send(job_id) || timestamptz_send(applied_at)
        || coalesce('\x01'::bytea || timestamptz_send(created_at), '\x00')
        || coalesce('\x01'::bytea || timestamptz_send(redacted_at), '\x00')
        || coalesce('\x01'::bytea || int8send(cause_id), '\x00')
        || coalesce('\x01'::bytea || int8send(superseded_by), '\x00')
        || coalesce('\x01'::bytea || textsend(changed::text), '\x00')
$$;

-- The event records of a batch: how many, and one hash over every value of them, in an order of their own.
CREATE FUNCTION lethe.event_digest(chunk bigint, batch_number integer, OUT records bigint, OUT sha256 bytea)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*), sha256(coalesce(string_agg(
        lethe.event_bytes(id, type, reason, action, job_id, applied_at, created_at, redacted_at, cause_id,
                          superseded_by, changed),
        '\x0a'::bytea ORDER BY id, type, cause_id, reason, action, changed::text COLLATE "C"), ''))
    FROM lethe.event WHERE chunk_id = chunk AND batch = batch_number
$$;

-- The chain of evidence: a record for each job whose result was applied, each linked to the one before.
-- Whoever changes one, or what it stands for, breaks the chain: lethe audit verify.
CREATE TABLE lethe.seal (
    number    bigint PRIMARY KEY CHECK (number > 0),
    kind      text NOT NULL CHECK (kind IN ('begin', 'job', 'prune')),
    job_id    bigint,
    chunk_id  bigint,
    -- What is sealed, as canonical JSON.
    content   text NOT NULL,
    sealed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    previous  bytea NOT NULL CHECK (octet_length(previous) = 32),
    -- Of previous and content.
    sha256    bytea NOT NULL CHECK (octet_length(sha256) = 32),
    CHECK ((kind = 'job') = (job_id IS NOT NULL)),
    CHECK ((kind = 'job') = (chunk_id IS NOT NULL))
);
-- A chunk whose quarantined lines were applied later has several; the newest counts.
CREATE INDEX seal_chunk_id ON lethe.seal (chunk_id, number);

CREATE FUNCTION lethe.seal_hash(previous bytea, content text) RETURNS bytea
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(previous || convert_to(content, 'UTF8'))
$$;

-- Adds a record to the chain's end. One at a time: the lock lasts to the end of the transaction.
CREATE FUNCTION lethe.seal(kind text, job bigint, chunk bigint, content text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    newest lethe.seal;
    before bytea;
BEGIN
    LOCK TABLE lethe.seal IN EXCLUSIVE MODE;
    SELECT * INTO newest FROM lethe.seal ORDER BY number DESC LIMIT 1;
    before := coalesce(newest.sha256, sha256(''));
    INSERT INTO lethe.seal (number, kind, job_id, chunk_id, content, previous, sha256)
    VALUES (coalesce(newest.number, 0) + 1, kind, job, chunk, content, before, lethe.seal_hash(before, content));
    RETURN coalesce(newest.number, 0) + 1;
END
$$;

-- What a job's record says: who was asked about what, what came back, and what became of it.
CREATE FUNCTION lethe.job_content(job bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'job_id', j.job_id, 'api_id', j.api_id, 'name', j.name,
        'asked_at', extract(epoch FROM j.asked_at), 'result_bytes', j.result_bytes,
        'result_lines', j.result_lines, 'result_sha256', encode(j.result_sha256, 'hex'),
        'chunk_id', c.chunk_id, 'run_id', c.run_id, 'pipeline', r.pipeline, 'dataset', c.dataset,
        'type', c.type, 'first_id', c.first_id, 'last_id', c.last_id, 'ids', c.ids,
        'chunk_sha256', encode(c.sha256, 'hex'), 'events', c.events, 'quarantined', c.quarantined,
        'batches', (SELECT count(*) FROM lethe.batch AS b WHERE b.chunk_id = c.chunk_id),
        'records', (SELECT coalesce(sum(records), 0) FROM lethe.batch AS b WHERE b.chunk_id = c.chunk_id),
        'batches_sha256', encode(sha256(coalesce(
            (SELECT string_agg(int8send(after_id) || int8send(through_id) || timestamptz_send(applied_at)
                        || int8send(records) || b.sha256, '' ORDER BY number)
             FROM lethe.batch AS b WHERE b.chunk_id = c.chunk_id), '')), 'hex')
    )::text
    FROM lethe.job AS j JOIN lethe.chunk AS c USING (chunk_id) JOIN lethe.run AS r USING (run_id)
    WHERE j.job_id = job
$$;

-- Chunks that exist by now may have event records without a batch: the chain begins after them.
SELECT lethe.seal('begin', NULL, NULL,
                  jsonb_build_object('chunk_id_max', (SELECT coalesce(max(chunk_id), 0) FROM lethe.chunk))::text);

-- What decides which rows a dataset exports.
CREATE FUNCTION lethe.exported_rows(definition jsonb, dataset text) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_array(d -> 'table', d -> 'id', d -> 'condition')
    FROM jsonb_array_elements(definition -> 'datasets') AS d WHERE d ->> 'name' = dataset
$$;

ALTER TABLE lethe.quarantine
    -- The ID that the line is about, if it tells, and whether the chunk had asked about it.
    ADD COLUMN id bigint,
    ADD COLUMN in_chunk boolean,
    ADD COLUMN resolution text CHECK (resolution IN ('retried', 'dismissed')),
    ADD COLUMN note text;
UPDATE lethe.quarantine SET resolution = 'dismissed' WHERE resolved_at IS NOT NULL;
ALTER TABLE lethe.quarantine ADD CHECK ((resolved_at IS NULL) = (resolution IS NULL));
CREATE INDEX quarantine_id ON lethe.quarantine (id);
CREATE INDEX quarantine_open ON lethe.quarantine (chunk_id) WHERE resolved_at IS NULL;

-- The whole number of 64 bits that a row's 32-bit xmin stands for: the newest that is not in the future.
CREATE FUNCTION lethe.full_xid(id xid) RETURNS xid8
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (CASE WHEN whole >= pg_snapshot_xmax(pg_current_snapshot())::text::numeric
                 THEN greatest(whole - 4294967296, 0) ELSE whole END)::text::xid8
    FROM (SELECT trunc(pg_snapshot_xmax(pg_current_snapshot())::text::numeric / 4294967296) * 4294967296
                 + id::text::numeric AS whole) AS x
$$;

-- The same as before, under a lock that readers and writers of the record are not held up by: a partition
-- that is made apart and then attached needs no exclusive lock on the table.
CREATE OR REPLACE FUNCTION lethe.ensure_event_partitions(at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    month timestamp := date_trunc('month', at AT TIME ZONE 'UTC');
    name  text;
BEGIN
    FOR step IN 0..1 LOOP
        name := 'event_' || to_char(month, 'YYYY_MM');
        IF to_regclass('lethe.' || name) IS NULL THEN
            PERFORM pg_advisory_xact_lock(hashtext('lethe.ensure_event_partitions'));
        END IF;
        -- Somebody else may have made it while this one waited.
        IF to_regclass('lethe.' || name) IS NULL THEN
            EXECUTE format('CREATE TABLE lethe.%I (LIKE lethe.event INCLUDING DEFAULTS)', name);
            EXECUTE format('ALTER TABLE lethe.event ATTACH PARTITION lethe.%I FOR VALUES FROM (%L) TO (%L)',
                           name, month::text || '+00', (month + interval '1 month')::text || '+00');
        END IF;
        month := month + interval '1 month';
    END LOOP;
END
$$;

-- migrate:down
CREATE OR REPLACE FUNCTION lethe.ensure_event_partitions(at timestamptz) RETURNS void
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
-- The label stays in lethe.action: PostgreSQL cannot take one out.
DROP FUNCTION lethe.full_xid(xid);
DROP INDEX lethe.quarantine_open;
ALTER TABLE lethe.quarantine
    DROP COLUMN id, DROP COLUMN in_chunk, DROP COLUMN resolution, DROP COLUMN note;
DROP FUNCTION lethe.exported_rows(jsonb, text);
DROP FUNCTION lethe.job_content(bigint);
DROP FUNCTION lethe.seal(text, bigint, bigint, text);
DROP FUNCTION lethe.seal_hash(bytea, text);
DROP TABLE lethe.seal;
DROP FUNCTION lethe.event_digest(bigint, integer);
DROP FUNCTION lethe.event_bytes(
    bigint, lethe.job_type, lethe.reason, lethe.action, bigint, timestamptz, timestamptz, timestamptz, bigint, bigint,
    jsonb);
DROP TABLE lethe.batch;
ALTER TABLE lethe.event DROP COLUMN batch, DROP COLUMN superseded_by, DROP COLUMN cause_id;
CREATE INDEX event_chunk_id ON lethe.event (chunk_id);
ALTER TABLE lethe.collected DROP COLUMN changed, DROP COLUMN superseded_by;
ALTER TABLE lethe.protection DROP COLUMN asked_at;
ALTER TABLE lethe.chunk DROP COLUMN exported_snapshot;
ALTER TABLE lethe.job DROP COLUMN asked_at;

"""##),
("20261125110000_silence.sql", ##"""
-- What a result says by not naming an ID: decided once, when the result is collected.
-- migrate:up
-- none: nothing. spoken: an ID that the chunk asked about and the result does not name is clean, but for the IDs
-- in lethe.unspoken.
CREATE TYPE lethe.silence AS ENUM ('none', 'spoken');

-- NULL as long as there is no result.
ALTER TABLE lethe.job ADD COLUMN silence lethe.silence;

-- The IDs of a chunk about which its result has a line that nobody may act on.
CREATE TABLE lethe.unspoken (
    job_id    bigint NOT NULL REFERENCES lethe.job ON DELETE CASCADE,
    id        bigint NOT NULL,
    -- How many IDs of the chunk are smaller. NULL where an earlier version collected the result.
    ids_below bigint CHECK (ids_below >= 0),
    PRIMARY KEY (job_id, id)
);

-- One row if the result of a job says by silence that an ID is clean, else none. Whether the chunk asked about the
-- ID, and whether the result has an event about it, is for the caller to know. Without a search_path of its own, so
-- that it is made part of the statement that calls it.
CREATE FUNCTION lethe.speaks_by_silence(job bigint, about bigint) RETURNS SETOF boolean
LANGUAGE sql STABLE AS $$
    SELECT true FROM lethe.job AS j
    WHERE j.job_id = job AND j.silence = 'spoken'
      AND NOT EXISTS (SELECT FROM lethe.unspoken AS u WHERE u.job_id = job AND u.id = about)
$$;

-- The IDs of a chunk that its result has not answered for: no event, and no silence. Empty where there is no silence
-- at all: then no range can say which IDs have no answer.
CREATE FUNCTION lethe.unanswered(job bigint) RETURNS TABLE (id bigint, ids_below bigint)
LANGUAGE sql STABLE AS $$
    SELECT u.id, u.ids_below
    FROM lethe.unspoken AS u JOIN lethe.job AS j USING (job_id)
    WHERE u.job_id = job AND j.silence = 'spoken'
      AND NOT EXISTS (SELECT FROM lethe.event AS e
                      WHERE e.id = u.id AND e.chunk_id = j.chunk_id AND e.cause_id IS NULL)
$$;

-- The key ranges of a chunk that its result has answered for, and how many of its IDs are in each.
CREATE FUNCTION lethe.answered_ranges(job bigint) RETURNS TABLE (first_id bigint, last_id bigint, ids bigint)
LANGUAGE sql STABLE AS $$
    WITH unanswered AS MATERIALIZED (SELECT u.id, u.ids_below FROM lethe.unanswered(job) AS u),
    part AS (
        SELECT s.id AS after_id, coalesce(lead(s.id) OVER w, c.last_id + 1.0) AS before_id,
               coalesce(lead(s.ids_below) OVER w, c.ids) - s.ids_below - 1 AS ids
        FROM lethe.job AS j JOIN lethe.chunk AS c USING (chunk_id),
             LATERAL (SELECT c.first_id - 1 AS id, -1 AS ids_below
                      UNION ALL SELECT u.id, u.ids_below FROM unanswered AS u) AS s
        WHERE j.job_id = job AND j.silence = 'spoken'
        WINDOW w AS (ORDER BY s.id)
    )
    SELECT p.after_id + 1, (p.before_id - 1)::bigint, p.ids FROM part AS p
    WHERE p.ids > 0 AND NOT EXISTS (SELECT FROM unanswered AS u WHERE u.ids_below IS NULL)
$$;

-- Results that earlier versions collected, as they were judged then. The events of a chunk that was given up were
-- dropped, so nobody can tell any more which IDs the result did not name.
UPDATE lethe.job AS j
SET silence = CASE
    WHEN c.state = 'failed'
      OR EXISTS (SELECT FROM lethe.quarantine AS q
                 WHERE q.job_id = j.job_id AND q.id IS NULL AND q.why <> 'the API says invalid_id')
    THEN 'none' ELSE 'spoken' END::lethe.silence
FROM lethe.chunk AS c WHERE c.chunk_id = j.chunk_id AND j.result_sha256 IS NOT NULL;
INSERT INTO lethe.unspoken (job_id, id)
SELECT DISTINCT q.job_id, q.id
FROM lethe.quarantine AS q WHERE q.id IS NOT NULL AND q.in_chunk IS NOT false;

-- migrate:down
-- An earlier version keeps events of collected chunks only.
DELETE FROM lethe.collected AS s USING lethe.chunk AS c WHERE c.chunk_id = s.chunk_id AND c.state = 'failed';
DROP FUNCTION lethe.answered_ranges(bigint);
DROP FUNCTION lethe.unanswered(bigint);
DROP FUNCTION lethe.speaks_by_silence(bigint, bigint);
DROP TABLE lethe.unspoken;
ALTER TABLE lethe.job DROP COLUMN silence;
DROP TYPE lethe.silence;

"""##),
("20261125120000_holds.sql", ##"""
-- Holds: each row that Lethe has hidden, what it was before, and which IDs' answers hide it.
-- migrate:up

-- A row that Lethe has hidden. At most one for a row.
CREATE TABLE lethe.hold (
    hold_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- With its schema. A partition's rows count as rows of the whole.
    table_name      text NOT NULL,
    -- The row's key, by column: {"post_id": "5"}.
    row_key         jsonb NOT NULL,
    -- By column, the text of the value that the row had before, and of the one that Lethe gave it.
    -- Former values of content are content: they go with the hold.
    former          jsonb NOT NULL,
    set_to          jsonb NOT NULL,
    -- Whether the row may be opened although somebody else has written it since the export.
    ignores_writers boolean NOT NULL,
    -- What the row itself is, where it is a post or a user.
    row_type        lethe.job_type,
    row_id          bigint,
    -- The transaction that set the columns, and the cluster whose transaction it is.
    xid             xid8 NOT NULL DEFAULT pg_current_xact_id(),
    cluster         bigint,
    held_at         timestamptz NOT NULL DEFAULT now(),
    UNIQUE (table_name, row_key),
    CHECK ((row_type IS NULL) = (row_id IS NULL))
);
CREATE INDEX hold_row_id ON lethe.hold (row_id) WHERE row_id IS NOT NULL;

-- Who holds it: the type and ID of an answer. The newest answer about that ID releases it or not; the rest
-- is evidence.
CREATE TABLE lethe.holder (
    hold_id  bigint NOT NULL REFERENCES lethe.hold ON DELETE CASCADE,
    type     lethe.job_type NOT NULL,
    id       bigint NOT NULL,
    -- The columns that it wants to stay as they are set.
    columns  text[] NOT NULL,
    pipeline text NOT NULL,
    dataset  text NOT NULL,
    job_id   bigint NOT NULL,
    -- When the API made the job.
    asked_at timestamptz NOT NULL,
    PRIMARY KEY (hold_id, type, id)
);
CREATE INDEX holder_id ON lethe.holder (type, id, hold_id);

-- The keys by which rows of a table are named in lethe.hold: whoever gives a table another key finds by it which
-- holds to name anew.
CREATE TABLE lethe.held_key (
    table_name  text NOT NULL,
    -- In ascending order.
    key_columns text[] NOT NULL,
    PRIMARY KEY (table_name, key_columns)
);

-- What became of holds that ended. Former values are not kept.
CREATE TABLE lethe.closed_hold (
    hold_id    bigint PRIMARY KEY,
    table_name text NOT NULL,
    row_key    jsonb NOT NULL,
    row_type   lethe.job_type,
    row_id     bigint,
    held_at    timestamptz NOT NULL,
    closed_at  timestamptz NOT NULL DEFAULT now(),
    outcome    text NOT NULL CHECK (outcome IN (
        -- The row got its former values back.
        'restored',
        -- Lethe deleted the row.
        'deleted',
        -- The row was not there any more.
        'gone',
        -- Somebody else had changed a held column: the row is theirs.
        'changed',
        -- An action without restore hides the row for good.
        'kept',
        -- All that was held of the row was taken out of it.
        'erased',
        -- An operator gave the hold up; the row stays hidden.
        'forgotten')),
    -- The ID whose answer ended it, and the job of that answer; null where an operator did.
    type       lethe.job_type,
    id         bigint,
    job_id     bigint
);
CREATE INDEX closed_hold_row_id ON lethe.closed_hold (row_id);
CREATE INDEX closed_hold_id ON lethe.closed_hold (id);

COMMENT ON TABLE lethe.protection IS
    'IDs that a version without holds has protected: the rows that they hide are not known.';

-- The cluster that the database is in. Numbers of transactions mean something only within it. Null where
-- not even the ledger's owner may know: then no row's version is trusted.
CREATE FUNCTION lethe.cluster() RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT system_identifier FROM pg_control_system());
EXCEPTION WHEN insufficient_privilege THEN
    RETURN NULL;
END
$$;

-- What is there by now stays without: it may have been restored from another cluster.
ALTER TABLE lethe.batch ADD COLUMN cluster bigint;
ALTER TABLE lethe.batch ALTER COLUMN cluster SET DEFAULT lethe.cluster();
ALTER TABLE lethe.chunk ADD COLUMN exported_cluster bigint;
ALTER TABLE lethe.chunk ALTER COLUMN exported_cluster SET DEFAULT lethe.cluster();

ALTER TABLE lethe.seal DROP CONSTRAINT seal_kind_check;
ALTER TABLE lethe.seal ADD CONSTRAINT seal_kind_check
    CHECK (kind IN ('begin', 'job', 'prune', 'approval', 'release', 'repair'));

-- A program that knows no holds would open rows that others hold. The statements with which a program
-- begins a run or takes one over say since now that it keeps holds; without that they are refused.
CREATE FUNCTION lethe.require_holds() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_query() LIKE '%$%' AND current_query() NOT LIKE '%keeps holds%' THEN
        RAISE EXCEPTION 'this ledger keeps holds, and the program that asks is older than they are'
            USING HINT = 'install the version of Lethe that migrated the ledger, or a newer one';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER require_holds BEFORE INSERT OR UPDATE OF lease ON lethe.run
    FOR EACH STATEMENT EXECUTE FUNCTION lethe.require_holds();

-- migrate:down
-- Without holds nobody would know which rows are hidden, and what they were.
DO $$
DECLARE
    holds bigint;
BEGIN
    SELECT count(*) INTO holds FROM lethe.hold;
    IF holds > 0 THEN
        RAISE EXCEPTION '% rows are held: without their holds nobody could open them again', holds
            USING HINT = 'lethe migrate up, then lethe holds list shows them and lethe holds release ends them';
    END IF;
END
$$;
DROP TRIGGER require_holds ON lethe.run;
DROP FUNCTION lethe.require_holds();
-- The CHECK stays wide: records of the kinds that are new may be sealed.
ALTER TABLE lethe.chunk DROP COLUMN exported_cluster;
ALTER TABLE lethe.batch DROP COLUMN cluster;
DROP FUNCTION lethe.cluster();
DROP TABLE lethe.closed_hold;
DROP TABLE lethe.held_key;
DROP TABLE lethe.holder;
DROP TABLE lethe.hold;

"""##),
("20261125130000_refusals.sql", ##"""
-- One refusal stops one chunk: events that the warehouse refused, chunks set aside, and who approved what.
-- migrate:up
-- What to do about a failed chunk.
ALTER TABLE lethe.chunk ADD COLUMN remedy text;

-- Why the rest of a dataset could not be exported. What was exported of it before goes on.
ALTER TABLE lethe.export ADD COLUMN failure text, ADD CHECK (failure IS NULL OR finished_at IS NOT NULL);

-- The definition's file as it was named when the run was last worked on, for the commands that lethe status shows.
ALTER TABLE lethe.run ADD COLUMN definition_file text;

-- An event that the warehouse refused: it changed nothing, or with a part of it done, nothing more. The other
-- events of its chunk are applied.
CREATE TABLE lethe.refusal (
    chunk_id      bigint NOT NULL REFERENCES lethe.chunk ON DELETE CASCADE,
    id            bigint NOT NULL,
    reason        lethe.reason NOT NULL,
    -- Its row of lethe.collected, which it goes back to when it is tried again.
    event         jsonb NOT NULL,
    -- What refused it, and what to do. Names tables, constraints and keys; never the content of a row.
    why           text NOT NULL,
    remedy        text NOT NULL,
    refused_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    resolved_at   timestamptz,
    -- retried: it is applied, or on its way. superseded: a newer answer about the ID took its place.
    resolution    text CHECK (resolution IN ('retried', 'superseded')),
    superseded_by bigint,
    PRIMARY KEY (chunk_id, id),
    CHECK ((resolved_at IS NULL) = (resolution IS NULL)),
    CHECK ((superseded_by IS NOT NULL) = (resolution IS NOT DISTINCT FROM 'superseded'))
);
CREATE INDEX refusal_id ON lethe.refusal (id);
CREATE INDEX refusal_open ON lethe.refusal (chunk_id) WHERE resolved_at IS NULL;

-- Somebody's word that a chunk which a limit had stopped may go on. Sealed.
CREATE TABLE lethe.approval (
    approval_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chunk_id       bigint NOT NULL REFERENCES lethe.chunk ON DELETE CASCADE,
    -- What the limit had said.
    stopped_reason text NOT NULL,
    approved_by    text NOT NULL CHECK (approved_by <> ''),
    note           text,
    approved_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The record of it in the chain.
    seal_number    bigint
);
CREATE INDEX approval_chunk_id ON lethe.approval (chunk_id);

ALTER TABLE lethe.seal DROP CONSTRAINT seal_kind_check;
ALTER TABLE lethe.seal ADD CONSTRAINT seal_kind_check
    CHECK (kind IN ('begin', 'job', 'prune', 'approval', 'release', 'repair'));

-- What an approval's record says.
CREATE FUNCTION lethe.approval_content(approval bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'approval_id', a.approval_id, 'chunk_id', a.chunk_id, 'stopped_reason', a.stopped_reason,
        'approved_by', a.approved_by, 'note', a.note, 'approved_at', extract(epoch FROM a.approved_at))::text
    FROM lethe.approval AS a WHERE a.approval_id = approval
$$;

-- migrate:down
DO $$
BEGIN
    IF EXISTS (SELECT FROM lethe.refusal WHERE resolved_at IS NULL) THEN
        RAISE EXCEPTION 'events that were refused are open in lethe.refusal, and would be forgotten'
            USING HINT = 'lethe migrate up, then lethe status lists them, and lethe retry takes them on again';
    END IF;
    IF EXISTS (SELECT FROM lethe.seal WHERE kind = 'approval') THEN
        RAISE EXCEPTION 'the chain of evidence has approvals in it, which an older version cannot verify'
            USING HINT = 'keep the newer version (lethe migrate up), '
                'or have the ledger gone for good, with the guards: the README tells how';
    END IF;
END
$$;
DROP FUNCTION lethe.approval_content(bigint);
ALTER TABLE lethe.seal DROP CONSTRAINT seal_kind_check;
ALTER TABLE lethe.seal ADD CONSTRAINT seal_kind_check CHECK (kind IN ('begin', 'job', 'prune', 'release', 'repair'));
DROP TABLE lethe.approval;
DROP TABLE lethe.refusal;
ALTER TABLE lethe.run DROP COLUMN definition_file;
ALTER TABLE lethe.export DROP COLUMN failure;
ALTER TABLE lethe.chunk DROP COLUMN remedy;

"""##),
("20261125140000_typed_targets.sql", ##"""
-- Tombstones that were taken back: they were made of rows whose IDs were not what the tombstone said.
-- migrate:up
CREATE TABLE lethe.withdrawn_tombstone (
    -- The record of the chain that tells who took it back, and why.
    seal       bigint NOT NULL,
    -- As the tombstone had it.
    type       lethe.job_type NOT NULL,
    id         bigint NOT NULL,
    reason     lethe.reason NOT NULL,
    job_id     bigint NOT NULL,
    deleted_at timestamptz NOT NULL,
    -- The table whose row it was made of.
    table_name text NOT NULL,
    PRIMARY KEY (seal, type, id)
);
CREATE INDEX withdrawn_tombstone_id ON lethe.withdrawn_tombstone (id);

-- What the record of a repair says of them: how many, and one hash over every value of them.
CREATE FUNCTION lethe.withdrawal_digest(seal_number bigint, OUT tombstones bigint, OUT sha256 bytea)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*), sha256(coalesce(string_agg(
        enum_send(type) || int8send(id) || enum_send(reason) || int8send(job_id)
            || timestamptz_send(deleted_at) || textsend(table_name),
        '\x0a'::bytea ORDER BY type, id), ''))
    FROM lethe.withdrawn_tombstone WHERE seal = seal_number
$$;

ALTER TABLE lethe.seal
    DROP CONSTRAINT seal_kind_check,
    ADD CONSTRAINT seal_kind_check CHECK (kind IN ('begin', 'job', 'prune', 'approval', 'release', 'repair'));

-- migrate:down
-- The kinds of records stay as they are: the chain may have some of them.
DROP FUNCTION lethe.withdrawal_digest(bigint);
DROP TABLE lethe.withdrawn_tombstone;

"""##),
("20261126083000_quarantine_again.sql", ##"""
-- The same line that nobody may act on, night after night, is one open line.
-- migrate:up
-- What makes two lines the same: dataset, ID and the words about it; the bytes where no ID can be read, or no words.
CREATE FUNCTION lethe.line_identity(pipeline text, dataset text, id bigint, raw bytea) RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    words text;
BEGIN
    IF id IS NOT NULL THEN
        BEGIN
            SELECT jsonb_build_array(l.object -> 'action', l.object -> 'reason', l.object -> 'error')::text INTO words
            FROM (SELECT convert_from(raw, 'UTF8')::jsonb AS object) AS l WHERE jsonb_typeof(l.object) = 'object';
        EXCEPTION WHEN OTHERS THEN
            words := NULL;  -- no JSON, or such as PostgreSQL does not take
        END;
    END IF;
    RETURN sha256(convert_to(jsonb_build_array(pipeline, dataset, id, words)::text, 'UTF8')
                  || CASE WHEN words IS NULL THEN raw ELSE '' END);
END
$$;

ALTER TABLE lethe.quarantine
    -- NULL for lines that were resolved before there was any.
    ADD COLUMN identity bytea CHECK (octet_length(identity) = 32),
    -- In how many results it was; quarantined_at is the first time.
    ADD COLUMN seen bigint NOT NULL DEFAULT 1 CHECK (seen > 0),
    ADD COLUMN last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp();
UPDATE lethe.quarantine SET last_seen_at = quarantined_at;
UPDATE lethe.quarantine AS q SET identity = lethe.line_identity(r.pipeline, c.dataset, q.id, q.raw)
FROM lethe.chunk AS c JOIN lethe.run AS r USING (run_id)
WHERE c.chunk_id = q.chunk_id AND q.resolved_at IS NULL;

-- Of those that are open several times the newest stays, and counts for all.
WITH same AS (
    SELECT identity, count(DISTINCT job_id) AS seen, min(quarantined_at) AS first_at, max(quarantined_at) AS last_at
    FROM lethe.quarantine WHERE resolved_at IS NULL GROUP BY identity HAVING count(*) > 1
)
UPDATE lethe.quarantine AS q SET seen = s.seen, quarantined_at = s.first_at, last_seen_at = s.last_at
FROM same AS s WHERE q.identity = s.identity AND q.resolved_at IS NULL;
WITH place AS (
    SELECT q.quarantine_id, row_number() OVER (
        PARTITION BY q.identity ORDER BY j.asked_at DESC NULLS LAST, q.job_id DESC, q.line) AS number
    FROM lethe.quarantine AS q JOIN lethe.job AS j USING (job_id) WHERE q.resolved_at IS NULL
)
DELETE FROM lethe.quarantine AS q USING place AS p WHERE q.quarantine_id = p.quarantine_id AND p.number > 1;
CREATE UNIQUE INDEX quarantine_identity ON lethe.quarantine (identity) WHERE resolved_at IS NULL;

-- answered: a newer result that can be trusted has answered about its ID.
ALTER TABLE lethe.quarantine DROP CONSTRAINT quarantine_resolution_check;
ALTER TABLE lethe.quarantine ADD CONSTRAINT quarantine_resolution_check
    CHECK (resolution IN ('retried', 'dismissed', 'answered'));

-- migrate:down
UPDATE lethe.quarantine SET resolution = 'dismissed' WHERE resolution = 'answered';
ALTER TABLE lethe.quarantine DROP CONSTRAINT quarantine_resolution_check;
ALTER TABLE lethe.quarantine ADD CONSTRAINT quarantine_resolution_check CHECK (resolution IN ('retried', 'dismissed'));
DROP INDEX lethe.quarantine_identity;
ALTER TABLE lethe.quarantine DROP COLUMN identity, DROP COLUMN seen, DROP COLUMN last_seen_at;
DROP FUNCTION lethe.line_identity(text, text, bigint, bytea);

"""##),
("20261126084000_adoption.sql", ##"""
-- Open runs that took a newer definition on, on somebody's word. Sealed.
-- migrate:up
CREATE TABLE lethe.adoption (
    adoption_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id        bigint NOT NULL REFERENCES lethe.run ON DELETE CASCADE,
    -- What differed: by place in the definition, what the run had and what it has now. Names and values of the
    -- definition, none of a row.
    changes       jsonb NOT NULL CHECK (jsonb_typeof(changes) = 'object'),
    -- The whole definition, as hashes of its text.
    sha256_before bytea NOT NULL CHECK (octet_length(sha256_before) = 32),
    sha256_after  bytea NOT NULL CHECK (octet_length(sha256_after) = 32),
    -- The chunks of the run that a limit had stopped by then. Whatever the new limits say, they wait for approval.
    stopped       bigint[] NOT NULL,
    adopted_by    text NOT NULL CHECK (adopted_by <> ''),
    note          text,
    adopted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The record of it in the chain.
    seal_number   bigint
);
CREATE INDEX adoption_run_id ON lethe.adoption (run_id);

-- What an adoption's record says.
CREATE FUNCTION lethe.adoption_content(adoption bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'adoption_id', a.adoption_id, 'run_id', a.run_id, 'changes', a.changes,
        'sha256_before', encode(a.sha256_before, 'hex'), 'sha256_after', encode(a.sha256_after, 'hex'),
        'stopped', to_jsonb(a.stopped), 'adopted_by', a.adopted_by, 'note', a.note,
        'adopted_at', extract(epoch FROM a.adopted_at))::text
    FROM lethe.adoption AS a WHERE a.adoption_id = adoption
$$;

-- One kind of record more than there are by now.
DO $$
DECLARE
    kinds text;
BEGIN
    SELECT string_agg(DISTINCT quote_literal(kind), ', ') INTO kinds
    FROM (SELECT (regexp_matches(pg_get_constraintdef(oid), '''([a-z_]+)''', 'g'))[1] AS kind
          FROM pg_constraint WHERE conrelid = 'lethe.seal'::regclass AND conname = 'seal_kind_check'
          UNION ALL SELECT 'adoption') AS known;
    ALTER TABLE lethe.seal DROP CONSTRAINT seal_kind_check;
    EXECUTE format('ALTER TABLE lethe.seal ADD CONSTRAINT seal_kind_check CHECK (kind IN (%s))', kinds);
END
$$;

-- Also of a definition that is none: one run that cannot be read must not keep others from being compared.
CREATE OR REPLACE FUNCTION lethe.exported_rows(definition jsonb, dataset text) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_array(d -> 'table', d -> 'id', d -> 'condition')
    FROM jsonb_array_elements(CASE jsonb_typeof(definition -> 'datasets')
                              WHEN 'array' THEN definition -> 'datasets' ELSE '[]' END) AS d
    WHERE d ->> 'name' = dataset
$$;

-- migrate:down
DO $$
BEGIN
    IF EXISTS (SELECT FROM lethe.seal WHERE kind = 'adoption') THEN
        RAISE EXCEPTION 'the chain of evidence has adoptions in it, which an older version cannot verify'
            USING HINT = 'keep the newer version (lethe migrate up), '
                'or have the ledger gone for good, with the guards: the README tells how';
    END IF;
END
$$;
-- The kinds of records stay as they are, and so does what reads definitions.
DROP FUNCTION lethe.adoption_content(bigint);
DROP TABLE lethe.adoption;

"""##),
("20261126085000_growth.sql", ##"""
-- What a night that changes nothing leaves: key ranges that take the place of older ones, and traces in place of event
-- records.
-- migrate:up

-- How many IDs a chunk had asked about in a range. NULL where a newer range has taken a part of it: nobody has counted
-- the rest.
ALTER TABLE lethe.coverage ALTER COLUMN ids DROP NOT NULL;

-- Notes that key ranges of a dataset were checked. They take the place of what they cover of older ranges, which are
-- cut at their ends, and give way to newer ones: no two ranges of a dataset overlap. For one transaction of a dataset
-- at a time. What is not covered keeps the time that it has.
CREATE FUNCTION lethe.cover(
    name_of_pipeline text, name_of_dataset text, chunk bigint, at timestamptz, first_ids bigint[], last_ids bigint[],
    counts bigint[]
) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    WITH fresh AS MATERIALIZED (
        SELECT u.first_id, u.last_id, u.ids, at AS checked_at, chunk AS chunk_id
        FROM unnest(first_ids, last_ids, counts) AS u (first_id, last_id, ids)
    ), extent AS (
        SELECT min(f.first_id) AS first_id, max(f.last_id) AS last_id FROM fresh AS f
    ), newer AS MATERIALIZED (
        SELECT v.first_id, v.last_id FROM lethe.coverage AS v, extent AS e
        WHERE v.pipeline = name_of_pipeline AND v.dataset = name_of_dataset
          AND v.first_id <= e.last_id AND v.last_id >= e.first_id AND v.checked_at > at
    ), older AS (
        DELETE FROM lethe.coverage AS v USING extent AS e
        WHERE v.pipeline = name_of_pipeline AND v.dataset = name_of_dataset
          AND v.first_id <= e.last_id AND v.last_id >= e.first_id AND v.checked_at <= at
        RETURNING v.first_id, v.last_id, v.ids, v.checked_at, v.chunk_id
    ), source AS (
        SELECT 1 AS rank, f.first_id, f.last_id, f.ids, f.checked_at, f.chunk_id FROM fresh AS f
        UNION ALL SELECT 0, o.first_id, o.last_id, o.ids, o.checked_at, o.chunk_id FROM older AS o
    ), bound AS (
        -- Where ranges begin and end. Ranges of one rank do not overlap, so the one that is open at a bound is the one
        -- that began last.
        SELECT s.rank, s.first_id - 1 AS after_id, 1 AS opened, s.first_id AS began FROM source AS s
        UNION ALL SELECT s.rank, s.last_id, -1, NULL FROM source AS s
        UNION ALL SELECT 2, n.first_id - 1, 1, n.first_id FROM newer AS n
        UNION ALL SELECT 2, n.last_id, -1, NULL FROM newer AS n
    ), step AS (
        SELECT b.after_id, lead(b.after_id) OVER w AS through_id,
               CASE WHEN sum(b.opened) FILTER (WHERE b.rank = 2) OVER w > 0 THEN 2
                    WHEN sum(b.opened) FILTER (WHERE b.rank = 1) OVER w > 0 THEN 1
                    WHEN sum(b.opened) FILTER (WHERE b.rank = 0) OVER w > 0 THEN 0 END AS rank,
               max(b.began) FILTER (WHERE b.rank = 1) OVER w AS fresh_began,
               max(b.began) FILTER (WHERE b.rank = 0) OVER w AS old_began
        FROM bound AS b WINDOW w AS (ORDER BY b.after_id)
    ), owned AS (
        SELECT s.after_id, s.through_id, s.rank,
               CASE s.rank WHEN 1 THEN s.fresh_began WHEN 0 THEN s.old_began END AS began
        FROM step AS s WHERE s.through_id > s.after_id
    ), marked AS (
        SELECT o.*, (o.rank, o.began) IS DISTINCT FROM (lag(o.rank) OVER w, lag(o.began) OVER w) AS is_first
        FROM owned AS o WINDOW w AS (ORDER BY o.after_id)
    ), numbered AS (
        SELECT m.*, count(*) FILTER (WHERE m.is_first) OVER (ORDER BY m.after_id) AS piece FROM marked AS m
    ), piece AS (
        SELECT n.rank, n.began, min(n.after_id) + 1 AS first_id, max(n.through_id) AS last_id
        FROM numbered AS n WHERE n.rank < 2 GROUP BY n.piece, n.rank, n.began
    )
    INSERT INTO lethe.coverage (pipeline, dataset, first_id, last_id, ids, checked_at, chunk_id)
    SELECT name_of_pipeline, name_of_dataset, p.first_id, p.last_id,
           CASE WHEN (p.first_id, p.last_id) = (s.first_id, s.last_id) THEN s.ids
                WHEN p.first_id = p.last_id THEN 1 END,
           s.checked_at, s.chunk_id
    FROM piece AS p JOIN source AS s ON s.rank = p.rank AND s.first_id = p.began
$$;

-- Ranges of earlier versions, the older ones first.
DO $$
DECLARE
    range lethe.coverage;
BEGIN
    IF EXISTS (SELECT FROM (SELECT first_id, max(last_id) OVER (
                                PARTITION BY pipeline, dataset ORDER BY first_id
                                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS through_id
                            FROM lethe.coverage) AS v WHERE v.first_id <= v.through_id) THEN
        CREATE TEMPORARY TABLE lethe_overlapping ON COMMIT DROP AS TABLE lethe.coverage;
        DELETE FROM lethe.coverage;
        FOR range IN SELECT * FROM lethe_overlapping ORDER BY checked_at, chunk_id, first_id LOOP
            PERFORM lethe.cover(range.pipeline, range.dataset, range.chunk_id, range.checked_at,
                                ARRAY[range.first_id], ARRAY[range.last_id], ARRAY[range.ids]);
        END LOOP;
    END IF;
END
$$;

-- Events of a batch that have changed no row and say what is on record of their IDs already: in place of a record for
-- each, their IDs, for each reason. The batch's hash is of them, too.
CREATE TABLE lethe.trace (
    chunk_id    bigint NOT NULL REFERENCES lethe.chunk ON DELETE CASCADE,
    batch       integer NOT NULL,
    -- As in lethe.event.
    type        lethe.job_type NOT NULL,
    reason      lethe.reason NOT NULL,
    action      lethe.action NOT NULL,
    job_id      bigint NOT NULL,
    applied_at  timestamptz NOT NULL,
    events      integer NOT NULL CHECK (events > 0),
    first_id    bigint NOT NULL,
    last_id     bigint NOT NULL,
    -- How far each ID is from the first one, in ascending order: whole numbers of as many bytes each as the last one
    -- needs, the highest byte first.
    distances   bytea NOT NULL,
    -- Of edits, which are told apart by their times. Other events have those of the newest record of their ID.
    created_at  timestamptz[],
    redacted_at timestamptz[],
    PRIMARY KEY (chunk_id, batch, reason),
    CHECK (first_id <= last_id),
    CHECK (octet_length(distances) > 0 AND octet_length(distances) % events = 0),
    CHECK ((created_at IS NULL) = (redacted_at IS NULL))
);
-- Whoever looks one ID up reads a few of its numbers.
ALTER TABLE lethe.trace ALTER COLUMN distances SET STORAGE EXTERNAL;
CREATE INDEX trace_ids ON lethe.trace USING gist (numrange(first_id, last_id, '[]'));

-- The events of a trace.
CREATE FUNCTION lethe.traced(
    first_id bigint, events integer, distances bytea, created timestamptz[], redacted timestamptz[]
) RETURNS TABLE (id bigint, created_at timestamptz, redacted_at timestamptz)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT first_id + ('x' || lpad(encode(substr(v.bytes, (e.n - 1) * v.width + 1, v.width), 'hex'), 16, '0'))::bit(64)::bigint,
           e.c, e.r
    -- Fetched once, and not for each event.
    FROM (SELECT distances || ''::bytea AS bytes, octet_length(distances) / events AS width OFFSET 0) AS v,
         ROWS FROM (generate_series(1, events), unnest(created), unnest(redacted)) AS e (n, c, r)
$$;

-- The place of an ID in a trace, from 1; NULL if it is not in it.
CREATE FUNCTION lethe.place_in_trace(
    about bigint, first_id bigint, last_id bigint, events integer, distances bytea
) RETURNS integer LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    width  integer := octet_length(distances) / events;
    wanted bytea;
    low    integer := 0;
    high   integer := events;
    middle integer;
BEGIN
    IF about NOT BETWEEN first_id AND last_id THEN
        RETURN NULL;
    END IF;
    wanted := substr(int8send(about - first_id), 9 - width);
    WHILE low < high LOOP
        middle := (low + high) / 2;
        IF substr(distances, middle * width + 1, width) < wanted THEN
            low := middle + 1;
        ELSE
            high := middle;
        END IF;
    END LOOP;
    IF low < events AND substr(distances, low * width + 1, width) = wanted THEN
        RETURN low + 1;
    END IF;
    RETURN NULL;
END
$$;

-- The reason for which a chunk has a trace of an ID.
CREATE FUNCTION lethe.traced_reason(chunk bigint, about bigint) RETURNS SETOF lethe.reason
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.reason FROM lethe.trace AS t
    WHERE t.chunk_id = chunk
      AND lethe.place_in_trace(about, t.first_id, t.last_id, t.events, t.distances) IS NOT NULL
$$;

-- What a batch's hash says of a trace. Without a search_path of its own, so that it is made part of the statement that
-- calls it.
CREATE FUNCTION lethe.trace_bytes(
    type lethe.job_type, reason lethe.reason, action lethe.action, job_id bigint, applied_at timestamptz,
    events integer, first_id bigint, last_id bigint, distances bytea, created timestamptz[], redacted timestamptz[]
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT enum_send(type) || enum_send(reason) || enum_send(action) || int8send(job_id)
        || timestamptz_send(applied_at) || int4send(events) || int8send(first_id) || int8send(last_id)
        || int4send(octet_length(distances)) || distances
        || coalesce('\x01'::bytea || array_send(created) || array_send(redacted), '\x00')
$$;

-- The same as before for a batch without traces, so that what was sealed stays proven. A trace counts as many records
-- as it has events.
CREATE OR REPLACE FUNCTION lethe.event_digest(
    chunk bigint, batch_number integer, OUT records bigint, OUT sha256 bytea
) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.records + coalesce(t.events, 0),
           CASE WHEN t.bytes IS NULL THEN e.hash ELSE sha256(e.hash || t.bytes) END
    FROM (
        SELECT count(*) AS records, sha256(coalesce(string_agg(
            lethe.event_bytes(id, type, reason, action, job_id, applied_at, created_at, redacted_at, cause_id,
                              superseded_by, changed),
            '\x0a'::bytea ORDER BY id, type, cause_id, reason, action, changed::text COLLATE "C"), '')) AS hash
        FROM lethe.event WHERE chunk_id = chunk AND batch = batch_number
    ) AS e, (
        SELECT sum(events)::bigint AS events, string_agg(
            lethe.trace_bytes(type, reason, action, job_id, applied_at, events, first_id, last_id, distances,
                              created_at, redacted_at), ''::bytea ORDER BY reason) AS bytes
        FROM lethe.trace WHERE chunk_id = chunk AND batch = batch_number
    ) AS t
$$;

-- The events of all traces, as the records of lethe.event that they stand for.
CREATE VIEW lethe.traced_event AS
SELECT e.id, t.type, t.reason, t.action, t.chunk_id, t.job_id,
       CASE WHEN t.created_at IS NULL THEN r.created_at ELSE e.created_at END AS created_at,
       CASE WHEN t.created_at IS NULL THEN r.redacted_at ELSE e.redacted_at END AS redacted_at,
       t.applied_at, NULL::jsonb AS changed, NULL::bigint AS cause_id, NULL::bigint AS superseded_by, t.batch
FROM lethe.trace AS t
CROSS JOIN LATERAL lethe.traced(t.first_id, t.events, t.distances, t.created_at, t.redacted_at) AS e
JOIN lethe.chunk AS c ON c.chunk_id = t.chunk_id JOIN lethe.run AS n ON n.run_id = c.run_id
LEFT JOIN LATERAL (
    -- By ID first, whatever the planner takes the tables for.
    SELECT o.created_at, o.redacted_at
    FROM (SELECT v.* FROM lethe.event AS v WHERE v.id = e.id AND v.type = t.type OFFSET 0) AS o
    JOIN lethe.chunk AS oc ON oc.chunk_id = o.chunk_id
    JOIN lethe.run AS orn ON orn.run_id = oc.run_id
    WHERE o.cause_id IS NULL AND o.superseded_by IS NULL
      AND o.applied_at <= t.applied_at AND oc.dataset = c.dataset AND orn.pipeline = n.pipeline
    ORDER BY o.applied_at DESC LIMIT 1
) AS r ON t.created_at IS NULL;

CREATE OR REPLACE FUNCTION lethe.unanswered(job bigint) RETURNS TABLE (id bigint, ids_below bigint)
LANGUAGE sql STABLE AS $$
    SELECT u.id, u.ids_below
    FROM lethe.unspoken AS u JOIN lethe.job AS j USING (job_id)
    WHERE u.job_id = job AND j.silence = 'spoken'
      AND NOT EXISTS (SELECT FROM lethe.event AS e
                      WHERE e.id = u.id AND e.chunk_id = j.chunk_id AND e.cause_id IS NULL)
      AND NOT EXISTS (SELECT FROM lethe.traced_reason(j.chunk_id, u.id))
$$;

-- A program that knows no traces would not see these answers, and act on older ones.
CREATE OR REPLACE FUNCTION lethe.require_holds() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_query() LIKE '%$%' AND current_query() NOT LIKE '%keeps holds and traces%' THEN
        RAISE EXCEPTION 'this ledger keeps holds and traces, and the program that asks is older than they are'
            USING HINT = 'install the version of Lethe that migrated the ledger, or a newer one';
    END IF;
    RETURN NULL;
END
$$;

-- migrate:down
DO $$
BEGIN
    IF EXISTS (SELECT FROM lethe.trace) THEN
        RAISE EXCEPTION 'the ledger has traces of events, which an older version cannot read or verify'
            USING HINT = 'keep the newer version (lethe migrate up), '
                'or have the ledger gone for good, with the guards: the README tells how';
    END IF;
END
$$;
CREATE OR REPLACE FUNCTION lethe.require_holds() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_query() LIKE '%$%' AND current_query() NOT LIKE '%keeps holds%' THEN
        RAISE EXCEPTION 'this ledger keeps holds, and the program that asks is older than they are'
            USING HINT = 'install the version of Lethe that migrated the ledger, or a newer one';
    END IF;
    RETURN NULL;
END
$$;
CREATE OR REPLACE FUNCTION lethe.unanswered(job bigint) RETURNS TABLE (id bigint, ids_below bigint)
LANGUAGE sql STABLE AS $$
    SELECT u.id, u.ids_below
    FROM lethe.unspoken AS u JOIN lethe.job AS j USING (job_id)
    WHERE u.job_id = job AND j.silence = 'spoken'
      AND NOT EXISTS (SELECT FROM lethe.event AS e
                      WHERE e.id = u.id AND e.chunk_id = j.chunk_id AND e.cause_id IS NULL)
$$;
DROP VIEW lethe.traced_event;
CREATE OR REPLACE FUNCTION lethe.event_digest(chunk bigint, batch_number integer, OUT records bigint, OUT sha256 bytea)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*), sha256(coalesce(string_agg(
        lethe.event_bytes(id, type, reason, action, job_id, applied_at, created_at, redacted_at, cause_id,
                          superseded_by, changed),
        '\x0a'::bytea ORDER BY id, type, cause_id, reason, action, changed::text COLLATE "C"), ''))
    FROM lethe.event WHERE chunk_id = chunk AND batch = batch_number
$$;
DROP FUNCTION lethe.trace_bytes(
    lethe.job_type, lethe.reason, lethe.action, bigint, timestamptz, integer, bigint, bigint, bytea, timestamptz[],
    timestamptz[]);
DROP FUNCTION lethe.traced_reason(bigint, bigint);
DROP FUNCTION lethe.place_in_trace(bigint, bigint, bigint, integer, bytea);
DROP FUNCTION lethe.traced(bigint, integer, bytea, timestamptz[], timestamptz[]);
DROP TABLE lethe.trace;
DROP FUNCTION lethe.cover(text, text, bigint, timestamptz, bigint[], bigint[], bigint[]);
UPDATE lethe.coverage AS v SET ids = least(v.last_id - v.first_id + 1, c.ids)
FROM lethe.chunk AS c WHERE c.chunk_id = v.chunk_id AND v.ids IS NULL;
ALTER TABLE lethe.coverage ALTER COLUMN ids SET NOT NULL;

"""##),
("20261126090000_left_out.sql", ##"""
-- migrate:up

-- Rows of a dataset whose ID cannot be asked about, counted before its first chunk.
ALTER TABLE lethe.export
    -- Cause to number of rows; NULL where nobody has counted.
    ADD COLUMN left_out jsonb CHECK (jsonb_typeof(left_out) = 'object'),
    -- All of the dataset's rows; 0 where none is left out.
    ADD COLUMN rows_of_dataset bigint CHECK (rows_of_dataset >= 0),
    -- Whether a limit keeps the dataset from being exported.
    ADD COLUMN is_stopped boolean NOT NULL DEFAULT false CHECK (NOT is_stopped OR failure IS NOT NULL);

-- migrate:down

ALTER TABLE lethe.export DROP COLUMN left_out, DROP COLUMN rows_of_dataset, DROP COLUMN is_stopped;

"""##),
("20261126091000_chain_begins.sql", ##"""
-- migrate:up

-- A chain without its first record gets one before any other: a schema that was loaded from a dump has none. Whatever
-- was applied before it is held against the chain, as if it had been there all the time.
CREATE OR REPLACE FUNCTION lethe.seal(kind text, job bigint, chunk bigint, content text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    newest lethe.seal;
    before bytea;
BEGIN
    LOCK TABLE lethe.seal IN EXCLUSIVE MODE;
    SELECT * INTO newest FROM lethe.seal ORDER BY number DESC LIMIT 1;
    IF newest.number IS NULL AND kind <> 'begin' THEN
        PERFORM lethe.seal('begin', NULL, NULL, '{"chunk_id_max": 0}');
        SELECT * INTO newest FROM lethe.seal ORDER BY number DESC LIMIT 1;
    END IF;
    before := coalesce(newest.sha256, sha256(''));
    INSERT INTO lethe.seal (number, kind, job_id, chunk_id, content, previous, sha256)
    VALUES (coalesce(newest.number, 0) + 1, kind, job, chunk, content, before, lethe.seal_hash(before, content));
    RETURN coalesce(newest.number, 0) + 1;
END
$$;

-- Begins the chain, unless it has begun.
CREATE FUNCTION lethe.begin_chain() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM lethe.seal) THEN
        LOCK TABLE lethe.seal IN EXCLUSIVE MODE;
        IF NOT EXISTS (SELECT FROM lethe.seal) THEN
            PERFORM lethe.seal('begin', NULL, NULL, '{"chunk_id_max": 0}');
        END IF;
    END IF;
END
$$;

-- migrate:down

DROP FUNCTION lethe.begin_chain();

CREATE OR REPLACE FUNCTION lethe.seal(kind text, job bigint, chunk bigint, content text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    newest lethe.seal;
    before bytea;
BEGIN
    LOCK TABLE lethe.seal IN EXCLUSIVE MODE;
    SELECT * INTO newest FROM lethe.seal ORDER BY number DESC LIMIT 1;
    before := coalesce(newest.sha256, sha256(''));
    INSERT INTO lethe.seal (number, kind, job_id, chunk_id, content, previous, sha256)
    VALUES (coalesce(newest.number, 0) + 1, kind, job, chunk, content, before, lethe.seal_hash(before, content));
    RETURN coalesce(newest.number, 0) + 1;
END
$$;

"""##),
("20261126092000_version.sql", ##"""
-- Which migrations a ledger has, for the programs that work with it: the table of the migrations themselves may be
-- out of their sight, and may have other programs' versions in it.
-- migrate:up
-- From here on, each migration of the ledger adds its own version. A program that does not know one of them leaves
-- the ledger alone.
CREATE TABLE lethe.version (
    version    text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO lethe.version (version) VALUES ('20261126092000');

-- migrate:down
DROP TABLE lethe.version;

"""##),
("20261126093000_held_columns.sql", ##"""
-- What PostgreSQL itself knows the columns by that holds speak of, so that another name of a column or of a table
-- loses no hold.
-- migrate:up
CREATE TABLE lethe.held_column (
    -- As in lethe.hold.
    table_name  text NOT NULL,
    column_name text NOT NULL,
    -- pg_attribute's attrelid and attnum, in this cluster; that is NULL where it is not known.
    relation    oid NOT NULL,
    attribute   smallint NOT NULL,
    cluster     bigint,
    PRIMARY KEY (table_name, column_name)
);

ALTER TABLE lethe.closed_hold DROP CONSTRAINT closed_hold_outcome_check;
ALTER TABLE lethe.closed_hold ADD CONSTRAINT closed_hold_outcome_check CHECK (outcome IN (
    'restored', 'deleted', 'gone', 'changed', 'kept', 'erased', 'forgotten',
    -- Every column that was held was dropped.
    'dropped'));

INSERT INTO lethe.version (version) VALUES ('20261126093000');

-- migrate:down
UPDATE lethe.closed_hold SET outcome = 'forgotten' WHERE outcome = 'dropped';
ALTER TABLE lethe.closed_hold DROP CONSTRAINT closed_hold_outcome_check;
ALTER TABLE lethe.closed_hold ADD CONSTRAINT closed_hold_outcome_check CHECK (outcome IN (
    'restored', 'deleted', 'gone', 'changed', 'kept', 'erased', 'forgotten'));
DROP TABLE lethe.held_column;
DELETE FROM lethe.version WHERE version = '20261126093000';

"""##),
("20261126111000_chunk_cuts.sql", ##"""
-- A chunk that the API's host finds too large is cut in two.
-- migrate:up
ALTER TABLE lethe.chunk
    -- How often the chunk, or the one that it was a part of, was cut.
    ADD cuts smallint NOT NULL DEFAULT 0 CHECK (cuts >= 0),
    -- Jobs that it had before its file became what it is: they do not count against api.job_attempts.
    ADD attempts_before integer NOT NULL DEFAULT 0 CHECK (attempts_before >= 0);

INSERT INTO lethe.version (version) VALUES ('20261126111000');

-- migrate:down
ALTER TABLE lethe.chunk DROP cuts, DROP attempts_before;
DELETE FROM lethe.version WHERE version = '20261126111000';

"""##),
("20261126134700_refused_sizes.sql", ##"""
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

"""##),
("20261127003900_given_up.sql", ##"""
-- That a run was given up is a column of its own. Until now a sentence in its failure said so.
-- migrate:up
ALTER TABLE lethe.run
    -- Whether somebody has given the run up. It stays so if a chunk of it is taken on again.
    ADD is_given_up boolean NOT NULL DEFAULT false;
UPDATE lethe.run SET is_given_up = true WHERE failure = 'given up by the operator';

INSERT INTO lethe.version (version) VALUES ('20261127003900');

-- migrate:down
-- The sentence is still there.
ALTER TABLE lethe.run DROP is_given_up;
DELETE FROM lethe.version WHERE version = '20261127003900';

"""##),
("20261127005500_event_hash.sql", ##"""
-- What a batch's hash says of an event record is written in one place. Apply makes the part that is the same for many
-- events once, and gives it to the same functions by which the hash is made again later. The bytes are as before, so
-- that what was sealed stays proven.
-- migrate:up
-- These have no search_path of their own, so that they are made part of the statement that calls them.
CREATE FUNCTION lethe.event_head(
    type lethe.job_type, reason lethe.reason, action lethe.action, job_id bigint, applied_at timestamptz
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT pg_catalog.enum_send(type) || pg_catalog.enum_send(reason) || pg_catalog.enum_send(action)
        || pg_catalog.int8send(job_id) || pg_catalog.timestamptz_send(applied_at)
$$;

CREATE FUNCTION lethe.changed_bytes(changed jsonb) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT coalesce('\x01'::bytea || pg_catalog.textsend(changed::text), '\x00')
$$;

-- Each argument stands once: an argument that stands twice would have to be cheap.
CREATE FUNCTION lethe.event_row(
    id bigint, head bytea, created_at timestamptz, redacted_at timestamptz, cause_id bigint, superseded_by bigint,
    changed bytea
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT pg_catalog.int8send(id) || head
        || coalesce('\x01'::bytea || pg_catalog.timestamptz_send(created_at), '\x00')
        || coalesce('\x01'::bytea || pg_catalog.timestamptz_send(redacted_at), '\x00')
        || coalesce('\x01'::bytea || pg_catalog.int8send(cause_id), '\x00')
        || coalesce('\x01'::bytea || pg_catalog.int8send(superseded_by), '\x00')
        || changed
$$;

CREATE OR REPLACE FUNCTION lethe.event_bytes(
    id bigint, type lethe.job_type, reason lethe.reason, action lethe.action, job_id bigint,
    applied_at timestamptz, created_at timestamptz, redacted_at timestamptz, cause_id bigint,
    superseded_by bigint, changed jsonb
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT lethe.event_row(
        id, lethe.event_head(type, reason, action, job_id, applied_at), created_at, redacted_at, cause_id,
        superseded_by, lethe.changed_bytes(changed))
$$;

INSERT INTO lethe.version (version) VALUES ('20261127005500');

-- migrate:down
CREATE OR REPLACE FUNCTION lethe.event_bytes(
    id bigint, type lethe.job_type, reason lethe.reason, action lethe.action, job_id bigint,
    applied_at timestamptz, created_at timestamptz, redacted_at timestamptz, cause_id bigint,
    superseded_by bigint, changed jsonb
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT int8send(id) || enum_send(type) || enum_send(reason) || enum_send(action)
        || int8send(job_id) || timestamptz_send(applied_at)
        || coalesce('\x01'::bytea || timestamptz_send(created_at), '\x00')
        || coalesce('\x01'::bytea || timestamptz_send(redacted_at), '\x00')
        || coalesce('\x01'::bytea || int8send(cause_id), '\x00')
        || coalesce('\x01'::bytea || int8send(superseded_by), '\x00')
        || coalesce('\x01'::bytea || textsend(changed::text), '\x00')
$$;
DROP FUNCTION lethe.event_row(bigint, bytea, timestamptz, timestamptz, bigint, bigint, bytea);
DROP FUNCTION lethe.changed_bytes(jsonb);
DROP FUNCTION lethe.event_head(lethe.job_type, lethe.reason, lethe.action, bigint, timestamptz);
DELETE FROM lethe.version WHERE version = '20261127005500';

"""##),
("20261127041500_workers.sql", ##"""
-- Leases with a holder, a generation and an expiry. They replace the advisory lock of a pipeline, which ends with its
-- session: a cut connection gave the pipeline away, and a paused process kept it for ever.
-- migrate:up
DO $$
BEGIN
    -- An earlier program that works on a pipeline holds this lock, and knows nothing of leases.
    IF EXISTS (SELECT FROM pg_locks
               WHERE locktype = 'advisory' AND granted AND objsubid = 2
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND classid = (hashtext('lethe.pipeline')::bigint & 4294967295)::oid
                 AND pid <> pg_backend_pid()) THEN
        RAISE EXCEPTION 'a lethe process is working on a pipeline of this ledger'
            USING ERRCODE = 'object_in_use',
                  HINT = 'let it finish, or end it; then run lethe migrate up again';
    END IF;
END $$;

-- A process that works on a pipeline. Renewing the row renews all its leases. The row is deleted when the process ends, or
-- when another process takes over from it.
CREATE TABLE lethe.worker (
    -- The token in lethe.run.lease, lethe.chunk.lease and lethe.lease.
    lease         uuid PRIMARY KEY,
    command       text NOT NULL,
    host          text NOT NULL,
    process_id    integer NOT NULL,
    -- These identify a process for good: process IDs are used again.
    boot_id       text NOT NULL,
    pid_namespace text NOT NULL,
    process_start bigint NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    renewed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- From then on, another process may end this one's leases.
    expires_at    timestamptz NOT NULL CHECK (expires_at >= renewed_at)
);

-- What only one worker at a time may work on.
CREATE TABLE lethe.lease (
    -- Such as 'pipeline nightly'.
    resource   text PRIMARY KEY,
    lease      uuid NOT NULL REFERENCES lethe.worker ON DELETE CASCADE,
    -- How often the resource was leased.
    generation bigint NOT NULL DEFAULT 1 CHECK (generation > 0),
    since      timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON lethe.lease (lease);

INSERT INTO lethe.version (version) VALUES ('20261127041500');

-- migrate:down
DROP TABLE lethe.lease;
DROP TABLE lethe.worker;
DELETE FROM lethe.version WHERE version = '20261127041500';

"""##),
("20261127103000_teams.sql", ##"""
-- Several processes work on one pipeline together: each export, each slot of the API and each chunk has a lease of its own.
-- migrate:up
DO $$
BEGIN
    -- The programs of the version before know nothing of teams.
    IF EXISTS (SELECT FROM lethe.worker WHERE expires_at > clock_timestamp()) THEN
        RAISE EXCEPTION 'a lethe process is working on a pipeline of this ledger'
            USING ERRCODE = 'object_in_use',
                  HINT = 'let it finish, or end it and wait until its lease has expired (expires_at in lethe.worker); '
                         'then run lethe migrate up again';
    END IF;
END $$;

DELETE FROM lethe.worker;
ALTER TABLE lethe.worker
    -- NULL until the worker may work on a pipeline.
    ADD COLUMN pipeline    text,
    -- The workers that work on a pipeline at the same time. The first one starts the team.
    ADD COLUMN team        uuid,
    -- Whether others may join the worker's team.
    ADD COLUMN is_joinable boolean NOT NULL DEFAULT false,
    ADD CHECK ((pipeline IS NULL) = (team IS NULL)),
    ADD CHECK (pipeline IS NOT NULL OR NOT is_joinable);
CREATE INDEX ON lethe.worker (pipeline);

-- The team that started the run. A team starts at most one.
ALTER TABLE lethe.run ADD COLUMN team uuid UNIQUE;

-- The host that wrote the chunk's file. NULL if it is unknown.
ALTER TABLE lethe.chunk ADD COLUMN file_host text;

INSERT INTO lethe.version (version) VALUES ('20261127103000');

-- migrate:down
ALTER TABLE lethe.chunk DROP COLUMN file_host;
ALTER TABLE lethe.run DROP COLUMN team;
DELETE FROM lethe.worker;
ALTER TABLE lethe.worker DROP COLUMN is_joinable, DROP COLUMN team, DROP COLUMN pipeline;
DELETE FROM lethe.version WHERE version = '20261127103000';

"""##),
("20261127160000_concurrent_processes.sql", ##"""
-- migrate:up

-- The reference to the chunk was checked for each event that was collected, and took most of the time of the COPY. Collect
-- changes the chunk's row in the same transaction, and Lethe deletes no chunk.
ALTER TABLE lethe.collected DROP CONSTRAINT collected_chunk_id_fkey;

-- Two processes that applied the first batches of a month at the same time both created its partition, and one failed.
CREATE OR REPLACE FUNCTION lethe.ensure_event_partitions(at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    month timestamp := date_trunc('month', at AT TIME ZONE 'UTC');
    name  text;
BEGIN
    FOR step IN 0..1 LOOP
        name := 'event_' || to_char(month, 'YYYY_MM');
        IF to_regclass('lethe.' || name) IS NULL THEN
            PERFORM pg_advisory_xact_lock(hashtext('lethe.ensure_event_partitions'));
        END IF;
        -- Somebody else may have made it while this one waited. to_regclass would use what the session knew before.
        IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'lethe'::regnamespace AND relname = name) THEN
            EXECUTE format('CREATE TABLE lethe.%I (LIKE lethe.event INCLUDING DEFAULTS)', name);
            EXECUTE format('ALTER TABLE lethe.event ATTACH PARTITION lethe.%I FOR VALUES FROM (%L) TO (%L)',
                           name, month::text || '+00', (month + interval '1 month')::text || '+00');
        END IF;
        month := month + interval '1 month';
    END LOOP;
END
$$;

INSERT INTO lethe.version (version) VALUES ('20261127160000');

-- migrate:down
CREATE OR REPLACE FUNCTION lethe.ensure_event_partitions(at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    month timestamp := date_trunc('month', at AT TIME ZONE 'UTC');
    name  text;
BEGIN
    FOR step IN 0..1 LOOP
        name := 'event_' || to_char(month, 'YYYY_MM');
        IF to_regclass('lethe.' || name) IS NULL THEN
            PERFORM pg_advisory_xact_lock(hashtext('lethe.ensure_event_partitions'));
        END IF;
        -- Somebody else may have made it while this one waited.
        IF to_regclass('lethe.' || name) IS NULL THEN
            EXECUTE format('CREATE TABLE lethe.%I (LIKE lethe.event INCLUDING DEFAULTS)', name);
            EXECUTE format('ALTER TABLE lethe.event ATTACH PARTITION lethe.%I FOR VALUES FROM (%L) TO (%L)',
                           name, month::text || '+00', (month + interval '1 month')::text || '+00');
        END IF;
        month := month + interval '1 month';
    END LOOP;
END
$$;

ALTER TABLE lethe.collected ADD FOREIGN KEY (chunk_id) REFERENCES lethe.chunk ON DELETE CASCADE;
DELETE FROM lethe.version WHERE version = '20261127160000';

"""##),
  ]
}
