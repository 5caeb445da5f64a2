-- Which folder has the bytes of this database's jobs: a server that is started with another one would take them for lost.
-- migrate:up
CREATE TABLE compliance.spool (
    only_one  boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    -- In the folder's file spool.id, too.
    id        uuid NOT NULL DEFAULT gen_random_uuid(),
    -- Where the folder was when it was used last.
    directory text NOT NULL
);

-- migrate:down
DROP TABLE compliance.spool;
