-- migrate:up

-- A chain without its first record gets one before any other: a schema that was loaded from a dump has none. Whatever
-- was applied before it is held against the chain, as if it had been there all the time.
CREATE OR REPLACE FUNCTION lethe.seal(kind text, job bigint, chunk bigint, content text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    newest lethe.seal;
    before bytea;
BEGIN
    LOCK TABLE lethe.seal IN EXCLUSIVE MODE;
    SELECT * INTO newest FROM lethe.seal ORDER BY number DESC LIMIT 1;
    IF newest.number IS NULL AND kind <> 'begin' THEN
        PERFORM lethe.seal('begin', NULL, NULL, '{"chunk_id_max": 0}');
        SELECT * INTO newest FROM lethe.seal ORDER BY number DESC LIMIT 1;
    END IF;
    before := coalesce(newest.sha256, sha256(''));
    INSERT INTO lethe.seal (number, kind, job_id, chunk_id, content, previous, sha256)
    VALUES (coalesce(newest.number, 0) + 1, kind, job, chunk, content, before, lethe.seal_hash(before, content));
    RETURN coalesce(newest.number, 0) + 1;
END
$$;

-- Begins the chain, unless it has begun.
CREATE FUNCTION lethe.begin_chain() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM lethe.seal) THEN
        LOCK TABLE lethe.seal IN EXCLUSIVE MODE;
        IF NOT EXISTS (SELECT FROM lethe.seal) THEN
            PERFORM lethe.seal('begin', NULL, NULL, '{"chunk_id_max": 0}');
        END IF;
    END IF;
END
$$;

-- migrate:down

DROP FUNCTION lethe.begin_chain();

CREATE OR REPLACE FUNCTION lethe.seal(kind text, job bigint, chunk bigint, content text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    newest lethe.seal;
    before bytea;
BEGIN
    LOCK TABLE lethe.seal IN EXCLUSIVE MODE;
    SELECT * INTO newest FROM lethe.seal ORDER BY number DESC LIMIT 1;
    before := coalesce(newest.sha256, sha256(''));
    INSERT INTO lethe.seal (number, kind, job_id, chunk_id, content, previous, sha256)
    VALUES (coalesce(newest.number, 0) + 1, kind, job, chunk, content, before, lethe.seal_hash(before, content));
    RETURN coalesce(newest.number, 0) + 1;
END
$$;
