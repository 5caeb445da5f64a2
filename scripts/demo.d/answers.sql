-- The platform's answers for the stored IDs, as a table for the report.
SELECT '', 'users', 'posts';
SELECT reason, coalesce(users, 0), coalesce(posts, 0)
FROM
    unnest(ARRAY['deleted', 'suspended', 'deactivated', 'protected', 'edited', 'geo removed']) WITH ORDINALITY AS reasons (reason, place)
    LEFT JOIN (SELECT reason, count(*) AS users FROM expected.user_answers GROUP BY reason) AS u USING (reason)
    LEFT JOIN (SELECT reason, count(*) AS posts FROM expected.post_answers GROUP BY reason) AS p USING (reason)
ORDER BY place;
SELECT
    'nothing: clean',
    (SELECT count(*) FROM warehouse.users) - (SELECT count(*) FROM expected.user_answers),
    (SELECT count(*) FROM warehouse.posts) - (SELECT count(*) FROM expected.post_answers);
