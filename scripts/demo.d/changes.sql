-- What lethe says that it did, as a table for people: rows changed by all datasets together. Takes the JSON that the run
-- ended with in the variable run.
CREATE TEMP TABLE changes AS
SELECT t.key AS name, a.key AS action, sum(a.value::bigint) AS rows
FROM
    jsonb_each(:'run'::jsonb -> 'datasets') AS dataset,
    jsonb_each(dataset.value -> 'rows') AS t,
    jsonb_each_text(t.value) AS a
GROUP BY name, action;

SELECT 'rows', 'deleted', 'protected', 'location removed';
SELECT
    name,
    coalesce(sum(rows) FILTER (WHERE action = 'delete'), 0),
    coalesce(sum(rows) FILTER (WHERE action = 'protect'), 0),
    coalesce(sum(rows) FILTER (WHERE action = 'scrub_geo'), 0)
FROM unnest(ARRAY['warehouse.users', 'warehouse.posts', 'warehouse.post_media', 'warehouse.reposts']) WITH ORDINALITY AS t (name, place)
LEFT JOIN changes USING (name)
GROUP BY name, place
ORDER BY place;
