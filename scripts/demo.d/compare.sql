-- Compares the found rows with the expected rows, whole rows in both directions: for each table, a line with the numbers of
-- expected, found, missing, surplus and different rows.
\set ON_ERROR_STOP on
SET work_mem = '256MB';

CREATE TEMP VIEW tombstones AS
SELECT t.type::text, t.id, r.reason IS NOT NULL AS reason_is_true
FROM lethe.tombstone AS t
LEFT JOIN expected.tombstone_reasons AS r ON (r.type, r.id, r.reason) = (t.type::text, t.id, t.reason::text);

SELECT format(
    'SELECT %L, count(e.*), count(f.*), '
    'count(*) FILTER (WHERE f.* IS NOT DISTINCT FROM NULL), '
    'count(*) FILTER (WHERE e.* IS NOT DISTINCT FROM NULL), '
    'count(*) FILTER (WHERE e.* IS DISTINCT FROM NULL AND f.* IS DISTINCT FROM NULL AND e.* IS DISTINCT FROM f.*) '
    'FROM expected.%I AS e FULL JOIN %s AS f USING (%s)',
    found, expected, contents, key)
FROM (VALUES
    ('warehouse.users', 'users', 'warehouse.users', 'user_id'),
    ('warehouse.posts', 'posts', 'warehouse.posts', 'post_id'),
    ('warehouse.post_media', 'post_media', 'warehouse.post_media', 'post_id, media_key'),
    ('warehouse.reposts', 'reposts', 'warehouse.reposts', 'repost_id'),
    ('lethe.tombstone', 'tombstone', 'pg_temp.tombstones', 'type, id'),
    ('lethe.rehydration', 'rehydration', '(SELECT type::text, id FROM lethe.rehydration)', 'type, id')
) AS pairs (found, expected, contents, key)
\gexec
