-- Open runs that took a newer definition on, on somebody's word. Sealed.
-- migrate:up
CREATE TABLE lethe.adoption (
    adoption_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id        bigint NOT NULL REFERENCES lethe.run ON DELETE CASCADE,
    -- What differed: by place in the definition, what the run had and what it has now. Names and values of the
    -- definition, none of a row.
    changes       jsonb NOT NULL CHECK (jsonb_typeof(changes) = 'object'),
    -- The whole definition, as hashes of its text.
    sha256_before bytea NOT NULL CHECK (octet_length(sha256_before) = 32),
    sha256_after  bytea NOT NULL CHECK (octet_length(sha256_after) = 32),
    -- The chunks of the run that a limit had stopped by then. Whatever the new limits say, they wait for approval.
    stopped       bigint[] NOT NULL,
    adopted_by    text NOT NULL CHECK (adopted_by <> ''),
    note          text,
    adopted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The record of it in the chain.
    seal_number   bigint
);
CREATE INDEX adoption_run_id ON lethe.adoption (run_id);

-- What an adoption's record says.
CREATE FUNCTION lethe.adoption_content(adoption bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'adoption_id', a.adoption_id, 'run_id', a.run_id, 'changes', a.changes,
        'sha256_before', encode(a.sha256_before, 'hex'), 'sha256_after', encode(a.sha256_after, 'hex'),
        'stopped', to_jsonb(a.stopped), 'adopted_by', a.adopted_by, 'note', a.note,
        'adopted_at', extract(epoch FROM a.adopted_at))::text
    FROM lethe.adoption AS a WHERE a.adoption_id = adoption
$$;

-- One kind of record more than there are by now.
DO $$
DECLARE
    kinds text;
BEGIN
    SELECT string_agg(DISTINCT quote_literal(kind), ', ') INTO kinds
    FROM (SELECT (regexp_matches(pg_get_constraintdef(oid), '''([a-z_]+)''', 'g'))[1] AS kind
          FROM pg_constraint WHERE conrelid = 'lethe.seal'::regclass AND conname = 'seal_kind_check'
          UNION ALL SELECT 'adoption') AS known;
    ALTER TABLE lethe.seal DROP CONSTRAINT seal_kind_check;
    EXECUTE format('ALTER TABLE lethe.seal ADD CONSTRAINT seal_kind_check CHECK (kind IN (%s))', kinds);
END
$$;

-- Also of a definition that is none: one run that cannot be read must not keep others from being compared.
CREATE OR REPLACE FUNCTION lethe.exported_rows(definition jsonb, dataset text) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_array(d -> 'table', d -> 'id', d -> 'condition')
    FROM jsonb_array_elements(CASE jsonb_typeof(definition -> 'datasets')
                              WHEN 'array' THEN definition -> 'datasets' ELSE '[]' END) AS d
    WHERE d ->> 'name' = dataset
$$;

-- migrate:down
DO $$
BEGIN
    IF EXISTS (SELECT FROM lethe.seal WHERE kind = 'adoption') THEN
        RAISE EXCEPTION 'the chain of evidence has adoptions in it, which an older version cannot verify'
            USING HINT = 'keep the newer version (lethe migrate up), '
                'or have the ledger gone for good, with the guards: the README tells how';
    END IF;
END
$$;
-- The kinds of records stay as they are, and so does what reads definitions.
DROP FUNCTION lethe.adoption_content(bigint);
DROP TABLE lethe.adoption;
