-- migrate:up

-- Rows of a dataset whose ID cannot be asked about, counted before its first chunk.
ALTER TABLE lethe.export
    -- Cause to number of rows; NULL where nobody has counted.
    ADD COLUMN left_out jsonb CHECK (jsonb_typeof(left_out) = 'object'),
    -- All of the dataset's rows; 0 where none is left out.
    ADD COLUMN rows_of_dataset bigint CHECK (rows_of_dataset >= 0),
    -- Whether a limit keeps the dataset from being exported.
    ADD COLUMN is_stopped boolean NOT NULL DEFAULT false CHECK (NOT is_stopped OR failure IS NOT NULL);

-- migrate:down

ALTER TABLE lethe.export DROP COLUMN left_out, DROP COLUMN rows_of_dataset, DROP COLUMN is_stopped;
