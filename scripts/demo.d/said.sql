-- Writes the changes that lethe reports into the temporary table said: changed rows of each table, for all datasets
-- together. The variable run has the final JSON of the run.
\set ON_ERROR_STOP on

CREATE TEMP TABLE said AS
SELECT
    name,
    coalesce(sum(rows::bigint) FILTER (WHERE action = 'delete'), 0) AS deleted,
    coalesce(sum(rows::bigint) FILTER (WHERE action = 'protect'), 0) AS protected,
    coalesce(sum(rows::bigint) FILTER (WHERE action = 'scrub_geo'), 0) AS scrubbed,
    coalesce(sum(rows::bigint) FILTER (WHERE action NOT IN ('delete', 'protect', 'scrub_geo')), 0) AS otherwise
FROM
    unnest(ARRAY['warehouse.users', 'warehouse.posts', 'warehouse.post_media', 'warehouse.reposts'])
        WITH ORDINALITY AS tables (name, place)
    LEFT JOIN (
        SELECT changed.key, actions.key, actions.value
        FROM
            jsonb_each(:'run'::jsonb -> 'datasets') AS dataset,
            jsonb_each(dataset.value -> 'rows') AS changed,
            jsonb_each_text(changed.value) AS actions
    ) AS changes (name, action, rows) USING (name)
GROUP BY name, place
ORDER BY place;
