-- That a run was given up is a column of its own. Until now a sentence in its failure said so.
-- migrate:up
ALTER TABLE lethe.run
    -- Whether somebody has given the run up. It stays so if a chunk of it is taken on again.
    ADD is_given_up boolean NOT NULL DEFAULT false;
UPDATE lethe.run SET is_given_up = true WHERE failure = 'given up by the operator';

INSERT INTO lethe.version (version) VALUES ('20261127003900');

-- migrate:down
-- The sentence is still there.
ALTER TABLE lethe.run DROP is_given_up;
DELETE FROM lethe.version WHERE version = '20261127003900';
