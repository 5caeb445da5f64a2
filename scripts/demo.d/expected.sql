-- Computes the expected warehouse after the run: a copy of the old state, changed by the platform's state with plain
-- statements, without Lethe. The platform's state is in the tables truth.accounts and truth.posts.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET work_mem = '256MB';

CREATE SCHEMA expected;
CREATE UNLOGGED TABLE expected.users AS TABLE warehouse.users;
CREATE UNLOGGED TABLE expected.posts AS TABLE warehouse.posts;
CREATE UNLOGGED TABLE expected.post_media AS TABLE warehouse.post_media;
CREATE UNLOGGED TABLE expected.reposts AS TABLE warehouse.reposts;

-- The reason with the highest precedence for each stored post and user. IDs without a row are clean.
CREATE UNLOGGED TABLE expected.post_answers AS
SELECT post_id, reason
FROM
    warehouse.posts AS stored
    JOIN truth.posts AS known USING (post_id)
    JOIN truth.accounts AS author ON author.account_id = known.author_id,
    LATERAL (SELECT CASE
        WHEN known.deleted THEN 'deleted'
        WHEN author.state <> 'active' THEN author.state
        WHEN known.edited THEN 'edited'
        WHEN known.geo_removed THEN 'geo removed' END AS reason) AS answer
WHERE reason IS NOT NULL;

CREATE UNLOGGED TABLE expected.user_answers AS
SELECT user_id, state AS reason
FROM warehouse.users JOIN truth.accounts ON account_id = user_id
WHERE state <> 'active';

-- Deleted posts: because of their own answer or because of their author's.
CREATE UNLOGGED TABLE expected.gone_users AS
SELECT user_id FROM expected.user_answers WHERE reason IN ('deleted', 'suspended', 'deactivated');

CREATE UNLOGGED TABLE expected.gone_posts AS
SELECT post_id FROM expected.post_answers WHERE reason IN ('deleted', 'suspended', 'deactivated')
UNION
SELECT post_id FROM warehouse.posts JOIN expected.gone_users ON user_id = author_id;

DELETE FROM expected.reposts USING expected.gone_posts WHERE post_id = reposted_post_id;
DELETE FROM expected.reposts USING expected.gone_users WHERE user_id = author_id;
DELETE FROM expected.post_media AS media USING expected.gone_posts AS gone WHERE gone.post_id = media.post_id;
DELETE FROM expected.posts AS post USING expected.gone_posts AS gone WHERE gone.post_id = post.post_id;
DELETE FROM expected.users AS account USING expected.gone_users AS gone WHERE gone.user_id = account.user_id;

-- Hidden posts and users, in the same way.
UPDATE expected.posts AS post SET visibility = 'protected'
FROM expected.post_answers AS answer WHERE answer.post_id = post.post_id AND reason = 'protected';
UPDATE expected.posts SET visibility = 'protected'
FROM expected.user_answers WHERE user_id = author_id AND reason = 'protected';
UPDATE expected.users AS account SET visibility = 'protected'
FROM expected.user_answers AS answer WHERE answer.user_id = account.user_id AND reason = 'protected';

-- Posts that lose their location.
UPDATE expected.posts AS post SET latitude = NULL, longitude = NULL, place_id = NULL
FROM expected.post_answers AS answer WHERE answer.post_id = post.post_id AND reason = 'geo removed';

-- The tombstones of deleted rows, with all valid reasons: if a post was deleted because of its author first, its tombstone
-- has the author's reason.
CREATE UNLOGGED TABLE expected.tombstone_reasons AS
SELECT 'tweets' AS type, post_id AS id, reason FROM expected.post_answers JOIN expected.gone_posts USING (post_id)
WHERE reason IN ('deleted', 'suspended', 'deactivated')
UNION
SELECT 'tweets', post_id, reason FROM warehouse.posts JOIN expected.user_answers ON user_id = author_id
WHERE reason IN ('deleted', 'suspended', 'deactivated')
UNION
SELECT 'users', user_id, reason FROM expected.user_answers JOIN expected.gone_users USING (user_id);

INSERT INTO expected.tombstone_reasons
SELECT 'tweets', repost_id, reason FROM warehouse.reposts JOIN expected.tombstone_reasons ON type = 'tweets' AND id = reposted_post_id
UNION
SELECT 'tweets', repost_id, reason FROM warehouse.reposts JOIN expected.tombstone_reasons ON type = 'users' AND id = author_id;

CREATE UNLOGGED TABLE expected.tombstone AS
SELECT DISTINCT type, id, true AS reason_is_true FROM expected.tombstone_reasons;

-- The posts to fetch again.
CREATE UNLOGGED TABLE expected.rehydration AS
SELECT 'tweets' AS type, post_id AS id FROM expected.post_answers WHERE reason = 'edited';

CREATE UNIQUE INDEX ON expected.users (user_id);
CREATE UNIQUE INDEX ON expected.posts (post_id);
CREATE UNIQUE INDEX ON expected.post_media (post_id, media_key);
CREATE UNIQUE INDEX ON expected.reposts (repost_id);
ANALYZE expected.users, expected.posts, expected.post_media, expected.reposts;

-- The number of changed rows of each table. A deleted post with a protected author may be protected first, if the author's
-- answer is applied first.
CREATE TABLE expected.changes AS
SELECT
    'warehouse.users' AS name,
    count(*) FILTER (WHERE e.user_id IS NULL) AS deleted,
    count(*) FILTER (WHERE e.visibility <> w.visibility) AS protected,
    0 AS first_protected,
    0 AS scrubbed
FROM warehouse.users AS w LEFT JOIN expected.users AS e USING (user_id)
UNION ALL
SELECT
    'warehouse.posts',
    count(*) FILTER (WHERE e.post_id IS NULL),
    count(*) FILTER (WHERE e.visibility <> w.visibility),
    count(*) FILTER (WHERE e.post_id IS NULL AND w.visibility = 'public' AND author.reason = 'protected'),
    count(*) FILTER (WHERE e.post_id IS NOT NULL
        AND (e.latitude, e.longitude, e.place_id) IS DISTINCT FROM (w.latitude, w.longitude, w.place_id))
FROM
    warehouse.posts AS w
    LEFT JOIN expected.posts AS e USING (post_id)
    LEFT JOIN expected.user_answers AS author ON author.user_id = w.author_id
UNION ALL
SELECT 'warehouse.post_media', (SELECT count(*) FROM warehouse.post_media) - (SELECT count(*) FROM expected.post_media), 0, 0, 0
UNION ALL
SELECT 'warehouse.reposts', (SELECT count(*) FROM warehouse.reposts) - (SELECT count(*) FROM expected.reposts), 0, 0, 0;
