-- Fills the platform: the accounts and posts that it knows, and their changes since they were stored in the warehouse.
\set ON_ERROR_STOP on

-- All changes are within half a year after the last post, and not in the future.
SELECT greatest(interval '0', least(interval '180 days', date_trunc('day', now()) - :'last_post'::timestamptz)) AS meanwhile \gset

-- One account of fifty changed: of 250, two are protected and one each suspended, deactivated and deleted.
INSERT INTO platform.accounts (account_id, username, created_at, state, state_changed_at)
SELECT
    account_id, username, created_at, state,
    CASE WHEN state <> 'active' THEN :'last_post'::timestamptz + pg_temp.chance(account_id, 'changed') * interval :'meanwhile' END
FROM (
    SELECT *, (CASE row_number() OVER (ORDER BY pg_temp.hash(account_id, 'state'), account_id) % 250
        WHEN 1 THEN 'protected' WHEN 2 THEN 'suspended' WHEN 3 THEN 'deactivated' WHEN 4 THEN 'deleted' WHEN 5 THEN 'protected'
        ELSE 'active' END)::platform.account_state AS state
    FROM accounts
    WHERE known
) AS changing
ORDER BY account_id;

-- One of 120 posts is deleted and one of 500 is edited. One of six posts with a location has lost it; one of ten of those was
-- edited, too. A few posts without a location in the warehouse are reported, too.
INSERT INTO platform.posts (post_id, author_id, created_at, deleted_at, edited_at, geo_removed_at)
SELECT
    post_id, author_id, created_at,
    CASE WHEN pg_temp.chance(post_id, 'deleted') < 1 / 120.0 THEN later END,
    CASE WHEN pg_temp.chance(post_id, 'edited') < CASE WHEN geo_removed THEN 0.1 ELSE 0.002 END THEN created_at + interval '20 minutes' END,
    CASE WHEN geo_removed THEN later END
FROM (
    SELECT *,
        pg_temp.chance(post_id, 'geo') < CASE WHEN located THEN 1 / 6.0 ELSE 0.0002 END AS geo_removed,
        :'last_post'::timestamptz + pg_temp.chance(post_id, 'changed') * interval :'meanwhile' AS later
    FROM posts
    WHERE known
) AS changing
ORDER BY post_id;
