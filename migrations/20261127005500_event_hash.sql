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
