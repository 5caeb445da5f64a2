-- The changes that lethe reports, as a table for the report.
\ir said.sql
SELECT '', 'deleted', 'protected', 'location removed';
SELECT name, deleted, protected, scrubbed FROM said;
