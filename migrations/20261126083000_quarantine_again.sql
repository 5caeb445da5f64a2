-- The same line that nobody may act on, night after night, is one open line.
-- migrate:up
-- What makes two lines the same: dataset, ID and the words about it; the bytes where no ID can be read, or no words.
CREATE FUNCTION lethe.line_identity(pipeline text, dataset text, id bigint, raw bytea) RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    words text;
BEGIN
    IF id IS NOT NULL THEN
        BEGIN
            SELECT jsonb_build_array(l.object -> 'action', l.object -> 'reason', l.object -> 'error')::text INTO words
            FROM (SELECT convert_from(raw, 'UTF8')::jsonb AS object) AS l WHERE jsonb_typeof(l.object) = 'object';
        EXCEPTION WHEN OTHERS THEN
            words := NULL;  -- no JSON, or such as PostgreSQL does not take
        END;
    END IF;
    RETURN sha256(convert_to(jsonb_build_array(pipeline, dataset, id, words)::text, 'UTF8')
                  || CASE WHEN words IS NULL THEN raw ELSE '' END);
END
$$;

ALTER TABLE lethe.quarantine
    -- NULL for lines that were resolved before there was any.
    ADD COLUMN identity bytea CHECK (octet_length(identity) = 32),
    -- In how many results it was; quarantined_at is the first time.
    ADD COLUMN seen bigint NOT NULL DEFAULT 1 CHECK (seen > 0),
    ADD COLUMN last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp();
UPDATE lethe.quarantine SET last_seen_at = quarantined_at;
UPDATE lethe.quarantine AS q SET identity = lethe.line_identity(r.pipeline, c.dataset, q.id, q.raw)
FROM lethe.chunk AS c JOIN lethe.run AS r USING (run_id)
WHERE c.chunk_id = q.chunk_id AND q.resolved_at IS NULL;

-- Of those that are open several times the newest stays, and counts for all.
WITH same AS (
    SELECT identity, count(DISTINCT job_id) AS seen, min(quarantined_at) AS first_at, max(quarantined_at) AS last_at
    FROM lethe.quarantine WHERE resolved_at IS NULL GROUP BY identity HAVING count(*) > 1
)
UPDATE lethe.quarantine AS q SET seen = s.seen, quarantined_at = s.first_at, last_seen_at = s.last_at
FROM same AS s WHERE q.identity = s.identity AND q.resolved_at IS NULL;
WITH place AS (
    SELECT q.quarantine_id, row_number() OVER (
        PARTITION BY q.identity ORDER BY j.asked_at DESC NULLS LAST, q.job_id DESC, q.line) AS number
    FROM lethe.quarantine AS q JOIN lethe.job AS j USING (job_id) WHERE q.resolved_at IS NULL
)
DELETE FROM lethe.quarantine AS q USING place AS p WHERE q.quarantine_id = p.quarantine_id AND p.number > 1;
CREATE UNIQUE INDEX quarantine_identity ON lethe.quarantine (identity) WHERE resolved_at IS NULL;

-- answered: a newer result that can be trusted has answered about its ID.
ALTER TABLE lethe.quarantine DROP CONSTRAINT quarantine_resolution_check;
ALTER TABLE lethe.quarantine ADD CONSTRAINT quarantine_resolution_check
    CHECK (resolution IN ('retried', 'dismissed', 'answered'));

-- migrate:down
UPDATE lethe.quarantine SET resolution = 'dismissed' WHERE resolution = 'answered';
ALTER TABLE lethe.quarantine DROP CONSTRAINT quarantine_resolution_check;
ALTER TABLE lethe.quarantine ADD CONSTRAINT quarantine_resolution_check CHECK (resolution IN ('retried', 'dismissed'));
DROP INDEX lethe.quarantine_identity;
ALTER TABLE lethe.quarantine DROP COLUMN identity, DROP COLUMN seen, DROP COLUMN last_seen_at;
DROP FUNCTION lethe.line_identity(text, text, bigint, bytea);
