-- What a batch's hash says of one event record, so that whoever writes the record need not read it back.
-- migrate:up
-- Without a search_path of its own, so that it is made part of the statement that calls it.
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

CREATE OR REPLACE FUNCTION lethe.event_digest(
    chunk bigint, batch_number integer, OUT records bigint, OUT sha256 bytea
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*), sha256(coalesce(string_agg(
        lethe.event_bytes(id, type, reason, action, job_id, applied_at, created_at, redacted_at, cause_id,
                          superseded_by, changed),
        '\x0a'::bytea ORDER BY id, type, cause_id, reason, action), ''))
    FROM lethe.event WHERE chunk_id = chunk AND batch = batch_number
$$;

-- migrate:down
CREATE OR REPLACE FUNCTION lethe.event_digest(
    chunk bigint, batch_number integer, OUT records bigint, OUT sha256 bytea
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*), sha256(coalesce(string_agg(
        int8send(id) || enum_send(type) || enum_send(reason) || enum_send(action)
        || int8send(job_id) || timestamptz_send(applied_at)
        || coalesce('\x01'::bytea || timestamptz_send(created_at), '\x00')
        || coalesce('\x01'::bytea || timestamptz_send(redacted_at), '\x00')
        || coalesce('\x01'::bytea || int8send(cause_id), '\x00')
        || coalesce('\x01'::bytea || int8send(superseded_by), '\x00')
        || coalesce('\x01'::bytea || textsend(changed::text), '\x00'),
        '\x0a'::bytea ORDER BY id, type, cause_id, reason, action), ''))
    FROM lethe.event WHERE chunk_id = chunk AND batch = batch_number
$$;
DROP FUNCTION lethe.event_bytes(
    bigint, lethe.job_type, lethe.reason, lethe.action, bigint, timestamptz, timestamptz, timestamptz, bigint,
    bigint, jsonb);
