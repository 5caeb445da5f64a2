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
