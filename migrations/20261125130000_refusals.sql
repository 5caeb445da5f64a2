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
