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
