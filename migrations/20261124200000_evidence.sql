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
