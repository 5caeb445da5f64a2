-- What a result says by not naming an ID: decided once, when the result is collected.
-- migrate:up
-- none: nothing. spoken: an ID that the chunk asked about and the result does not name is clean, but for the IDs
-- in lethe.unspoken.
CREATE TYPE lethe.silence AS ENUM ('none', 'spoken');

-- NULL as long as there is no result.
ALTER TABLE lethe.job ADD COLUMN silence lethe.silence;

-- The IDs of a chunk about which its result has a line that nobody may act on.
CREATE TABLE lethe.unspoken (
    job_id    bigint NOT NULL REFERENCES lethe.job ON DELETE CASCADE,
    id        bigint NOT NULL,
    -- How many IDs of the chunk are smaller. NULL where an earlier version collected the result.
    ids_below bigint CHECK (ids_below >= 0),
    PRIMARY KEY (job_id, id)
);

-- One row if the result of a job says by silence that an ID is clean, else none. Whether the chunk asked about the
-- ID, and whether the result has an event about it, is for the caller to know. Without a search_path of its own, so
-- that it is made part of the statement that calls it.
CREATE FUNCTION lethe.speaks_by_silence(job bigint, about bigint) RETURNS SETOF boolean
LANGUAGE sql STABLE AS $$
    SELECT true FROM lethe.job AS j
    WHERE j.job_id = job AND j.silence = 'spoken'
      AND NOT EXISTS (SELECT FROM lethe.unspoken AS u WHERE u.job_id = job AND u.id = about)
$$;

-- The IDs of a chunk that its result has not answered for: no event, and no silence. Empty where there is no silence
-- at all: then no range can say which IDs have no answer.
CREATE FUNCTION lethe.unanswered(job bigint) RETURNS TABLE (id bigint, ids_below bigint)
LANGUAGE sql STABLE AS $$
    SELECT u.id, u.ids_below
    FROM lethe.unspoken AS u JOIN lethe.job AS j USING (job_id)
    WHERE u.job_id = job AND j.silence = 'spoken'
      AND NOT EXISTS (SELECT FROM lethe.event AS e
                      WHERE e.id = u.id AND e.chunk_id = j.chunk_id AND e.cause_id IS NULL)
$$;

-- The key ranges of a chunk that its result has answered for, and how many of its IDs are in each.
CREATE FUNCTION lethe.answered_ranges(job bigint) RETURNS TABLE (first_id bigint, last_id bigint, ids bigint)
LANGUAGE sql STABLE AS $$
    WITH unanswered AS MATERIALIZED (SELECT u.id, u.ids_below FROM lethe.unanswered(job) AS u),
    part AS (
        SELECT s.id AS after_id, coalesce(lead(s.id) OVER w, c.last_id + 1.0) AS before_id,
               coalesce(lead(s.ids_below) OVER w, c.ids) - s.ids_below - 1 AS ids
        FROM lethe.job AS j JOIN lethe.chunk AS c USING (chunk_id),
             LATERAL (SELECT c.first_id - 1 AS id, -1 AS ids_below
                      UNION ALL SELECT u.id, u.ids_below FROM unanswered AS u) AS s
        WHERE j.job_id = job AND j.silence = 'spoken'
        WINDOW w AS (ORDER BY s.id)
    )
    SELECT p.after_id + 1, (p.before_id - 1)::bigint, p.ids FROM part AS p
    WHERE p.ids > 0 AND NOT EXISTS (SELECT FROM unanswered AS u WHERE u.ids_below IS NULL)
$$;

-- Results that earlier versions collected, as they were judged then. The events of a chunk that was given up were
-- dropped, so nobody can tell any more which IDs the result did not name.
UPDATE lethe.job AS j
SET silence = CASE
    WHEN c.state = 'failed'
      OR EXISTS (SELECT FROM lethe.quarantine AS q
                 WHERE q.job_id = j.job_id AND q.id IS NULL AND q.why <> 'the API says invalid_id')
    THEN 'none' ELSE 'spoken' END::lethe.silence
FROM lethe.chunk AS c WHERE c.chunk_id = j.chunk_id AND j.result_sha256 IS NOT NULL;
INSERT INTO lethe.unspoken (job_id, id)
SELECT DISTINCT q.job_id, q.id
FROM lethe.quarantine AS q WHERE q.id IS NOT NULL AND q.in_chunk IS NOT false;

-- migrate:down
-- An earlier version keeps events of collected chunks only.
DELETE FROM lethe.collected AS s USING lethe.chunk AS c WHERE c.chunk_id = s.chunk_id AND c.state = 'failed';
DROP FUNCTION lethe.answered_ranges(bigint);
DROP FUNCTION lethe.unanswered(bigint);
DROP FUNCTION lethe.speaks_by_silence(bigint, bigint);
DROP TABLE lethe.unspoken;
ALTER TABLE lethe.job DROP COLUMN silence;
DROP TYPE lethe.silence;
