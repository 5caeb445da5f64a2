-- What PostgreSQL itself knows the columns by that holds speak of, so that another name of a column or of a table
-- loses no hold.
-- migrate:up
CREATE TABLE lethe.held_column (
    -- As in lethe.hold.
    table_name  text NOT NULL,
    column_name text NOT NULL,
    -- pg_attribute's attrelid and attnum, in this cluster; that is NULL where it is not known.
    relation    oid NOT NULL,
    attribute   smallint NOT NULL,
    cluster     bigint,
    PRIMARY KEY (table_name, column_name)
);

ALTER TABLE lethe.closed_hold DROP CONSTRAINT closed_hold_outcome_check;
ALTER TABLE lethe.closed_hold ADD CONSTRAINT closed_hold_outcome_check CHECK (outcome IN (
    'restored', 'deleted', 'gone', 'changed', 'kept', 'erased', 'forgotten',
    -- Every column that was held was dropped.
    'dropped'));

INSERT INTO lethe.version (version) VALUES ('20261126093000');

-- migrate:down
UPDATE lethe.closed_hold SET outcome = 'forgotten' WHERE outcome = 'dropped';
ALTER TABLE lethe.closed_hold DROP CONSTRAINT closed_hold_outcome_check;
ALTER TABLE lethe.closed_hold ADD CONSTRAINT closed_hold_outcome_check CHECK (outcome IN (
    'restored', 'deleted', 'gone', 'changed', 'kept', 'erased', 'forgotten'));
DROP TABLE lethe.held_column;
DELETE FROM lethe.version WHERE version = '20261126093000';
