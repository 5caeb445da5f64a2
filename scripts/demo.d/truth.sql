-- Run this in the platform's database. It writes a script that creates the platform's state as the tables truth.accounts and
-- truth.posts in another database.
\set ON_ERROR_STOP on
\qecho '\\set ON_ERROR_STOP on'
\qecho 'CREATE SCHEMA truth;'

\qecho 'CREATE UNLOGGED TABLE truth.accounts (account_id bigint, state text);'
\qecho 'COPY truth.accounts FROM STDIN;'
COPY (SELECT account_id, state FROM platform.accounts) TO STDOUT;
\qecho '\\.'

\qecho 'CREATE UNLOGGED TABLE truth.posts (post_id bigint, author_id bigint, deleted boolean, edited boolean, geo_removed boolean);'
\qecho 'COPY truth.posts FROM STDIN;'
COPY (
    SELECT post_id, author_id, deleted_at IS NOT NULL, edited_at IS NOT NULL, geo_removed_at IS NOT NULL
    FROM platform.posts
) TO STDOUT;
\qecho '\\.'

\qecho 'ANALYZE truth.accounts, truth.posts;'
