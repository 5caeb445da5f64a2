-- The tables for which lethe reports other changes than expected; no line if all are right.
\ir said.sql
SELECT said.*, 'and not', due.*
FROM said JOIN expected.changes AS due USING (name)
WHERE
    said.deleted <> due.deleted
    OR said.protected NOT BETWEEN due.protected AND due.protected + due.first_protected
    OR said.scrubbed <> due.scrubbed
    OR said.otherwise <> 0;
