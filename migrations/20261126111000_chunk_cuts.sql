-- A chunk that the API's host finds too large is cut in two.
-- migrate:up
ALTER TABLE lethe.chunk
    -- How often the chunk, or the one that it was a part of, was cut.
    ADD cuts smallint NOT NULL DEFAULT 0 CHECK (cuts >= 0),
    -- Jobs that it had before its file became what it is: they do not count against api.job_attempts.
    ADD attempts_before integer NOT NULL DEFAULT 0 CHECK (attempts_before >= 0);

INSERT INTO lethe.version (version) VALUES ('20261126111000');

-- migrate:down
ALTER TABLE lethe.chunk DROP cuts, DROP attempts_before;
DELETE FROM lethe.version WHERE version = '20261126111000';
