-- The state before the run, as a table for the report.
SELECT '', 'users', 'posts', 'of these located', 'media', 'reposts';
SELECT
    'in the warehouse',
    (SELECT count(*) FROM warehouse.users),
    (SELECT count(*) FROM warehouse.posts),
    (SELECT count(*) FROM warehouse.posts WHERE place_id IS NOT NULL),
    (SELECT count(*) FROM warehouse.post_media),
    (SELECT count(*) FROM warehouse.reposts);
SELECT
    'on the platform',
    (SELECT count(*) FROM truth.accounts),
    (SELECT count(*) FROM truth.posts),
    '', '', '';
