-- Fills the warehouse: the stored accounts and posts, in their state before the platform's changes.
\set ON_ERROR_STOP on

CREATE FUNCTION pg_temp.text_of(post_id bigint) RETURNS text IMMUTABLE LANGUAGE sql
RETURN
    pg_temp.pick(post_id, 'opening', ARRAY[
        'This morning', 'Just now on the train:', 'Unpopular opinion:', 'Reminder to self:', 'So,', 'Honestly,', 'A thread nobody asked for:',
        'Three years ago today', 'My neighbour says', 'Update from the garden:', 'Guess what,', 'Somewhere between two meetings', 'Grüße aus dem Zug:',
        'Café notes:', 'At the station in 東京', 'For the record:'])
    || ' ' || pg_temp.pick(post_id, 'matter', ARRAY[
        'the kettle is the most reliable machine in this house', 'the last bus left exactly one minute early, again',
        'a heron stood on the roof of the library and nobody looked up', 'I finally read the manual, and the answer was on page two',
        'they repaired the bridge, and the river seems pleased about it', 'half of the tomatoes are ripe and the other half are philosophers',
        'the bakery on the corner has started to sell out before eight', 'we walked all the way to the lighthouse and back before the rain',
        'the choir rehearsed the quiet part until even the radiators joined in', 'someone left a very good book on bench number nine',
        'my bicycle makes a new noise, which is at least a change', 'the map was right and I was wrong, and I want that noted',
        'the museum is open late on Thursdays, go and see the clocks', 'a cup of tea went cold while two people explained queues to each other',
        'the meeting could have been a postcard', 'the night sky over the allotments was worth every mosquito'])
    || CASE WHEN pg_temp.chance(post_id, 'length') < 0.55 THEN '. ' || pg_temp.pick(post_id, 'addition', ARRAY[
        'I have no further questions.', 'More on this when the paint has dried.', 'Ask me again in the spring, when the ferry runs and the evenings are long.',
        'If you know, you know; if you do not, come by for soup.', 'Recommended for everybody with patience and dry socks.',
        'The photographs do not do it justice, and neither does this sentence, but here we are.', 'Thank you to everyone who helped to carry the piano.',
        'It is the small things, and occasionally the very large ones.']) ELSE '' END
    || CASE WHEN pg_temp.chance(post_id, 'length') < 0.2 THEN ' ' || pg_temp.pick(post_id, 'ending', ARRAY[
        'Would do it again tomorrow, with a better hat and a longer rope.', 'Full story over dinner, if the dinner is good.', '#slowmorning #smalltown',
        '🙂', 'What is yours?', '#nofilter', '(Second attempt; the first one had a typing error.)', '👀']) ELSE '' END;

INSERT INTO warehouse.users (user_id, username, display_name, location, visibility, created_at, ingested_at, raw)
SELECT
    account_id, username,
    pg_temp.pick(account_id, 'first name', '{Ada,Bo,Chidi,Dana,Emre,Fatou,Gil,Hana,Inês,Jun,Kofi,Lía,Mika,Noor,Olu,Priya,Quin,Rosa,Søren,Tariq,Uma,Vera,Wen,Yara,Zoë}')
        || ' ' || pg_temp.pick(account_id, 'last name', '{Abara,Berg,Costa,Diaz,Eriksen,Fischer,Garcia,Haddad,Ito,Jansen,Kim,Lopez,Mbeki,Novak,Okafor,Petrov,Rossi,Sato,Tanaka,Weber}'),
    CASE WHEN pg_temp.chance(account_id, 'tells') < 0.3 THEN
        pg_temp.pick(account_id, 'place', '{Accra,Bergen,Córdoba,Dakar,Essen,Fukuoka,Galway,Hanoi,Izmir,Jaipur,Kraków,Lima,Malmö,Nairobi,Oslo,Porto}') END,
    -- A few were hidden by hand. Lethe must not show them again.
    CASE WHEN pg_temp.chance(account_id, 'hidden') < 0.001 THEN 'protected' ELSE 'public' END,
    created_at,
    :'last_post'::timestamptz,
    jsonb_build_object(
        'id', account_id::text,
        'verified', pg_temp.chance(account_id, 'verified') < 0.01,
        'public_metrics', jsonb_build_object('followers_count', (10 / (0.0001 + pg_temp.chance(account_id, 'followers')))::int))
