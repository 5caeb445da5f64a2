-- The time of each stage, as a table for the report. The variable run has the final JSON of the run.
SELECT 'dataset', 'IDs', 'events', 'jobs', 'export', 'submit', 'await', 'collect', 'apply';
SELECT
    key, value ->> 'ids', value ->> 'events', value ->> 'jobs',
    second ->> 'export', second ->> 'submit', second ->> 'await', second ->> 'collect', second ->> 'apply'
FROM
    jsonb_each(:'run'::jsonb -> 'datasets'),
    LATERAL (SELECT jsonb_object_agg(key, to_char(value::double precision, 'FM9999990.0')) FROM jsonb_each_text(value -> 'seconds')) AS stages (second)
ORDER BY (value ->> 'ids')::bigint DESC;
