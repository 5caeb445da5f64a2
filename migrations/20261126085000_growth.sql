-- What a night that changes nothing leaves: key ranges that take the place of older ones.
-- migrate:up

-- How many IDs a chunk had asked about in a range. NULL where a newer range has taken a part of it: nobody has counted
-- the rest.
ALTER TABLE lethe.coverage ALTER COLUMN ids DROP NOT NULL;

-- Notes that key ranges of a dataset were checked. They take the place of what they cover of older ranges, which are
-- cut at their ends, and give way to newer ones: no two ranges of a dataset overlap. For one transaction of a dataset
-- at a time. What is not covered keeps the time that it has.
CREATE FUNCTION lethe.cover(
    name_of_pipeline text, name_of_dataset text, chunk bigint, at timestamptz, first_ids bigint[], last_ids bigint[],
    counts bigint[]
) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    WITH fresh AS MATERIALIZED (
        SELECT u.first_id, u.last_id, u.ids, at AS checked_at, chunk AS chunk_id
        FROM unnest(first_ids, last_ids, counts) AS u (first_id, last_id, ids)
    ), extent AS (
        SELECT min(f.first_id) AS first_id, max(f.last_id) AS last_id FROM fresh AS f
    ), newer AS MATERIALIZED (
        SELECT v.first_id, v.last_id FROM lethe.coverage AS v, extent AS e
        WHERE v.pipeline = name_of_pipeline AND v.dataset = name_of_dataset
          AND v.first_id <= e.last_id AND v.last_id >= e.first_id AND v.checked_at > at
    ), older AS (
        DELETE FROM lethe.coverage AS v USING extent AS e
        WHERE v.pipeline = name_of_pipeline AND v.dataset = name_of_dataset
          AND v.first_id <= e.last_id AND v.last_id >= e.first_id AND v.checked_at <= at
        RETURNING v.first_id, v.last_id, v.ids, v.checked_at, v.chunk_id
    ), source AS (
        SELECT 1 AS rank, f.first_id, f.last_id, f.ids, f.checked_at, f.chunk_id FROM fresh AS f
        UNION ALL SELECT 0, o.first_id, o.last_id, o.ids, o.checked_at, o.chunk_id FROM older AS o
    ), bound AS (
        -- Where ranges begin and end. Ranges of one rank do not overlap, so the one that is open at a bound is the one
        -- that began last.
        SELECT s.rank, s.first_id - 1 AS after_id, 1 AS opened, s.first_id AS began FROM source AS s
        UNION ALL SELECT s.rank, s.last_id, -1, NULL FROM source AS s
        UNION ALL SELECT 2, n.first_id - 1, 1, n.first_id FROM newer AS n
        UNION ALL SELECT 2, n.last_id, -1, NULL FROM newer AS n
    ), step AS (
        SELECT b.after_id, lead(b.after_id) OVER w AS through_id,
               CASE WHEN sum(b.opened) FILTER (WHERE b.rank = 2) OVER w > 0 THEN 2
                    WHEN sum(b.opened) FILTER (WHERE b.rank = 1) OVER w > 0 THEN 1
                    WHEN sum(b.opened) FILTER (WHERE b.rank = 0) OVER w > 0 THEN 0 END AS rank,
               max(b.began) FILTER (WHERE b.rank = 1) OVER w AS fresh_began,
               max(b.began) FILTER (WHERE b.rank = 0) OVER w AS old_began
        FROM bound AS b WINDOW w AS (ORDER BY b.after_id)
    ), owned AS (
        SELECT s.after_id, s.through_id, s.rank,
               CASE s.rank WHEN 1 THEN s.fresh_began WHEN 0 THEN s.old_began END AS began
        FROM step AS s WHERE s.through_id > s.after_id
    ), marked AS (
        SELECT o.*, (o.rank, o.began) IS DISTINCT FROM (lag(o.rank) OVER w, lag(o.began) OVER w) AS is_first
        FROM owned AS o WINDOW w AS (ORDER BY o.after_id)
    ), numbered AS (
        SELECT m.*, count(*) FILTER (WHERE m.is_first) OVER (ORDER BY m.after_id) AS piece FROM marked AS m
    ), piece AS (
        SELECT n.rank, n.began, min(n.after_id) + 1 AS first_id, max(n.through_id) AS last_id
        FROM numbered AS n WHERE n.rank < 2 GROUP BY n.piece, n.rank, n.began
    )
    INSERT INTO lethe.coverage (pipeline, dataset, first_id, last_id, ids, checked_at, chunk_id)
    SELECT name_of_pipeline, name_of_dataset, p.first_id, p.last_id,
           CASE WHEN (p.first_id, p.last_id) = (s.first_id, s.last_id) THEN s.ids
                WHEN p.first_id = p.last_id THEN 1 END,
           s.checked_at, s.chunk_id
    FROM piece AS p JOIN source AS s ON s.rank = p.rank AND s.first_id = p.began
$$;

-- Ranges of earlier versions, the older ones first.
DO $$
DECLARE
    range lethe.coverage;
BEGIN
    IF EXISTS (SELECT FROM (SELECT first_id, max(last_id) OVER (
                                PARTITION BY pipeline, dataset ORDER BY first_id
                                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS through_id
                            FROM lethe.coverage) AS v WHERE v.first_id <= v.through_id) THEN
        CREATE TEMPORARY TABLE lethe_overlapping ON COMMIT DROP AS TABLE lethe.coverage;
        DELETE FROM lethe.coverage;
        FOR range IN SELECT * FROM lethe_overlapping ORDER BY checked_at, chunk_id, first_id LOOP
            PERFORM lethe.cover(range.pipeline, range.dataset, range.chunk_id, range.checked_at,
                                ARRAY[range.first_id], ARRAY[range.last_id], ARRAY[range.ids]);
        END LOOP;
    END IF;
END
$$;

-- migrate:down
DROP FUNCTION lethe.cover(text, text, bigint, timestamptz, bigint[], bigint[], bigint[]);
UPDATE lethe.coverage AS v SET ids = least(v.last_id - v.first_id + 1, c.ids)
FROM lethe.chunk AS c WHERE c.chunk_id = v.chunk_id AND v.ids IS NULL;
ALTER TABLE lethe.coverage ALTER COLUMN ids SET NOT NULL;
