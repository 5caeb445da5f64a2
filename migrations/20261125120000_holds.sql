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
