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
