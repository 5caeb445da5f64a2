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