FROM accounts
WHERE stored
ORDER BY account_id;

INSERT INTO warehouse.posts (post_id, author_id, text, latitude, longitude, place_id, visibility, created_at, ingested_at, raw)
SELECT
    post_id, author_id, pg_temp.text_of(post_id), latitude, longitude, place_id,
    CASE WHEN pg_temp.chance(post_id, 'hidden') < 0.0002 THEN 'protected' ELSE 'public' END,
    created_at,
    created_at + pg_temp.chance(post_id, 'ingested') * interval '2 days',
    jsonb_build_object(
        'id', post_id::text,
        'lang', 'en',
        'public_metrics', jsonb_build_object('like_count', (1 / (0.002 + pg_temp.chance(post_id, 'likes')))::int))
        || CASE WHEN located THEN jsonb_build_object('geo', jsonb_strip_nulls(jsonb_build_object(
            'place_id', place_id,
            'coordinates', CASE WHEN exact THEN
                jsonb_build_object('type', 'Point', 'coordinates', jsonb_build_array(longitude, latitude)) END)))
            ELSE '{}' END
FROM
    posts,
    -- Two of three posts with a location have exact coordinates; the others only have a place.
    LATERAL (SELECT located AND pg_temp.chance(post_id, 'exact') < 0.67 AS exact) AS told,
    LATERAL (SELECT
        CASE WHEN located THEN to_hex(pg_temp.hash(pg_temp.hash(post_id, 'place') % 500, 'name of the place')) END AS place_id,
        CASE WHEN exact THEN round((pg_temp.chance(post_id, 'latitude') * 120 - 50)::numeric, 6)::double precision END AS latitude,
        CASE WHEN exact THEN round((pg_temp.chance(post_id, 'longitude') * 360 - 180)::numeric, 6)::double precision END AS longitude) AS place
WHERE stored
ORDER BY post_id;

-- About one of seven posts has media, up to four.
INSERT INTO warehouse.post_media (post_id, media_key, url)
SELECT post_id, media_key, 'https://media.example/' || media_key || '.jpg'
FROM
    posts,
    LATERAL (SELECT pg_temp.chance(post_id, 'media') AS chance) AS has,
    generate_series(1, CASE WHEN chance < 0.005 THEN 4 WHEN chance < 0.02 THEN 2 WHEN chance < 0.15 THEN 1 ELSE 0 END) AS item,
    LATERAL (SELECT '3_' || post_id + item AS media_key) AS named
WHERE stored
ORDER BY post_id, item;

-- One repost for each twenty posts, mostly of a few popular posts.
INSERT INTO warehouse.reposts (repost_id, reposted_post_id, author_id, text, created_at)
SELECT repost_id, r.post_id, a.account_id, 'RT @' || r.username || ': ' || pg_temp.text_of(r.post_id), pg_temp.moment_of(repost_id)
FROM (SELECT count(*) AS total FROM accounts) AS world
CROSS JOIN (
    SELECT
        post_id, username,
        -- Unique numbers give unique IDs.
        pg_temp.id_at(created_at + pg_temp.chance(post_id + copy, 'later') * interval '3 days', row_number() OVER (ORDER BY post_id, copy)) AS repost_id
    FROM
        posts,
        LATERAL (SELECT pg_temp.chance(post_id, 'reposted') AS chance) AS popular,
        generate_series(1, CASE WHEN chance < 0.001 THEN 10 WHEN chance < 0.011 THEN 2 WHEN chance < 0.031 THEN 1 ELSE 0 END) AS copy
) AS r
JOIN accounts AS a ON a.rank = floor(total * pg_temp.chance(repost_id, 'reposter'))::bigint
ORDER BY repost_id;
