-- What lethe says that it did, as a table for people.
\ir said.sql
SELECT '', 'deleted', 'protected', 'location removed';
SELECT name, deleted, protected, scrubbed FROM said;
