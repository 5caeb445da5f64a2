-- Which migrations a ledger has, for the programs that work with it: the table of the migrations themselves may be
-- out of their sight, and may have other programs' versions in it.
-- migrate:up
-- From here on, each migration of the ledger adds its own version. A program that does not know one of them leaves
-- the ledger alone.
CREATE TABLE lethe.version (
    version    text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO lethe.version (version) VALUES ('20261126092000');

-- migrate:down
DROP TABLE lethe.version;
