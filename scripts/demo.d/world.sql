-- Generates the demo's data: accounts and posts, and for each whether the warehouse stores it and whether the platform knows
-- it. Warehouse and platform are filled by two sessions, and both run this file first. Every choice is a hash of an ID, so
-- both sessions, and later demos, generate the same data.
--
-- Uses the variables users and posts. With the variable given, the post IDs come from standard input, one on each line.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET timezone = 'UTC';
SET synchronous_commit = off;
SET work_mem = '256MB';

-- A number from 0 to 2^62: a hash of the id and the question.
CREATE FUNCTION pg_temp.hash(id bigint, question text) RETURNS bigint IMMUTABLE LANGUAGE sql
    RETURN hashint8extended(id, hashtext(question)) & 4611686018427387903;

-- A number from 0 to 1, in the same way.
CREATE FUNCTION pg_temp.chance(id bigint, question text) RETURNS double precision IMMUTABLE LANGUAGE sql
    RETURN (hashint8extended(id, hashtext(question)) & 4294967295) / 4294967296.0::double precision;

-- One of the choices, in the same way.
CREATE FUNCTION pg_temp.pick(id bigint, question text, choices text[]) RETURNS text IMMUTABLE LANGUAGE sql
    RETURN choices[1 + (hashint8extended(id, hashtext(question)) & 4294967295) % cardinality(choices)];

-- An ID contains the millisecond of its creation, counted from 2010-11-04, above 22 bits for machine and sequence.
CREATE FUNCTION pg_temp.id_at(moment timestamptz, low bigint) RETURNS bigint IMMUTABLE LANGUAGE sql
    RETURN ((extract(epoch FROM moment) * 1000)::bigint - 1288834974657) << 22 | (low & 4194303);

CREATE FUNCTION pg_temp.moment_of(id bigint) RETURNS timestamptz IMMUTABLE LANGUAGE sql
    RETURN to_timestamp(((id >> 22) + 1288834974657) / 1000.0::double precision);

-- The post IDs.
CREATE TEMP TABLE ids (post_id bigint PRIMARY KEY, stored boolean NOT NULL DEFAULT true, known boolean NOT NULL DEFAULT true);
\if :{?given}
\copy ids (post_id) FROM pstdin
\else
-- Four years, with one equal slot for each post. One of eleven posts is not in the warehouse; one of two hundred is in the
-- warehouse but no longer on the platform.
INSERT INTO ids
SELECT
    pg_temp.id_at(
        timestamptz '2021-01-01 00:00Z' + (slot + pg_temp.chance(slot, 'moment')) / (:posts * 11 / 10) * interval '35064 hours',
        pg_temp.hash(slot, 'machine')),
    slot % 11 <> 10,
    slot % 11 = 10 OR pg_temp.chance(slot, 'gone') >= 0.005
FROM generate_series(0, :posts::bigint * 11 / 10 - 1) AS slot;
\endif
ANALYZE ids;

SELECT pg_temp.moment_of(min(post_id)) AS first_post, pg_temp.moment_of(max(post_id)) AS last_post FROM ids \gset

-- Every account is older than the first post. If the posts are recent, half of the accounts have long IDs; all others have the
-- short IDs of the years up to 2010. One of eleven is not in the warehouse.
CREATE TEMP TABLE accounts AS
SELECT
    rank, account_id,
    CASE WHEN recent THEN pg_temp.moment_of(account_id)
        ELSE date_trunc('second', timestamptz '2006-07-13 00:00Z' + account_id / 200000000.0 * interval '1570 days') END AS created_at,
    pg_temp.pick(account_id, 'mood', '{amber,bold,calm,daily,early,fond,grand,happy,idle,keen,late,merry,noble,quiet,rapid,sunny}')
        || '_' || pg_temp.pick(account_id, 'animal', '{badger,crane,dingo,egret,fox,gecko,heron,ibis,jay,koala,lynx,moth,newt,otter,puffin,wren}')
        || rank AS username,
    rank % 11 <> 10 AS stored,
    rank % 11 = 10 OR pg_temp.chance(rank, 'gone') >= 0.002 AS known
FROM
    (SELECT :users::bigint * 11 / 10 AS total) AS world,
    generate_series(0, total - 1) AS rank,
    LATERAL (SELECT rank % 2 = 1 AND :'first_post'::timestamptz > '2017-01-01 00:00Z' AS recent) AS era,
    LATERAL (SELECT CASE
        WHEN recent THEN pg_temp.id_at(
            timestamptz '2016-01-01 00:00Z'
                + (rank + pg_temp.chance(rank, 'moment')) / total * (:'first_post'::timestamptz - timestamptz '2016-01-01 00:00Z'),
            pg_temp.hash(rank, 'machine'))
        ELSE 12 + 200000000 / total * rank + pg_temp.hash(rank, 'number') % (200000000 / total) END AS account_id) AS named;
CREATE UNIQUE INDEX ON accounts (rank);
ANALYZE accounts;

-- A few accounts write most of the posts: an account's share is proportional to 1 / (30 + rank).
CREATE TEMP TABLE posts AS
SELECT
    ids.post_id, a.account_id AS author_id, a.username, pg_temp.moment_of(ids.post_id) AS created_at,
    ids.stored, ids.known AND a.known AS known,
    pg_temp.chance(ids.post_id, 'located') < 0.015 AS located
FROM (SELECT count(*) AS total FROM accounts) AS world
CROSS JOIN ids
JOIN accounts AS a ON a.rank = least(total - 1, floor(30 * power((30.0 + total)::double precision / 30, pg_temp.chance(ids.post_id, 'author')) - 30))::bigint;
ANALYZE posts;
